"""Elements of HTML that the sections of the report are made of."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any


def note(text: str) -> str:
    """A paragraph of small print; the text is escaped here."""
    return f'<p class="note">{escape(text)}</p>'


def swatch(colour: Sequence[Any], name: str) -> str:
    """A name beside a square of its colour (red, green and blue from 0 to 255)."""
    rgb = escape(", ".join(map(str, colour)))
    return f'<span class="key"><i style="background: rgb({rgb})"></i>{escape(name)}</span>'


def table(head: Iterable[str], rows: Iterable[list[str]], above: str = "") -> str:
    """A table whose rows begin with their names.

    Args:
      head: HTML of the columns' names, "" for a column without one.
      rows: HTML of their cells.
      above: a row of HTML above the head.
    """
    top = "".join(f'<th scope="col">{name}</th>' if name else "<td></td>" for name in head)
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="wide"><table>\n<thead>{above}<tr>{top}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def words(rows: Iterable[tuple[int, str, str]]) -> str:
    """A table of names and values, each name indented by its depth; both are escaped here."""
    body = "".join(
        f'<tr><th scope="row" style="padding-left: {1.25 * depth}rem">{escape(name)}</th>'
        f"<td>{escape(value)}</td></tr>\n"
        for depth, name, value in rows
    )
    return f'<table class="words">\n{body}</table>'
