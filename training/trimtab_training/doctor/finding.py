"""One thing that a check found: how bad it is, what it is, and what to do."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from trimtab_training.data.qrels import name_some

SEVERITIES = ("error", "warning", "note")
"""An error makes a fit impossible or its figures dishonest; a warning costs quality or trust."""

_EXAMPLES = 5


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        code: Its name, for machines; stays the same from version to version.
        severity: One of ``SEVERITIES``.
        message: The fact.
        advice: What to do about it; empty where there is nothing to do.
        count: How many queries, documents or labels it is about.
        examples: Ids of a few of them.
    """

    code: str
    severity: str
    message: str
    advice: str = ""
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Give it as JSON."""
        return asdict(self)


def about(
    code: str, severity: str, ids: Collection[str], message: str, advice: str = ""
) -> Finding:
    """Make a finding about some ids; ``{ids}`` in the message becomes their number and examples."""
    text = message.replace("{ids}", name_some(ids))
    return Finding(code, severity, text, advice, len(ids), sorted(ids)[:_EXAMPLES])


def by_importance(findings: list[Finding]) -> list[Finding]:
    """Order findings: errors first; among equals, as the checks were made."""
    return sorted(findings, key=lambda one: SEVERITIES.index(one.severity))
