"""The tables of the report; each section is HTML, "" where there is nothing to show."""

import math
from collections.abc import Iterator
from html import escape
from typing import Any
from urllib.parse import quote

from seg_jax.report.elements import note, swatch, table, words
from seg_jax.report.read import TEXT_COLUMNS, Evaluation, Run, score_names

GROUP_SCORES = 4  # scores that the table of groups has, the headline first


def scores(run: Run) -> str:
    """All scores with their intervals, at the training size and at the images' own sizes."""
    if run.shown is None:
        return note("The run is not finished: there are no scores yet.")
    sizes = {run.size: run.shown.scores}
    if "own_size" in run.shown.scores:
        sizes["at own size"] = run.shown.scores["own_size"]
    rows = [
        [escape(run.title(name)), *(_score(run, of_size, name) for of_size in sizes.values())]
        for name in score_names(sizes.values())
    ]
    how = f"{run.shown.count}. {run.shown.scores.get('note') or ''}"
    return table(["", *sizes], rows) + note(how.strip())


def groups(run: Run) -> str:
    """The most important scores of each group of images."""
    if run.shown is None:
        return ""
    by_group = run.shown.scores.get("by_group") or {}
    named = score_names(by_group.values())
    # Stable: all but the headline stay in order.
    names = sorted(named, key=lambda name: name != run.shown.best)[:GROUP_SCORES]
    rows = [
        [escape(group), escape(str(of.get("n", "–"))), *(_score(run, of, name) for name in names)]
        for group, of in by_group.items()
    ]
    return table(["", "Images", *(escape(run.title(n)) for n in names)], rows) if rows else ""


def classes(run: Run) -> str:
    """The scores of each class, beside its colour in the pictures."""
    if run.shown is None:
        return ""
    by_class = run.shown.scores.get("per_class") or {}
    colours = run.shown.legend["colours"]
    names = score_names(by_class.values())
    rows = [
        [
            swatch(colours[title], title) if title in colours else escape(title),
            *(run.number(of.get(name), name) for name in names),
        ]
        for title, of in by_class.items()
    ]
    return table(["", *(escape(run.title(n)) for n in names)], rows) if rows else ""


def others(run: Run) -> str:
    """The headline score of each evaluation that isn't shown, with a link to its folder."""
    rest = [each for each in run.evaluations.values() if each is not run.shown]
    if not rest:
        return ""
    best = run.shown.best
    rows = [
        [
            f'<a href="{_href(run, each)}/">{escape(each.title)}</a>',
            escape(str(each.scores.get("n", "–"))),
            _score(run, each.scores, best),
        ]
        for each in rest
    ]
    return table(["", "Images", escape(run.title(best))], rows)


def images(run: Run) -> str:
    """The scores of every image, with links to its files."""
    if run.shown is None or not run.shown.images:
        return ""
    rows = run.shown.images
    texts = [name for name in TEXT_COLUMNS if name in rows[0]]
    names = [name for name in rows[0] if name not in TEXT_COLUMNS]
    own = len(names) - next((k for k, n in enumerate(names) if n.startswith("own_")), len(names))
    scored = [name.removeprefix("own_") for name in names]
    cells = [
        [
            *(escape(row[name] or "") for name in texts),
            _files(run, run.shown, row["id"]),
            *(run.number(row[n], score) for n, score in zip(names, scored, strict=True)),
        ]
        for row in rows
    ]
    head = ["", *("Group" for name in texts if name == "group"), ""]
    head += [escape(run.title(score)) for score in scored]
    above = f'<tr><td colspan="{len(texts) + 1}"></td>'
    above += f'<th colspan="{len(names) - own}">{run.size}</th>'
    above += f'<th colspan="{own}">at own size</th></tr>' if own else "</tr>"
    return table(head, cells, above)


def configuration(run: Run) -> str:
    """The fields of the experiment."""
    return words(row for name, value in run.fields.items() for row in _flat(name, value, 0))


def environment(run: Run) -> str:
    """The command, the versions and the machine."""
    if not run.environment:
        return note("There is no environment.json.")
    facts = {**run.environment}
    command = escape(facts.pop("command", "no command was recorded"))
    if (seconds := facts.pop("seconds", None)) is not None:
        facts["took"] = duration(seconds)
    rows = (row for name, value in facts.items() for row in _flat(name, value, 0))
    return f"<pre>{command}</pre>\n{words(rows)}"


def interval(run: Run, scores: dict[str, Any], name: str, before: str = "") -> str:
    """The 95 % interval of a score as HTML, after some words; "" if there is none."""
    low, high = scores.get(f"{name}_ci95") or (math.nan, math.nan)
    if low is None or high is None or math.isnan(low + high):
        return ""
    text = f"{before}{run.number(low, name)}–{run.number(high, name)}"
    return f'<span class="interval">{text}</span>'


def duration(seconds: float) -> str:
    """A time in hours and minutes, or in seconds if it is short."""
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def short(path: str) -> str:
    """The last part of a class's import path."""
    return path.rpartition(".")[2]


def _score(run: Run, scores: dict[str, Any], name: str) -> str:
    """A score and its interval; "" where it wasn't taken."""
    if name not in scores:
        return ""
    return f"{run.number(scores[name], name)} {interval(run, scores, name)}"


def _files(run: Run, evaluation: Evaluation, name: str) -> str:
    files = {"mask": f"predictions/{name}.png", "picture": f"overlays/{name}.jpg"}
    return " ".join(
        f'<a href="{_href(run, evaluation)}/{escape(quote(path))}">{word}</a>'
        for word, path in files.items()
        if (evaluation.folder / path).exists()
    )


def _href(run: Run, evaluation: Evaluation) -> str:
    """The evaluation's folder as the page links to it."""
    return escape(quote(evaluation.folder.relative_to(run.workdir).as_posix()))


def _flat(name: str, value: Any, depth: int) -> Iterator[tuple[int, str, str]]:
    """Depth, name and text of a value of the configuration, then of what it holds."""
    inner = {}
    match value:
        case {"class": str(kind), "fields": dict(inner)}:
            text = short(kind)
        case dict():
            text, inner = "", value
        case [*items] if any(isinstance(item, dict | list) for item in items):
            text, inner = "", {str(place): item for place, item in enumerate(items, 1)}
        case [*items]:
            text = ", ".join(map(str, items)) or "none"
        case _:
            text = "none" if value is None else str(value)
    yield depth, name, text
    for key, item in inner.items():
        yield from _flat(key, item, depth + 1)
