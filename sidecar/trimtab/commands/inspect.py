"""`trimtab inspect MODEL`: what a model says about itself, once it has passed every check."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trimtab.errors import ModelError
from trimtab.log import printable
from trimtab.model.adapter import Adapter
from trimtab.model.manifest import Manifest, QueryRegion
from trimtab.model.onnx_file import (
    ModelFile,
    check_model,
    naming_file,
    read_content,
    resolve_model_path,
)

if TYPE_CHECKING:
    from trimtab.model.second_look import SecondLook
    from trimtab.text.encoder_file import EncoderFile


@click.command()
@click.argument("model", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(model: str, as_json: bool) -> None:
    """Check a MODEL file and show its manifest.

    MODEL is an adapter's file or an encoder's, or the folder that holds one.
    """
    from trimtab.text.encoder_file import ENCODER_RULES, check_encoder, holds_encoder

    file = _find(Path(model))
    with naming_file(file):
        content = read_content(file, ENCODER_RULES)
        if holds_encoder(content):
            read = check_encoder(content)
            record, lines = describe_encoder(read), _encoder_lines(file, read)
        else:
            checked = check_model(content)
            look = Adapter(checked).second_look if checked.second_look else None
            record, lines = describe(checked, look), _adapter_lines(file, checked, look)
    _show(record, lines, as_json=as_json)


def _find(path: Path) -> Path:
    """Find the file that is meant by a folder: an adapter, or else an encoder."""
    from trimtab.text.encoder_file import resolve_encoder_path

    try:
        return resolve_model_path(path)
    except ModelError as error:
        try:
            return resolve_encoder_path(path)
        except ModelError:
            raise error from None


def _show(record: dict[str, Any], lines: dict[str, str], *, as_json: bool) -> None:
    """Print what is known, for machines or for people."""
    if as_json:
        text = json.dumps(record, indent=2, ensure_ascii=False)
        # Half a surrogate pair, which UTF-8 can't write, stays the escape that it was.
        click.echo(text.encode(errors="backslashreplace").decode())
        return
    width = max(map(len, lines))
    for label, value in lines.items():
        click.echo(f"{printable(label):<{width}}  {printable(value)}")


def _encoder_lines(path: Path, read: "EncoderFile") -> dict[str, str]:
    """Write what is known of an encoder."""
    manifest, content = read.manifest, read.content
    prefixes = f"queries {manifest.query_prefix!r}, documents {manifest.document_prefix!r}"
    lines = {
        "file": f"{path} ({len(content) / 1e6:.2f} MB)",
        "name @ version": f"{manifest.name}@{_version(content)}",
        "encoder": f"text -> {manifest.dim} dims, {manifest.pooling or 'unknown'} pooling"
        + (", unit length" if manifest.normalised else ""),
        "fingerprint": manifest.fingerprint or "none",
        "reads": f"{manifest.max_tokens} tokens of a text",
        "prefixes": prefixes,
        "weights": manifest.precision + _loss(manifest.loss),
    }
    if read.adapter is not None:
        behind = read.adapter
        lines["adapter behind it"] = (
            f"{behind.name}: {behind.kind}, {behind.dim_in} -> {behind.dim_out} dims, "
            f"for {behind.use}, trained on queries of {behind.encoder.name}"
        )
    return {
        **lines,
        "ONNX": f"opset {read.graph.opset}, IR {read.graph.ir_version}, "
        f"{len(read.graph.operators)} nodes: {', '.join(sorted(set(read.graph.operators)))}",
        "made": manifest.created or "unknown",
    }


def _loss(loss: dict[str, Any]) -> str:
    """Say what rounding was measured to cost, as far as the record has the layout known here."""
    try:
        text = f", 1 - cosine {loss['cosine_mean']:.1e} on average"
        if "ndcg" in loss:
            found = loss["ndcg"]
            text += f", nDCG@10 {found['delta']:+.4f} on {found['dataset']}"
    except (KeyError, TypeError, ValueError):
        return ""
    return text


def _adapter_lines(path: Path, checked: ModelFile, look: "SecondLook | None") -> dict[str, str]:
    """Write what is known of an adapter."""
    manifest = checked.manifest
    lines = {
        "file": f"{path} ({len(checked.content) / 1e6:.2f} MB)",
        "name @ version": f"{manifest.name}@{_version(checked.content)}",
        "adapter": f"{manifest.kind}, {manifest.dim_in} -> {manifest.dim_out} dims, "
        f"for {manifest.use}",
        "output": ("unit length" if manifest.normalised else "any length")
        + f", compared by {manifest.similarity}",
        "encoder": f"{manifest.encoder.name} ({manifest.encoder.fingerprint or 'no fingerprint'})",
        **_origin_line(manifest.training),
        **_region_line(manifest.query_region),
        **_look_line(look),
        "weights": "8-bit" if "MatMulInteger" in checked.operators else "float32",
        "stores queries": "yes" if manifest.stores_queries else "no",
        "ONNX": f"opset {checked.opset}, IR {checked.ir_version}, {', '.join(checked.operators)}",
        "made": manifest.created or "unknown",
    }
    return lines | _metric_lines(manifest.metrics)


def _region_line(region: QueryRegion | None) -> dict[str, str]:
    """Say how far from the training queries a query may be, where the model knows."""
    if region is None:
        return {}
    return {
        "query region": f"{region.n_centroids} centroids; far is a cosine under "
        f"{region.threshold:.3f}, {region.share:.1%} of queries like the training queries"
    }


def _look_line(look: "SecondLook | None") -> dict[str, str]:
    """Say what a second look does, where the model has one."""
    if look is None:
        return {}
    return {
        "second look": f"at the best {look.depth} documents, {look.mix:.0%} of their score; a map "
        f"of documents of rank {look.rank}; where search happens in process"
    }


def _origin_line(training: dict[str, Any]) -> dict[str, str]:
    """Say what a converted model was converted from."""
    origin = training.get("converted_from")
    if not isinstance(origin, dict):
        return {}
    named = ", ".join(str(origin.get(key, "unknown")) for key in ("form", "file", "sha256"))
    return {"converted from": named, "trained on": str(training.get("trained_on", "unknown"))}


def _metric_lines(metrics: dict[str, Any]) -> dict[str, str]:
    """Write the metrics, as far as they have the layout that training gives them."""
    lines = {}
    try:
        for name, metric in metrics.get("metrics", {}).items():
            low, high = metric["ci95"]
            lines[name] = (
                f"{metric['base']:.4f} -> {metric['adapted']:.4f} "
                f"({metric['delta']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f})"
            )
    except (AttributeError, KeyError, TypeError, ValueError):
        return {"metrics": "of another layout; see --json"}
    return lines


def describe(model: ModelFile, look: "SecondLook | None" = None) -> dict[str, Any]:
    """Gather everything that is known about a checked adapter, for machines."""
    shown = None if look is None else {"depth": look.depth, "mix": look.mix, "rank": look.rank}
    return {
        "version": _version(model.content),
        "size_bytes": len(model.content),
        "opset": model.opset,
        "ir_version": model.ir_version,
        "operators": list(model.operators),
        **({"second_look": shown} if shown else {}),
        "manifest": _without_vectors(model.manifest),
    }


def describe_encoder(read: "EncoderFile") -> dict[str, Any]:
    """Gather everything that is known about a checked encoder, for machines."""
    return {
        "version": _version(read.content),
        "size_bytes": len(read.content),
        "opset": read.graph.opset,
        "ir_version": read.graph.ir_version,
        "operators": sorted(set(read.graph.operators)),
        "encoder": _without_probe(asdict(read.manifest)),
        "adapter": None if read.adapter is None else _without_vectors(read.adapter),
    }


def _without_vectors(manifest: Manifest) -> dict[str, Any]:
    """Write a manifest; its vectors stay in the file: numbers by the thousand, of no use here."""
    record = asdict(manifest)
    _without_probe(record["encoder"])
    if record["query_region"] is not None:
        del record["query_region"]["centroids"]
    return record


def _version(content: bytes) -> str:
    """Give a file's version."""
    return hashlib.sha256(content).hexdigest()[:12]


def _without_probe(encoder: dict[str, Any]) -> dict[str, Any]:
    """Leave out of an encoder's record what it gives for a few texts."""
    del encoder["probe"]
    return encoder
