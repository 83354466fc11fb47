"""What all tables of this room share: rows that can be written as JSON, and Markdown."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TableRow:
    """A row of a table; subclasses add its fields."""

    def as_dict(self) -> dict[str, Any]:
        """Return the exact numbers of the row, for JSON."""
        return asdict(self)


def format_table(*rows: Iterable[str]) -> list[str]:
    """Return the lines of a Markdown table.

    Args:
        rows: Cells of the header, of the rule (`---`, or `---:` for right-aligned), and of each
            row.
    """
    return [f"| {' | '.join(cells)} |" for cells in rows]
