"""Tables in Markdown."""

from collections.abc import Iterable


def format_table(*rows: Iterable[str]) -> list[str]:
    """Return the lines of a table.

    Args:
        rows: Cells of the header, of the rule (`---` or `---:`), and of each row.
    """
    return [f"| {' | '.join(cells)} |" for cells in rows]
