"""`trimtab inspect MODEL`: what a model says about itself, once it has passed every check."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

import click

from trimtab.log import printable
from trimtab.model.manifest import QueryRegion
from trimtab.model.onnx_file import ModelFile, read_model_file, resolve_model_path


@click.command()
@click.argument("model", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(model: str, as_json: bool) -> None:
    """Check a MODEL file and show its manifest."""
    path = resolve_model_path(model)
    checked = read_model_file(path)
    record = describe(checked)
    if as_json:
        text = json.dumps(record, indent=2, ensure_ascii=False)
        # Half a surrogate pair, which UTF-8 can't write, stays the escape that it was.
        click.echo(text.encode(errors="backslashreplace").decode())
        return
    manifest = checked.manifest
    lines = {
        "file": f"{path} ({len(checked.content) / 1e6:.2f} MB)",
        "name @ version": f"{manifest.name}@{record['version']}",
        "adapter": f"{manifest.kind}, {manifest.dim_in} -> {manifest.dim_out} dims, "
        f"for {manifest.use}",
        "output": ("unit length" if manifest.normalised else "any length")
        + f", compared by {manifest.similarity}",
        "encoder": f"{manifest.encoder.name} ({manifest.encoder.fingerprint or 'no fingerprint'})",
        **_origin_line(manifest.training),
        **_region_line(manifest.query_region),
        "weights": "8-bit" if "MatMulInteger" in checked.operators else "float32",
        "stores queries": "yes" if manifest.stores_queries else "no",
        "ONNX": f"opset {checked.opset}, IR {checked.ir_version}, {', '.join(checked.operators)}",
        "made": manifest.created or "unknown",
    }
    lines |= _metric_lines(manifest.metrics)
    width = max(map(len, lines))
    for label, value in lines.items():
        click.echo(f"{printable(label):<{width}}  {printable(value)}")


def _region_line(region: QueryRegion | None) -> dict[str, str]:
    """Say how far from the training queries a query may be, where the model knows."""
    if region is None:
        return {}
    return {
        "query region": f"{region.n_centroids} centroids; far is a cosine under "
        f"{region.threshold:.3f}, {region.share:.1%} of queries like the training queries"
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


def describe(model: ModelFile) -> dict[str, Any]:
    """Gather everything that is known about a checked model, for machines.

    The centroids of the query region stay in the file: numbers by the thousand, of no use to read.
    """
    manifest = asdict(model.manifest)
    if manifest["query_region"] is not None:
        del manifest["query_region"]["centroids"]
    return {
        "version": hashlib.sha256(model.content).hexdigest()[:12],
        "size_bytes": len(model.content),
        "opset": model.opset,
        "ir_version": model.ir_version,
        "operators": list(model.operators),
        "manifest": manifest,
    }
