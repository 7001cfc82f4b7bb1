"""Compact tables for notebooks: plain HTML in the notebook's own colours, without scripts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_LINE = "1px solid rgba(128, 128, 128, 0.4)"
_TABLE = "border-collapse: collapse; margin: 0; color: inherit; background: none; font-size: 0.9em;"
_CELL = (
    "text-align: left; vertical-align: top; padding: 0.15em 1em 0.15em 0; border: 0; background: none; color: inherit;"
)
_NUMBER = "font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap;"


def description(title: str, rows: Mapping[str, str]) -> str:
    """A title, and below it one line for each of `rows`: what it is, and what there is to say of it.

    Everything is text: what looks like markup in it is shown as it stands.

    Examples
    --------
    >>> "<td" in description("PLNPCA", {"data": "700 cells"}), "&lt;b&gt;" in description("<b>", {})
    (True, True)
    """
    body = "".join(
        f'<tr><th scope="row" style="{_CELL} font-weight: normal; opacity: 0.7; white-space: nowrap;">{escape(name)}</th>'
        f'<td style="{_CELL} max-width: 60em; overflow-wrap: anywhere;">{escape(text)}</td></tr>'
        for name, text in rows.items()
    )
    return f'{_heading(title)}<table style="{_TABLE}"><tbody>{body}</tbody></table></div>'


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A title and a table, whose columns of numbers are set flush right.

    Examples
    --------
    >>> table("Trials", ["n_latent", "bound"], [["5", "-664.430"], ["2", "nan"]]).count("text-align: right")
    6
    """
    rows = [list(row) for row in rows]
    columns = [[row[number] for row in rows] for number in range(len(header))]
    styles = [f"{_CELL} {_NUMBER}" if all(map(_is_number, column)) else _CELL for column in columns]
    top = "".join(
        f'<th scope="col" style="{style} border-bottom: {_LINE};">{escape(name)}</th>'
        for style, name in zip(styles, header, strict=True)
    )
    cells = (
        (f'<td style="{style}">{escape(text)}</td>' for style, text in zip(styles, row, strict=True)) for row in rows
    )
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in cells)
    return f'{_heading(title)}<table style="{_TABLE}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _heading(title: str) -> str:
    return (
        f'<div style="color: inherit; overflow-x: auto;">'
        f'<div style="font-weight: bold; padding-bottom: 0.2em;">{escape(title)}</div>'
    )
