"""How a benchmark shows its figures: JSON, a table, a PNG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from rich import box
from rich.table import Table


def write_json(file: Path | None, figures: Mapping[str, Any]) -> None:
    """Write the figures, when there is a file to write them to."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def table(title: str, figures: Mapping[str, Any]) -> Table:
    """Return a table of one figure a line; a mapping takes a line for each of its own, a list is left out."""
    drawn = Table("Figure", "Value", box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for key, value in figures.items():
        if isinstance(value, list):
            continue
        for name, one in (
            [(f"{key}: {k}", v) for k, v in value.items()] if isinstance(value, Mapping) else [(key, value)]
        ):
            drawn.add_row(name, _text(one))
    return drawn


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


@contextmanager
def picture(file: Path, rows: int) -> Iterator[list[Any]]:
    """Draw on ``rows`` axes, one above the other; written to ``file`` at the end. Needs no display."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, 1, figsize=(11, 3.4 * rows), layout="constrained", squeeze=False)
    try:
        yield [axis for row in axes for axis in row]
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=110)
    finally:
        plt.close(figure)
