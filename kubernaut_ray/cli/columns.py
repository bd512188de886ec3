"""A table in two forms: a line a row where there is room, and its longest column beneath the first where there is not."""

from __future__ import annotations

from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

ROOM = 110
"""Columns of a terminal from which on a line a row is readable."""


def table(*columns: str, right: tuple[str, ...] = (), fold: tuple[str, ...] = ()) -> Table:
    """An empty table of these columns; those in ``right`` hold numbers, those in ``fold`` may be broken anywhere."""
    made = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column not in fold,
            overflow="fold" if column in fold else "ellipsis",
        )
    return made


def beneath(head: Text, more: str) -> Text:
    """A cell whose first line is ``head``, with ``more`` in grey below it."""
    return Text.assemble(head, "\n", (more, "dim"))


@dataclass(frozen=True)
class Fitting:
    """What is drawn depends on the width at hand when it is drawn (a window may have been made wider meanwhile)."""

    wide: Table
    narrow: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.wide if options.max_width >= ROOM else self.narrow
