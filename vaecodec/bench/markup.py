"""Numbers and tables as a page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_MINUS = "\N{MINUS SIGN}"
_DASH = "\N{EN DASH}"


def percent(value: float | None) -> str:
    """Return a change with its sign, or a dash where there is none."""
    return _DASH if value is None else f"{value:+.1f}%".replace("-", _MINUS)


def number(value: float | None, digits: int) -> str:
    """Return a number, or a dash where there is none."""
    return _DASH if value is None else f"{value:.{digits}f}".replace("-", _MINUS)


def table(
    heads: Sequence[str],
    rows: Iterable[tuple[str, Sequence[str]]],
    *,
    kind: str = "wide",
    caption: str = "",
) -> str:
    """Return a table that scrolls by itself where the page is narrow.

    Args:
        heads: Of the columns.
        rows: The class of each row, and its cells: the first one heads the row.
        kind: Classes of the table.
        caption: Above it, and what a screen reader calls it.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "\n".join(
        f'<tr class="{name}"><th scope="row">{escape(cells[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells[1:])
        + "</tr>"
        for name, cells in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">'
        f'<table class="{kind}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
    )
