"""Prints rows as a table for people; whatever a cell holds, the terminal only sees text."""

import sys
from collections.abc import Iterable, Sequence

from collector.text import printable

__all__ = ["print_rows"]


def print_rows(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table to standard output; numbers stand at the right, no long word is cut.

    A cell may be a rich `Text`, to have a colour.
    """
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    found = [list(row) for row in rows]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for index, name in enumerate(names):
        numeric = all(isinstance(row[index], int | float) for row in found)
        table.add_column(name, justify="right" if numeric and found else "left", overflow="fold")
    for row in found:
        cells = ("-" if cell is None else cell for cell in row)
        table.add_row(*(c if isinstance(c, Text) else Text(printable(str(c))) for c in cells))
    Console(file=sys.stdout, highlight=False).print(table if found else "(none)")
