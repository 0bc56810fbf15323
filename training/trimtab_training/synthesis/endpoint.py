"""One request to an OpenAI-compatible LLM endpoint, until there is an answer or a lasting failure.

What an answer is worth is told apart here: usable, refused, cut off, unreadable, or none. Only
failures that may pass are tried again at once; what was paid for and can't be used is a failure
that the next run tries again.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from trimtab.addresses import without_secrets
from trimtab.retries import PASSING_STATUS, retry_after_s
from trimtab_training.errors import ConfigError, EndpointError
from trimtab_training.synthesis.answers import is_refusal, read_base_answer, read_chat_answer
from trimtab_training.synthesis.pacing import Pacer
from trimtab_training.synthesis.prompts import Api, Request
from trimtab_training.synthesis.store import Answer

_FATAL = frozenset({401, 402, 403, 404, 405})
_LARGEST_ANSWER_BYTES = 4 << 20
_LONGEST_WAIT_S = 300.0
_PATHS = {"chat": "chat/completions", "completions": "completions"}


@dataclass(frozen=True)
class LlmSettings:
    """Where the endpoint is, and how patient to be.

    Attributes:
        base_url: Address up to and including ``/v1``; a user and password in it are sent, and
            never shown.
        api: ``chat`` or ``completions``.
        api_key: Bearer token, or None for an endpoint without one.
        timeout_s: Longest wait for one whole answer, in seconds.
        retries: Further tries after a failure that may pass.
        concurrency: Requests under way at once.
    """

    base_url: str = field(repr=False)
    api: Api = "chat"
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    retries: int = 5
    concurrency: int = 8


@dataclass
class _PassingFailure(Exception):
    """A try that failed in a way that may pass; ``unreached`` where nothing answered."""

    what: str
    wait_s: float | None = None
    unreached: bool = False


class LlmEndpoint:
    """An endpoint and its connections; use it as an async context manager."""

    def __init__(self, settings: LlmSettings, pacer: Pacer | None = None) -> None:
        """Prepare the connections.

        Raises:
            ConfigError: ``httpx`` is missing, or the address or the key can't be used.
        """
        try:
            import httpx
        except ImportError as error:
            raise ConfigError(
                "an LLM endpoint needs httpx: pip install 'trimtab[training]'"
            ) from error
        self._httpx = httpx
        self._settings = settings
        self._pacer = pacer or Pacer()
        self._answered = False
        self._renamed: dict[str, str] = {}
        headers = {"content-type": "application/json"}
        if settings.api_key:
            if not (settings.api_key.isascii() and settings.api_key.isprintable()):
                raise ConfigError(
                    "the endpoint's key holds a line break or another character that no header "
                    "can carry; check its variable"
                )
            headers["authorization"] = f"Bearer {settings.api_key}"
        limits = httpx.Limits(max_connections=settings.concurrency)
        shown = without_secrets(settings.base_url)
        try:
            address = httpx.URL(settings.base_url)
        except httpx.InvalidURL as error:
            why = f": {error}" if shown == settings.base_url else ""  # it quotes the address
            raise ConfigError(f"the endpoint's address {shown!r} is malformed{why}") from None
        if address.scheme not in {"http", "https"} or not address.host:
            raise ConfigError(
                f"the endpoint's address is {shown!r}; expected such as http://localhost:8000/v1"
            )
        base = str(address.copy_with(userinfo=b"")).rstrip("/")
        self._url = f"{base}/{_PATHS[settings.api]}"
        self._shown_url = without_secrets(self._url)
        self._client = httpx.AsyncClient(
            headers=headers,
            auth=(address.username, address.password) if address.userinfo else None,
            timeout=None,  # noqa: S113 - asyncio.timeout bounds the whole answer
            limits=limits,
        )

    async def __aenter__(self) -> Self:
        """Give the endpoint itself."""
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Close the connections."""
        await self._client.aclose()

    def halt(self) -> None:
        """Send nothing more; requests that are under way are still answered."""
        self._pacer.halt()

    async def ask(self, request: Request, n_failed_before: int = 0) -> Answer:
        """Send a request until it is answered or the tries are used up.

        Args:
            request: What to ask.
            n_failed_before: How often earlier runs failed at it; changes the seed.

        Returns:
            The answer, or what became of it in ``failure``.

        Raises:
            EndpointError: Nothing more can come of this endpoint now: the key or the model is
                refused, the account is empty, the limit resets too late, or nobody listens.
            Halted: The run stops before this request was answered.
        """
        body = request.body_of_try(n_failed_before)
        for attempt in range(self._settings.retries + 1):
            await self._pacer.turn()
            try:
                answer = await self._try(request, body)
            except _PassingFailure as failure:
                if attempt == self._settings.retries:
                    return self._give_up(request, failure)
                if failure.wait_s is not None:
                    self._pacer.pause(failure.wait_s)
                else:
                    await self._pacer.back_off(attempt)
            else:
                self._answered = True
                return answer
        raise EndpointError("never asked; --retries must be 0 or more")

    def _give_up(self, request: Request, failure: _PassingFailure) -> Answer:
        """Make the last try's failure an answer, unless the endpoint isn't there at all."""
        if failure.unreached and not self._answered:
            raise EndpointError(f"can't reach {self._shown_url}: {failure.what}; check --base-url")
        return Answer(
            request.key, request.doc_id, request.style, request.variant, failure=failure.what
        )

    async def _try(self, request: Request, body: dict[str, Any]) -> Answer:
        """Send one request once."""
        sent = {self._renamed.get(name, name): value for name, value in body.items()}
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                status, headers, content = await self._post(sent)
        except TimeoutError as error:
            raise _PassingFailure(f"no answer in {self._settings.timeout_s:g} s") from error
        except self._httpx.ConnectError as error:
            raise _PassingFailure(str(error) or "connection refused", unreached=True) from error
        except (self._httpx.RequestError, self._httpx.StreamError) as error:
            raise _PassingFailure(
                f"the connection broke: {error or type(error).__name__}"
            ) from error
        self._pacer.note(headers, request.estimated_tokens + _count(body.get("max_tokens")))
        if status != 200:
            return self._refuse(request, status, headers, _message(content))
        return _read_reply(request, self._settings.api, content)

    async def _post(self, body: dict[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Send a body; give the status, the headers and the content, if it is of bearable size."""
        async with self._client.stream(
            "POST", self._url, content=json.dumps(body).encode()
        ) as response:
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > _LARGEST_ANSWER_BYTES:
                    raise _PassingFailure(
                        f"an answer of more than {_LARGEST_ANSWER_BYTES >> 20} MiB"
                    )
            return response.status_code, response.headers, bytes(content)

    def _refuse(
        self, request: Request, status: int, headers: Mapping[str, str], message: str
    ) -> Answer:
        """Decide what an answer without success means."""
        said = f"{status}: {message}" if message else str(status)
        if status in _FATAL or "insufficient_quota" in message:
            raise EndpointError(
                f"{self._shown_url} answered {said}; {_ADVICE.get(status, _OTHER_ADVICE)}"
            )
        if status in PASSING_STATUS:
            wait_s = retry_after_s(headers)
            if wait_s is not None and wait_s > _LONGEST_WAIT_S:
                raise EndpointError(
                    f"{self._shown_url} asks to wait {wait_s / 60:.0f} minutes ({said}); run the "
                    "same command again then"
                )
            raise _PassingFailure(f"status {said}", wait_s)
        if 300 <= status < 400:
            raise EndpointError(
                f"{self._shown_url} redirects ({status}); give its target as --base-url"
            )
        if status == 400 and "max_completion_tokens" in message and not self._renamed:
            self._renamed["max_tokens"] = "max_completion_tokens"  # OpenAI's newer models
            raise _PassingFailure(f"status {said}", 0.0)
        return Answer(
            request.key, request.doc_id, request.style, request.variant, failure=f"status {said}"
        )


_OTHER_ADVICE = "run the same command again once that is settled"
_ADVICE = {
    401: "check the key (--key-variable)",
    403: "check the key (--key-variable) and its rights",
    404: "check --base-url, --api and --model",
    405: "check --base-url and --api",
}


def _message(content: bytes) -> str:
    """Find what an endpoint says about a failure; one short line."""
    try:
        record = json.loads(content)
        error = record.get("error", record.get("detail", record))
        if isinstance(error, dict):
            parts = [error.get("message"), error.get("code")]
            error = ", ".join(str(part) for part in parts if part)
        text = str(error)
    except (ValueError, AttributeError, RecursionError):
        text = content[:400].decode(errors="replace")
    return " ".join(text.split())[:200]


def _read_reply(request: Request, api: Api, content: bytes) -> Answer:
    """Read the reply of an endpoint that claims success."""
    try:
        reply = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _PassingFailure("an answer that is not JSON") from error
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _PassingFailure("an answer without choices")
    choice = choices[0]
    message = choice.get("message") if api == "chat" else {"content": choice.get("text")}
    message = message if isinstance(message, dict) else {}
    text = message.get("content")
    text = text if isinstance(text, str) else ""
    is_cut = choice.get("finish_reason") == "length"
    refused = message.get("refusal") or choice.get("finish_reason") == "content_filter"
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        request.key,
        request.doc_id,
        request.style,
        request.variant,
        text=text,
        is_cut=is_cut,
        failure=_judge(text, api, is_cut=is_cut, is_refused=bool(refused)),
        model=str(reply.get("model") or ""),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        answer_tokens=_count(usage.get("completion_tokens")),
    )


def _judge(text: str, api: Api, *, is_cut: bool, is_refused: bool) -> str:
    """Say why an answer gives no query, or give an empty text."""
    if is_refused:
        return "refused"
    if api == "completions":
        return "" if read_base_answer(text) else "an empty answer"
    if read_chat_answer(text, is_cut=is_cut):
        return ""
    if is_cut:
        return "cut off before the first query; raise --max-tokens"
    if is_refusal(text):
        return "refused"
    return "no query in the answer" if text.strip() else "an empty answer"


def _count(value: Any) -> int:
    """Take a count of tokens as it should be, else 0."""
    return value if type(value) is int and value >= 0 else 0
