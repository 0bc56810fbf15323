"""The folder that an embed may write: what of it is an embed's, and what is others'."""

from pathlib import Path

from trimtab_training.errors import DataError
from trimtab_training.files import refuse_loss, refuse_mount

ENCODER = "encoder.json"
OWN = frozenset({ENCODER, "documents.npy", "queries.npy", "document_ids.txt", "query_ids.txt"})


def check_place(output: Path, dataset: Path) -> None:
    """Refuse a place where something stands that no embed made, before any work.

    What else stands in an embeddings folder is carried over, and no reason to refuse it.

    Args:
        output: The embeddings folder to make.
        dataset: The folder of the dataset that is read.

    Raises:
        ConfigError: It is a mount point.
        DataError: It is a file, the dataset or a folder around it, or holds something else.
    """
    if output.exists() and not output.is_dir():
        raise DataError(f"{output} is a file; -o wants a folder to make, such as docs/embeddings")
    source = dataset.resolve()
    if output.resolve() in (source, *source.parents):
        raise DataError(
            f"-o {output} would replace {dataset}, which is read; name a folder of its own, such "
            f"as {dataset / 'embeddings'}"
        )
    refuse_mount(output)
    if output.is_dir() and not (output / ENCODER).is_file():
        refuse_loss(output, (entry.name for entry in output.iterdir()))
