"""The folder that an import may write: what of it is an import's, and what is others'."""

from pathlib import Path

from trimtab_training.errors import DataError
from trimtab_training.files import refuse_mount

RECORD = "import.json"
OWN = ("corpus.jsonl", "queries.jsonl", "qrels", RECORD)


def check_place(output: Path, given: Path, *, force: bool) -> None:
    """Refuse to replace what no import made, and what can't be replaced."""
    if output.exists() and not output.is_dir():
        raise DataError(f"{given} is a file; -o wants a folder to make")
    if output == Path.cwd() or output in Path.cwd().parents:
        raise DataError(f"-o {given} is the folder you are in; name a new one")
    refuse_mount(output)
    is_empty = not output.exists() or not any(output.iterdir())
    if not (is_empty or force or (output / RECORD).is_file()):
        raise DataError(
            f"{given} is not an earlier import's folder (it has no {RECORD}); choose another -o, "
            "or --force to replace its corpus, queries and qrels"
        )
