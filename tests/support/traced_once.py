"""Torch's exporter, which takes seconds, run once for modules of the same weights and pooling."""

import functools
import hashlib

import onnx
import pytest
from torch.onnx._internal.exporter._registration import ONNXRegistry

from trimtab_training.export import encoder_export, query_model
from trimtab_training.export.text_module import TextModule

_TRACED: dict[str, bytes] = {}
_operators = functools.cache(ONNXRegistry.from_torchlib)


def read_operators_once(patch: pytest.MonkeyPatch) -> None:
    """Have torch read the source of its 500 operators once, and not at every export."""
    patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(_operators))


def trace_once(patch: pytest.MonkeyPatch) -> None:
    """Give what was traced before of the like; whoever asks owns what is given."""
    read_operators_once(patch)
    trace = encoder_export.trace_encoder

    def traced(module: TextModule) -> onnx.ModelProto:
        digest = hashlib.sha256(f"{module} {module.pooling}".encode())
        for name, weights in sorted(module.state_dict().items()):
            digest.update(name.encode() + weights.numpy().tobytes())
        key = digest.hexdigest()
        if key not in _TRACED:
            _TRACED[key] = trace(module).SerializeToString()
        return onnx.load_model_from_string(_TRACED[key])

    patch.setattr(encoder_export, "trace_encoder", traced)
    patch.setattr(query_model, "trace_encoder", traced)
