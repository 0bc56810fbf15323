"""`trimtab serve`: the sidecar before Qdrant."""

import json
import os
from pathlib import Path
from typing import Any

import click

from sidecar.config import Settings
from sidecar.config_file import Source
from sidecar.log import LOG_FORMATS, LogSettings, install_handler


@click.command()
@click.option(
    "-c", "--config", type=click.Path(path_type=Path), help="TOML file; flags override it."
)
@click.option(
    "--rest", metavar="HOST:PORT", help="Listen for Qdrant's REST.  [default: 127.0.0.1:6333]"
)
@click.option("--grpc", metavar="HOST:PORT", help="Listen for Qdrant's gRPC.  [default: off]")
@click.option(
    "--admin", metavar="HOST:PORT", help="Listen for /trimtab/*.  [default: 127.0.0.1:6340]"
)
@click.option(
    "--upstream-rest", metavar="URL", multiple=True, help="Qdrant's REST address; repeatable."
)
@click.option(
    "--upstream-grpc", metavar="URL", multiple=True, help="Qdrant's gRPC address; repeatable."
)
@click.option(
    "--route",
    metavar="COLLECTION[/VECTOR]=MODEL",
    multiple=True,
    help="Adapt the queries of a vector with a model; repeatable.",
)
@click.option(
    "--mode",
    type=click.Choice(["on", "off", "shadow", "canary"]),
    help="Mode of these routes.  [default: on]",
)
@click.option("--share", type=float, help="Share of queries that a canary adapts, 0 to 1.")
@click.option(
    "--collection",
    metavar="NAME=INDEX",
    multiple=True,
    help="Serve a FAISS index as a read-only collection; repeatable.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes that share the ports.  [default: 1]"
)
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    default="text",
    show_default=True,
    help="How log records are written on stderr.",
)
@click.option("--check", is_flag=True, help="Check the settings and the models, and end.")
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as one line of JSON.")
@click.pass_context
def serve(
    ctx: click.Context, /, config: Path | None, log_format: str, check: bool, **flags: Any
) -> None:
    """Stand before Qdrant and adapt the query vectors that pass.

    Applications talk to this address instead of Qdrant's, over REST or gRPC, with any client.
    Everything but the query vectors of the routes passes as it is.

    SIGHUP, POST /trimtab/reload or a change of the files reloads routes and models;
    POST /trimtab/rollback goes back; SIGTERM ends once what is under way is answered.
    """
    from sidecar.server.run import check_settings_work, run_server

    logs = LogSettings(verbose=bool(ctx.find_root().params.get("verbose")), form=log_format)
    install_handler(logs)
    source = Source.of(config, flags)
    settings = source.read()
    if check:
        check_settings_work(settings, source.read)
        n_indexes = len(settings.collections)
        click.echo(f"fine: {len(settings.routes)} routes, {n_indexes} indexes")
        return

    def tell(addresses: dict[str, str]) -> None:
        if flags["as_json"]:
            click.echo(json.dumps({**addresses, "pid": os.getpid()}))
        else:
            _tell(addresses, settings)

    run_server(settings, source.read, tell, logs)


def _tell(addresses: dict[str, str], settings: Settings) -> None:
    """Say where it listens and what to do next."""
    for name, address in addresses.items():
        click.echo(f"{name:6} {address}")
    for route in settings.routes:
        vector = f"/{route.vector}" if route.vector else ""
        click.echo(f"route  {route.collection}{vector} -> {route.adapter} ({route.mode})")
    for collection in settings.collections:
        click.echo(f"index  {collection.name} -> {collection.index}")
    if "admin" in addresses:
        click.echo(f"next:  curl http://{addresses['admin']}/trimtab/routes", err=True)
