"""ONNX Runtime sessions: few threads that never spin, and silence."""

from typing import Any

from trimtab.errors import IntegrityError

_SILENT = 4  # ONNX Runtime: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal


def make_session(content: bytes | str, *, n_threads: int = 1) -> Any:
    """Make a session of a checked model's bytes, or of a file by its path.

    Raises:
        IntegrityError: ONNX Runtime can't use the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SILENT
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What was checked is what runs: left alone, it takes some files for its own other format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        return onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime raises its own types, without a common base
        raise IntegrityError(f"ONNX Runtime refuses the model: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """Write another library's error on one line."""
    return " ".join(str(error).split())
