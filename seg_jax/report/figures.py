"""Figures of the report: inline SVG in the page's own fonts and colours, light or dark."""

import io
import math
import re
from html import escape

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# Colours that the page's style sheet replaces by its own, light or dark.
INK, FIRST, SECOND = "#010203", "#010204", "#010205"
VARIABLES = {INK: "currentColor", FIRST: "var(--first)", SECOND: "var(--second)"}


def curve(title: str, axis: str, series: dict[str, dict[float, float]]) -> str:
    """Up to two lines over a common axis, with a caption of their names in their colours.

    Args:
      title: what is drawn.
      axis: the name of the horizontal axis.
      series: by name, values by place; one without values isn't drawn.

    Returns:
      HTML, in which the names are escaped.
    """
    figure, axes = _axes(3.6, 2.0, axis)
    spoken, keys = [], []
    for (label, values), colour in zip(series.items(), (FIRST, SECOND), strict=False):
        if not values:
            continue
        places = sorted(values)
        points = [values[x] if math.isfinite(values[x]) else math.nan for x in places]
        axes.plot(places, points, color=colour, marker="." if len(points) < 40 else "", ms=4)
        spoken.append(f"{label} from {points[0]:.3g} to {points[-1]:.3g}".strip())
        keys.append(f'<span style="color: {VARIABLES[colour]}">{escape(label)}</span>')
    alt = f"{title}: {', '.join(spoken)} over {axis}s"
    caption = f"<figcaption>{escape(title)} {' '.join(keys)}</figcaption>"
    return f"<figure>{caption}{_svg(figure, alt)}</figure>"


def dots(values: np.ndarray, axis: str, alt: str) -> str:
    """One dot for each value, and a line at the median; equal values are stacked.

    Args:
      values: (N,) finite scores.
      axis: what they are.
      alt: the figure in words.

    Returns:
      An SVG element.
    """
    low, high = _range(values)
    columns = np.rint((values - low) / (high - low) * 50).astype(int)
    heights = np.array([np.sum(columns[:i] == columns[i]) for i in range(len(columns))]) + 0.5
    dot = min(5.5, 150 / heights.max())  # points
    figure, axes = _axes(4.3, 0.6 + (heights.max() + 1) * dot / 72, axis)
    axes.plot(values, heights, "o", color=FIRST, ms=dot * 0.9, markeredgewidth=0)
    axes.axvline(np.median(values), color=INK, linewidth=1)
    edge = 0.01 * max(1, high - low)
    axes.set(xlim=(low - edge, high + edge), ylim=(0, heights.max() + 1), yticks=[])
    axes.spines["left"].set_visible(False)
    return _svg(figure, alt)


def _range(values: np.ndarray) -> tuple[float, float]:
    """Up to 1 for scores between 0 and 1, else as far as the values reach."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return min(0.9, math.floor(low * 10) / 10), 1.0
    return math.floor(low), max(math.ceil(high), math.floor(low) + 1)


def _axes(width: float, height: float, label: str):
    """A figure of a size in inches, and its axes; the horizontal one has a label."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=INK, alpha=0.4)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    # A dollar sign in a name isn't the start of a formula.
    axes.set_xlabel(label, color=INK, size=9, parse_math=False)
    axes.yaxis.offsetText.set(color=INK, size=9)
    return figure, axes


def _svg(figure: Figure, alt: str) -> str:
    """The figure as inline SVG in the page's own fonts and colours."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": alt}):
        figure.savefig(file, format="svg", transparent=True)
    drawing = file.getvalue()
    for pattern in (r".*?(?=<svg)", r"<metadata>.*?</metadata>", r"<style.*?</style>"):
        drawing = re.sub(pattern, "", drawing, count=1, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', drawing).group()
    start = f'<svg role="img" aria-label="{escape(alt)}" {box}'
    drawing = start + drawing[drawing.index(">") :]
    drawing = re.sub(r'<g id="[^"]*"', "<g", drawing)  # the same in every figure
    for colour, variable in VARIABLES.items():
        drawing = drawing.replace(colour, variable)
    return drawing
