"""The pictures of the report: the worst, the middle and the best images, with their legend."""

import base64
from html import escape
from typing import Any

from seg_jax.report.elements import note, swatch
from seg_jax.report.read import Run

SHOWN = 6  # pictures in each of the three parts


def pictures(run: Run) -> str:
    """The pictures, embedded in the page; all of them where they are few, "" if there are none."""
    ranked = run.shown.ranked if run.shown else []
    if not ranked:
        return ""
    middle = (len(ranked) - SHOWN) // 2
    parts = {
        "Worst": ranked[:SHOWN],
        "Around the median": ranked[middle : middle + SHOWN],
        "Best": ranked[: -SHOWN - 1 : -1],
    }
    if len(ranked) < 3 * SHOWN:
        parts = {"All, the worst first": ranked}
    kind = "pictures pairs" if run.shown.legend["pairs"] else "pictures"
    return _legend(run) + "".join(
        f'\n<h3>{title}</h3>\n<div class="{kind}">\n'
        f"{''.join(_picture(run, row) for row in rows)}</div>"
        for title, rows in parts.items()
    )


def _legend(run: Run) -> str:
    legend = run.shown.legend
    swatches = " ".join(swatch(colour, name) for name, colour in legend["colours"].items())
    colours = f'<p class="legend">{swatches}</p>' if swatches else ""
    return colours + (note(legend["note"]) if legend["note"] else "")


def _picture(run: Run, row: dict[str, Any]) -> str:
    best = run.shown.best
    name = escape(row["id"])
    score = escape(f"{run.title(best)} {run.number(row[best], best)}")
    path = run.shown.folder / "overlays" / f"{row['id']}.jpg"
    shown = note("no picture")
    if path.exists():
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        alt = f"{name} with its prediction and its truth, {score}"
        shown = f'<img src="data:image/jpeg;base64,{data}" alt="{alt}">'
    return f"<figure>{shown}<figcaption>{name} <span>{score}</span></figcaption></figure>\n"
