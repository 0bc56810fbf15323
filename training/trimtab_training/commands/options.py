"""Options that several commands share."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from trimtab_training.embeddings.encoders import Encoder

PATH = click.Path(path_type=Path)


class Finite(click.types.FloatParamType):
    """A number that is neither NaN nor infinite."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number; refuse what is none."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class FiniteRange(Finite, click.FloatRange):
    """A number within bounds: click lets NaN pass every bound, and infinity an open one."""


SEED = click.IntRange(0, 2**63 - 1)
"""What torch and numpy take, and TOML holds."""

ENCODER_OPTIONS = ("encoder", "base_url", "query_prefix", "document_prefix", "device")
"""What :func:`open_encoder` takes."""

_ENCODER_OPTIONS = (
    click.option(
        "--encoder",
        default="minilm",
        show_default=True,
        help="'minilm' (in the demo extra), a sentence-transformers folder, or 'openai:MODEL'.",
    ),
    click.option(
        "--base-url",
        default="https://api.openai.com/v1",
        show_default=True,
        help="Address of an OpenAI-compatible endpoint; its key comes from OPENAI_API_KEY.",
    ),
    click.option("--query-prefix", default="", help="Text put before every query."),
    click.option("--document-prefix", default="", help="Text put before every document."),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda or mps."),
)


max_dropped_option = click.option(
    "--max-dropped",
    type=FiniteRange(0, 1),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Share of the split's labels that may name what has no vector; they are left out.",
)


def encoder_options(command: Any) -> Any:
    """Add the options that choose an encoder."""
    for option in reversed(_ENCODER_OPTIONS):
        command = option(command)
    return command


def is_given(name: str) -> bool:
    """Tell whether an option of the running command was given, rather than left to its default."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in {None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}


def open_encoder(
    encoder: str,
    *,
    base_url: str,
    query_prefix: str,
    document_prefix: str,
    device: str,
) -> "Encoder":
    """Open the encoder that the options name."""
    from trimtab.encoders import EndpointSettings
    from trimtab_training.embeddings.encoders import EndpointEncoder
    from trimtab_training.embeddings.local_encoder import MINILM, LocalEncoder, packaged_minilm

    if encoder.startswith("openai:"):
        settings = EndpointSettings(
            model=encoder.removeprefix("openai:"),
            base_url=base_url,
            api_key=os.environ.get("OPENAI_API_KEY"),
        )
        return EndpointEncoder(settings, query_prefix=query_prefix, document_prefix=document_prefix)
    if encoder == MINILM:
        return packaged_minilm(
            query_prefix=query_prefix, document_prefix=document_prefix, device=device
        )
    return LocalEncoder(
        Path(encoder), query_prefix=query_prefix, document_prefix=document_prefix, device=device
    )
