"""Who may ask: one API key for everything (src/common/auth/mod.rs, 1.19)."""

from collections.abc import Callable
from hmac import compare_digest

NO_KEY = "Must provide an API key or an Authorization bearer token"
WRONG_KEY = "Invalid API key or JWT"

_BEARER = "Bearer "


def refusal(api_key: str | None, header: Callable[[str], str | None]) -> str | None:
    """Why a request is refused, or None; ``header`` looks one header up by lower-case name."""
    if not api_key:
        return None
    given = header("api-key")
    if given is None:
        bearer = header("authorization") or ""
        given = bearer.removeprefix(_BEARER) if bearer.startswith(_BEARER) else None
    if given is None:
        return NO_KEY
    return None if compare_digest(given.encode(), api_key.encode()) else WRONG_KEY
