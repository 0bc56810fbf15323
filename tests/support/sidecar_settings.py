"""Settings of a server with one route."""

from pathlib import Path
from typing import Any

from trimtab.addresses import Address, Origin
from trimtab.settings import RouteSettings, Settings, UpstreamSettings


def settings_of(adapter: Path | None, **more: Any) -> Settings:
    """Settings with a route for ``docs``, if there is an adapter."""
    routes = () if adapter is None else (RouteSettings("docs", adapter),)
    origin = Origin(Address("127.0.0.1", 9), is_tls=False)
    settings = {"routes": routes, "upstream": UpstreamSettings(rest=(origin,)), **more}
    return Settings(**settings)
