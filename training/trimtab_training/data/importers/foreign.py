"""Are the ids in labels those of the texts? If not, why not."""

from collections.abc import Set as AbstractSet

from trimtab_training.data.label_lines import explain_unlike, refuse_swapped
from trimtab_training.errors import DataError

Ids = tuple[AbstractSet[str], AbstractSet[str]]
"""Of queries, and of documents."""


def refuse_foreign(named: Ids, known: Ids, topics_that_are_documents: AbstractSet[str]) -> None:
    """Refuse labels whose columns are swapped, or of which no id has a text.

    Args:
        named: Ids in the labels.
        known: Ids that have a text; of one kind none where there are no such texts.
        topics_that_are_documents: Ids of queries that labels call documents.

    Raises:
        DataError: With an example of both sides.
    """
    queries = known[0] | topics_that_are_documents
    if queries or known[1]:
        refuse_swapped(named, (queries or None, known[1] or None), "the labels")
    for what, wanted, has in zip(("query", "document"), named, known, strict=True):
        if has and not wanted & has:
            raise DataError(
                f"no label's {what} is among the {len(has)} with a text: "
                f"{explain_unlike(wanted, has)}"
            )
