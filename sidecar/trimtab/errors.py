"""Everything that can go wrong at run time, as types that a caller can tell apart.

A class stands here only where a caller catches it or answers it differently. Every message
gives the fact, what was expected, and the way out.
"""


class SidecarError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(SidecarError):
    """A setting is missing, unknown or contradicts another one."""


class MissingExtraError(SidecarError, ImportError):
    """An optional package is needed and not installed; the message names the extra."""


class ModelError(SidecarError):
    """A model file can't be used."""


class ManifestError(ModelError):
    """A model file is readable, but what it says about itself is missing or wrong."""


class IntegrityError(ModelError):
    """A model file is damaged, oversized, or holds something that an adapter never needs."""


class QueryError(SidecarError, ValueError):
    """A query vector can't be transformed."""


class DimensionError(QueryError):
    """A query vector has another number of values than the adapter wants."""


class NonFiniteError(QueryError):
    """A query vector holds NaN or infinity."""


class MalformedError(SidecarError):
    """A request can't be read; whom it was meant for should see it as it came."""


class UpstreamError(SidecarError):
    """A service that the runtime depends on gave no usable answer."""


class UnavailableError(UpstreamError):
    """A service could not be reached, or answered with a failure."""


class ForbiddenError(UpstreamError):
    """A service does not answer this caller; another one it may."""


class NoCollectionError(UpstreamError):
    """Qdrant has no collection, and no alias, of a name."""


class DeadlineError(UpstreamError):
    """A service did not answer in time."""


class RefusedError(SidecarError):
    """A policy of the user forbids a request."""


class UnauthenticatedError(SidecarError):
    """A request lacks the key that what it asks for wants."""


class TooLargeError(SidecarError):
    """A request is larger than a limit allows."""


class WorkerEndedError(SidecarError):
    """A worker's process has ended; another one takes its place."""


class WorkerFailedError(SidecarError):
    """A worker could not do what it was asked; its own log says more."""


class OverloadedError(UpstreamError):
    """Every connection that may be opened to a service is in use."""


class BusyError(OverloadedError):
    """So many texts wait to be embedded that no more are taken for now.

    Attributes:
        retry_after_s: Seconds after which it may be otherwise.
    """

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotServedError(SidecarError):
    """Nobody behind the sidecar answers such a request."""
