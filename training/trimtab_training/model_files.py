"""Which file in a model folder is called what. Whoever writes or reads one asks here."""

from pathlib import Path

MODEL = "adapter.onnx"
CHECKPOINT = "checkpoint"
EVALUATION = "evaluation.json"
REPORT = "report.html"
CARD = "README.md"
RUNS = "runs"
TRAINED_ON = "trained_on.npz"
QUERY_MODEL = "query.onnx"
TUNING = "tuning.json"
OURS = frozenset(
    {MODEL, CHECKPOINT, EVALUATION, REPORT, CARD, RUNS, TRAINED_ON, QUERY_MODEL, TUNING}
)


def folder_of(model: str | Path) -> Path:
    """Give the folder of a model that is named by its file or its folder."""
    path = Path(model)
    return path if path.is_dir() else path.parent
