"""Everything that can go wrong while training, as types that a caller can tell apart.

Every message gives the fact, what was expected, and the way out.
"""


class TrainingError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(TrainingError):
    """A recipe or an option is unknown, out of range, or contradicts another one."""


class DataError(TrainingError):
    """A dataset or an embeddings folder is missing, malformed, or does not fit together."""


class DivergedError(TrainingError):
    """The loss of a fit is no longer a finite number."""


class ExportError(TrainingError):
    """An adapter can't be exported, or its export does not give what the adapter gives."""


class EncoderError(TrainingError):
    """Texts can't be embedded."""


class EndpointError(TrainingError):
    """An LLM endpoint can't be used, or asks to wait longer than a run should."""
