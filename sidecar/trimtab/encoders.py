"""Text to query vector at search time: any callable, or an OpenAI-compatible endpoint."""

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.addresses import without_secrets
from trimtab.errors import (
    ConfigError,
    DeadlineError,
    MissingExtraError,
    QueryError,
    UnavailableError,
)
from trimtab.retries import PASSING_STATUS, retry_after_s
from trimtab.vectors import to_float32

EmbedTexts = Callable[[Sequence[str]], ArrayLike]
"""Takes texts, gives one embedding a text: shape ``(n, dim)``."""


@dataclass(frozen=True)
class EndpointSettings:
    """Where an OpenAI-compatible ``/v1/embeddings`` endpoint is, and how patient to be.

    Attributes:
        model: Name of the model, as the endpoint knows it.
        base_url: Address up to and including ``/v1``; a user and password in it are sent, and
            never shown.
        api_key: Bearer token, or None for an endpoint without one.
        timeout_s: Longest wait for one answer, in seconds.
        retries: Further tries after a failure that may pass.
        dimensions: Width to ask for, where the model offers several.
    """

    model: str
    base_url: str = field(default="https://api.openai.com/v1", repr=False)
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0
    retries: int = 5
    dimensions: int | None = None


class OpenAIEncoder:
    """Embeddings from any OpenAI-compatible endpoint; safe to use from several threads.

    Needs ``httpx``, which comes with qdrant-client. Pickled, it carries its settings, the key among
    them, and opens connections of its own where it arrives; so does a process that is forked.
    """

    def __init__(
        self,
        settings: EndpointSettings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """Open a connection pool to the endpoint.

        Args:
            settings: Where the endpoint is.
            sleep: Waits the given number of seconds between tries.
            rng: Source of the jitter between tries.

        Raises:
            MissingExtraError: ``httpx`` is not installed.
            ConfigError: The key can't be sent as a header, or the address is no http address.
        """
        self.settings = settings
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._open()

    def _open(self) -> None:
        """Open the connections."""
        try:
            import httpx
        except ImportError as error:
            raise MissingExtraError(
                "an embeddings endpoint needs httpx: pip install httpx"
            ) from error
        settings = self.settings
        shown = without_secrets(settings.base_url)
        try:
            address = httpx.URL(settings.base_url)
        except httpx.InvalidURL as error:
            why = f": {error}" if shown == settings.base_url else ""  # it quotes the address
            raise ConfigError(f"the endpoint's address {shown!r} is malformed{why}") from None
        if not settings.base_url.startswith(("http://", "https://")):
            raise ConfigError(f"the endpoint's address is {shown!r}; expected http:// or https://")
        headers = {}
        if settings.api_key:
            if not settings.api_key.isascii() or not settings.api_key.isprintable():
                raise ConfigError("the API key holds characters that no header may hold; check it")
            headers["Authorization"] = f"Bearer {settings.api_key}"
        self._httpx = httpx
        self._url = f"{str(address.copy_with(userinfo=b'')).rstrip('/')}/embeddings"
        self._shown_url = without_secrets(self._url)
        self._client = httpx.Client(
            headers=headers,
            auth=(address.username, address.password) if address.userinfo else None,
            timeout=settings.timeout_s,
        )
        self._process = os.getpid()  # last: whoever finds its own finds its own connections

    def _connections(self) -> Any:
        """Give the connections; a forked process would read its parent's answers from those."""
        if self._process != os.getpid():
            self._open()
        if self._client.is_closed:
            raise ConfigError("this encoder is closed; make another one")
        return self._client

    def __getstate__(self) -> dict[str, Any]:
        """Travel to another process without the connections."""
        own = {"_httpx", "_url", "_shown_url", "_client", "_process"}
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open connections there."""
        self.__dict__.update(state)
        self._open()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Returns:
            Shape ``(n, dim)``, float32, in the order of the texts.

        Raises:
            ConfigError: The encoder is closed.
            QueryError: A text holds half a surrogate pair.
            UnavailableError: The endpoint refuses, or keeps failing after all retries.
            DeadlineError: The endpoint does not answer in time, after all retries.
        """
        body: dict[str, Any] = {"model": self.settings.model, "input": list(texts)}
        if self.settings.dimensions is not None:
            body["dimensions"] = self.settings.dimensions
        return self._read(self._post(body), len(texts))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        """Give the encoder itself; leaving the block closes it."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the connections."""
        self.close()

    def _post(self, body: dict[str, Any]) -> Any:
        """Send one request, again after a failure that may pass, and give the answer's JSON."""
        for attempt in range(self.settings.retries + 1):
            last = attempt == self.settings.retries
            try:
                response = self._connections().post(self._url, json=body)
            except UnicodeEncodeError as error:
                raise QueryError(
                    "a text holds half a surrogate pair, which no encoding can write; take it out"
                ) from error
            except self._httpx.TimeoutException as error:
                if last:
                    raise DeadlineError(
                        f"{self._shown_url} gave no answer within {self.settings.timeout_s:g} s, "
                        f"{attempt + 1} times; raise the timeout or check the endpoint"
                    ) from error
                self._wait(attempt, None)
                continue
            except self._httpx.RequestError as error:
                if last:
                    raise UnavailableError(f"can't reach {self._shown_url}: {error}") from error
                self._wait(attempt, None)
                continue
            if response.is_success:
                return _as_json(response, self._shown_url)
            if last or response.status_code not in PASSING_STATUS:
                raise UnavailableError(
                    f"{self._shown_url} answered {response.status_code}: {response.text[:200]}"
                )
            self._wait(attempt, retry_after_s(response.headers))
        raise UnavailableError(f"{self._shown_url} was never asked; retries must be 0 or more")

    def _wait(self, attempt: int, delay_s: float | None) -> None:
        """Sleep as long as the endpoint asks, else exponentially longer with jitter."""
        if delay_s is None:
            delay_s = min(60.0, 0.5 * 2.0**attempt) * (0.5 + self._rng.random())
        self._sleep(min(delay_s, 120.0))

    def _read(self, answer: Any, n_texts: int) -> NDArray[np.float32]:
        """Put the answer's embeddings into the order of the texts."""
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            matrix = to_float32([row["embedding"] for row in rows])
            indices = [row["index"] for row in rows]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UnavailableError(
                f"{self._shown_url} answered without usable embeddings; "
                "expected {'data': [{'index': ..., 'embedding': [...]}]}"
            ) from error
        if indices != list(range(n_texts)) or matrix.ndim != 2:
            raise UnavailableError(
                f"{self._shown_url} answered {len(rows)} embeddings for {n_texts} texts"
            )
        return matrix


def _as_json(response: Any, url: str) -> Any:
    """Parse an answer, or say that it is none."""
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise UnavailableError(f"{url} answered something that is not JSON") from error
