"""The charts of the report: learning curves, and the distribution of a score over the images."""

from typing import Any

import numpy as np

from seg_jax.report.elements import note
from seg_jax.report.figures import curve, dots
from seg_jax.report.read import Run

CURVES = {
    "Loss": {"loss": "training", "val_loss": "validation"},
    "Learning rate": {"learning_rate": ""},
    "Gradient norm": {"grad_norm": ""},
    "Images per second": {"images_per_second": ""},
    "Waiting for data, fraction of the time": {"data_wait": ""},
}
"""By a chart's title, the names of its lines in metrics.jsonl and in the chart."""


def curves(run: Run) -> str:
    """What was logged while the run trained."""
    axis = "epoch" if all("epoch" in line for line in run.lines) else "step"
    logged = dict.fromkeys(name for line in run.lines for name in line)
    scores = [name for name in logged if name.startswith("val_") and name != "val_loss"][:2]
    validation = {name: run.title(name.removeprefix("val_")) for name in scores}
    charts = {"Loss": CURVES["Loss"], "Validation score": validation} | CURVES
    panels = []
    for title, names in charts.items():
        # A resumed run may log a step twice; the later line is the one that counts.
        series = {
            label: {line[axis]: line[name] for line in run.lines if _has(line, axis, name)}
            for name, label in names.items()
        }
        if any(series.values()):
            panels.append(curve(title, axis, series))
    if not panels:
        return note("Nothing has been logged yet.")
    html = f'<div class="curves">{"".join(panels)}</div>'
    if not scores and run.shown is None:
        html += note("There has been no validation yet.")
    elif not scores:
        html += note("There is no validation part in this protocol.")
    return html


def distribution(run: Run) -> str:
    """The headline score of each image as a dot; "" if no image has one."""
    ranked = run.shown.ranked if run.shown else []
    if not ranked:
        return ""
    best = run.shown.best
    title = run.title(best)
    values = np.array([row[best] for row in ranked])
    first, median, third = (run.number(q, best) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    text = f"One dot an image. Median {median} (the line), quartiles {first} and {third}, "
    text += f"lowest {run.number(values[0], best)} ({ranked[0]['id']})."
    if without := len(run.shown.images) - len(ranked):
        text += f" Without a {title}: {without}."
    return f'<figure class="dots">{dots(values, title, text)}</figure>{note(text)}'


def _has(line: dict[str, Any], *names: str) -> bool:
    """Whether a line has a number for each name."""
    return all(isinstance(line.get(name), int | float) for name in names)
