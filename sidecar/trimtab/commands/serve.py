"""`trimtab serve`: the sidecar before Qdrant."""

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import click

from trimtab.errors import SidecarError
from trimtab.log import LOG_FORMATS, LogSettings, install_handler, printable
from trimtab.routing.route_book import Finding
from trimtab.routing.routes import Route
from trimtab.settings import Settings
from trimtab.settings_file import Source

logger = logging.getLogger(__name__)


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
    "--path-prefix",
    metavar="PATH",
    help="What clients put before Qdrant's REST paths, as in /qdrant; taken away.",
)
@click.option(
    "--upstream-path-prefix",
    metavar="PATH",
    help="What stands before Qdrant's REST paths upstream; put there.",
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
@click.option(
    "--share",
    type=float,
    help="Share of queries that a canary adapts, 0 to 1; with --mode canary.  [default: 0.1]",
)
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
@click.option("--online", is_flag=True, help="With --check: ask Qdrant about every route too.")
@click.option(
    "--json", "as_json", is_flag=True, help="Say where it listens, or what --check found, as JSON."
)
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
    if flags["online"] and not check:
        raise click.UsageError("--online goes with --check")
    hangups: list[int] = []
    if not check and hasattr(signal, "SIGHUP"):  # its own way would be to end what is starting
        signal.signal(signal.SIGHUP, lambda number, _: hangups.append(number))
    from trimtab.server.process.run import run_server

    logs = LogSettings(verbose=bool(ctx.find_root().params.get("verbose")), form=log_format)
    install_handler(logs)
    if check:
        _check(config, flags)
        return
    source = Source.of(config, flags)
    settings = source.read()

    def tell(addresses: dict[str, str]) -> None:
        try:
            if flags["as_json"]:
                click.echo(json.dumps({**addresses, "pid": os.getpid()}))
            else:
                _tell(addresses, settings)
        except OSError as error:  # nobody reads, or the disk is full: no reason not to serve
            logger.warning("can't say where it listens", extra={"cause": error.strerror})
        if hangups:  # a reload that was asked for before there was something to reload
            signal.raise_signal(signal.SIGHUP)

    run_server(settings, source.read, tell, logs)


def _check(config: Path | None, flags: dict[str, Any]) -> None:
    """Check the settings, and say what was found.

    Raises:
        ClickException: A route can't apply, or the settings can't be used.
    """
    from trimtab.server.encoders import EncoderAim
    from trimtab.server.process.route_check import is_faulty
    from trimtab.server.process.run import check_settings_work

    findings: list[Finding] = []
    n_indexes, error = 0, ""
    try:
        source = Source.of(config, flags)
        settings = source.read()
        n_indexes = len(settings.collections)
        findings = check_settings_work(settings, source.read, online=flags["online"])
        if flags["online"]:
            error = "; ".join(each.text for each in findings if is_faulty(each))
    except SidecarError as raised:
        error = str(raised)
    routes = [each for each in findings if isinstance(each.route, Route)]
    if flags["as_json"]:
        said = {
            "ok": not error,
            "error": error or None,
            "routes": [_describe(finding) for finding in routes],
            "encoders": [
                {"model": finding.route.model, **_describe(finding)}
                for finding in findings
                if isinstance(finding.route, EncoderAim)
            ],
            "indexes": n_indexes,
            "online": flags["online"],
        }
        click.echo(json.dumps(said))
    elif not error:
        for finding in findings:
            if finding.text:
                click.echo(f"{finding.fit}: {printable(finding.text)}", err=True)
        n_encoded = len(findings) - len(routes)
        encoded = f", {n_encoded} adapted by encoders" if n_encoded else ""
        click.echo(f"fine: {len(routes)} routes, {n_indexes} indexes{encoded}")
    if error:
        raise click.ClickException(error)


def _describe(finding: Finding) -> dict[str, Any]:
    """Write what was found about a route as JSON can hold it."""
    route = finding.route
    return {
        "collection": route.collection,
        "vector": route.vector_name,
        "adapter": route.mark,
        "use": route.manifest.use,
        "mode": route.mode,
        "on_error": route.on_error,
        "fit": finding.fit,
        "text": finding.text,
    }


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
