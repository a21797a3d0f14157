"""The HTML page of a run, finished or not."""

import base64
import csv
import math
from collections.abc import Iterable, Iterator
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from seg_jax.errors import InputError
from seg_jax.export.overlay import PREDICTED, TRUE, UNKNOWN, class_colour
from seg_jax.files import read_json
from seg_jax.report.figures import curve, dots
from seg_jax.run.log import read_metrics

SHOWN = 6  # pictures a group
LABELS = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95 (px)",
    "assd": "ASSD (px)",
    "pq": "PQ",
    "sq": "SQ",
    "rq": "RQ",
    "ap50_bowl": "AP50 of the 2018 Bowl",
    "ap_bowl": "AP of the 2018 Bowl",
    "mask_ap": "Mask AP (COCO)",
    "mask_ap50": "Mask AP50 (COCO)",
    "mask_ap75": "Mask AP75 (COCO)",
    "ap": "OKS AP (COCO)",
    "ap50": "OKS AP50 (COCO)",
    "ap75": "OKS AP75 (COCO)",
    "ar": "OKS AR (COCO)",
    "pck": "PCK@0.2",
    "pq_ap": "Mean of PQ and OKS AP",
    "tp": "TP",
    "fp": "FP",
    "fn": "FN",
}
COUNTS = ("tp", "fp", "fn", "found", "true")
DISTANCES = ("hd95", "assd")
CURVES = {
    "Loss": {"loss": "training", "val_loss": "validation"},
    "Learning rate": {"learning_rate": ""},
    "Gradient norm": {"grad_norm": ""},
    "Images per second": {"images_per_second": ""},
    "Waiting for data, fraction of the time": {"data_wait": ""},
}


class Run(NamedTuple):
    """What a workdir holds, read once."""

    workdir: Path
    fields: dict[str, Any]
    """The experiment's configuration."""
    environment: dict[str, Any]
    lines: list[dict[str, Any]]
    scores: dict[str, Any] | None
    """None until the run is scored."""
    images: list[dict[str, Any]]

    @property
    def by_class(self) -> bool:
        """Whether colours in pictures stand for classes, not for the truth or for objects."""
        return self.of_regions and bool((self.scores or {}).get("per_class"))

    @property
    def of_regions(self) -> bool:
        """Whether pictures show regions, not objects or skeletons."""
        return str(self.fields.get("task", {}).get("class", "Semantic")).endswith("Semantic")

    @property
    def best(self) -> str:
        """The score by which images are ranked."""
        return (self.scores or {}).get("best", "dice")


def write_report(workdir: Path) -> Path:
    """Writes `workdir/report.html`: one file that needs no other to be read.

    Whatever the run has not written yet is named on the page as missing.

    Raises:
      InputError: if the workdir or its config.json is missing, or a file in it is broken.
    """
    run = _read(Path(workdir))
    sections = {
        "Scores": _scores(run),
        "Classes": _classes(run),
        "Learning curves": _curves(run),
        f"{_label(run.best)} of each image": _distribution(run),
        "Pictures": _pictures(run),
        "All images": _images(run),
        "Configuration": _configuration(run),
        "Environment": _environment(run),
    }
    path = run.workdir / "report.html"
    path.write_text(_page(run, {title: body for title, body in sections.items() if body}), "utf-8")
    return path


def _page(run: Run, sections: dict[str, str]) -> str:
    name = escape(str(run.fields.get("name", run.workdir.name)))
    anchors = {title: title.lower().replace(" ", "-") for title in sections}
    links = " ".join(f'<a href="#{anchors[title]}">{title}</a>' for title in sections)
    bodies = "\n".join(
        f'<section id="{anchors[title]}">\n<h2>{title}</h2>\n{body}\n</section>'
        for title, body in sections.items()
    )
    style = resources.files("seg_jax.report").joinpath("report.css").read_text("utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{name}</h1>
{_summary(run)}
<nav>{links}</nav>
</header>
<main>
{bodies}
</main>
</body>
</html>
"""


def _read(workdir: Path) -> Run:
    if not workdir.is_dir():
        raise InputError(f"{workdir}: no such folder; name the workdir of a run")
    config = _read_json(workdir / "config.json")
    if config is None:
        raise InputError(f"{workdir / 'config.json'} is missing; name the workdir of a run")
    environment = _read_json(workdir / "environment.json") or {}
    scores = _read_json(workdir / "scores.json")
    lines, images = read_metrics(workdir / "metrics.jsonl"), _read_rows(workdir / "per_image.csv")
    return Run(workdir, config.get("fields", {}), environment, lines, scores, images)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: value if key == "id" else float(value or "nan") for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def _read_json(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.exists() else None


def _summary(run: Run) -> str:
    facts = []
    match run.fields:
        case {"model": {"class": net}, "data": {"class": data}}:
            facts.append(f"{_short(net)} on {_short(data)}")
    if run.scores is None:
        return _note(" · ".join([*facts, _reached(run)]))
    if "parameters" in run.scores:
        facts.append(f"{run.scores['parameters']:,} parameters")
    took = run.environment.get("seconds")
    facts.append(_reached(run) if took is None else f"finished in {_duration(took)}")
    interval = _interval(run.scores, run.best, "95 % interval ")
    return f"""{_note(" · ".join(facts))}
<p class="score"><strong>{_number(run.scores.get(run.best))}</strong> {_label(run.best)}
<span>{interval} {escape(_count(run))}</span></p>"""


def _reached(run: Run) -> str:
    last = run.lines[-1] if run.lines else {}
    if not _has(last, "step"):
        return "not finished"
    reached = f"not finished, last heard of at step {last['step']:,}"
    if _has(last, "epoch") and _has(run.fields, "epochs"):
        reached += f" (epoch {last['epoch']:.0f} of {run.fields['epochs']})"
    return reached


def _count(run: Run) -> str:
    number = run.scores.get("n", len(run.images))
    count = f"{number:,} {run.scores.get('part', 'test')} image{'s' * (number != 1)}"
    scales = run.scores.get("scales", [1])
    times = " and ".join(f"{scale:.3g}" for scale in scales)
    return count + (f" (seen at {times} times the training size)" if scales != [1] else "")


def _scores(run: Run) -> str:
    if run.scores is None:
        return _note("The run is not finished: there are no scores yet.")
    sizes = {_size(run): run.scores}
    if "own_size" in run.scores:
        sizes["at own size"] = run.scores["own_size"]
    names = dict.fromkeys(name for scores in sizes.values() for name in _named(scores))
    rows = [[_label(name), *(_score(scores, name) for scores in sizes.values())] for name in names]
    return _table(["", *sizes], rows) + _note(
        f"Means over {_count(run)}, each counting once, with 95 % bootstrap intervals."
        if run.of_regions
        else f"Over {_count(run)} together; 95 % intervals by drawing images anew (bootstrap)."
    )


def _named(scores: dict[str, Any]) -> list[str]:
    """Names of the scores among all that is kept with them."""
    known = (name for name, value in scores.items() if value is None or _has(scores, name))
    return [name for name in known if name not in ("n", "parameters", "step")]


def _score(scores: dict[str, Any], name: str) -> str:
    return f"{_number(scores[name], name)} {_interval(scores, name)}" if name in scores else ""


def _size(run: Run) -> str:
    match run.fields.get("size"):
        case [height, width]:
            return f"at {height} × {width}"
    return "at training size"


def _classes(run: Run) -> str:
    classes = (run.scores or {}).get("per_class", {})
    names = list(dict.fromkeys(name for values in classes.values() for name in _named(values)))
    rows = [
        [
            _swatch(class_colour(index), title) if run.by_class else escape(title),
            *(_number(classes[title].get(n), n) for n in names),
        ]
        for index, title in enumerate(classes)
    ]
    return _table(["", *map(_label, names)], rows) if rows else ""


def _curves(run: Run) -> str:
    axis = "epoch" if all("epoch" in line for line in run.lines) else "step"
    panels = []
    logged = dict.fromkeys(name for line in run.lines for name in line)
    scores = [name for name in logged if name.startswith("val_") and name != "val_loss"][:2]
    validation = {name: _label(name.removeprefix("val_")) for name in scores}
    curves = {"Loss": CURVES["Loss"], "Validation score": validation} | CURVES
    for title, names in curves.items():
        # A resumed run may log a step twice; the later line is the one that counted.
        series = {
            label: {line[axis]: line[name] for line in run.lines if _has(line, axis, name)}
            for name, label in names.items()
        }
        if any(series.values()):
            panels.append(curve(title, axis, series))
    if not panels:
        return _note("Nothing has been logged yet.")
    note = ""
    if not scores:
        yet = "There has been no validation yet."
        note = _note("There is no validation part in this protocol." if run.scores else yet)
    return f'<div class="curves">{"".join(panels)}</div>{note}'


def _has(line: dict[str, Any], *names: str) -> bool:
    return all(isinstance(line.get(name), int | float) for name in names)


def _distribution(run: Run) -> str:
    ranked = _ranked(run)
    if not ranked:
        return ""
    values = np.array([row[run.best] for row in ranked])
    first, middle, third = (_number(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    text = f"One dot an image. Median {middle} (the line), quartiles {first} and {third}, "
    text += f"lowest {_number(values[0])} ({ranked[0]['id']})."
    if len(run.images) > len(ranked):
        text += f" Without a {_label(run.best)}: {len(run.images) - len(ranked)}."
    return f'<figure class="dots">{dots(values, _label(run.best), text)}</figure>{_note(text)}'


def _ranked(run: Run) -> list[dict[str, Any]]:
    """Images from the worst to the best score, without those that have none."""
    scored = (row for row in run.images if math.isfinite(row.get(run.best, math.nan)))
    return sorted(scored, key=lambda row: (row[run.best], row["id"]))


def _pictures(run: Run) -> str:
    ranked = _ranked(run)
    middle = (len(ranked) - SHOWN) // 2
    groups = {
        "Worst": ranked[:SHOWN],
        "Around the median": ranked[middle : middle + SHOWN],
        "Best": ranked[: -SHOWN - 1 : -1],
    }
    if len(ranked) < 3 * SHOWN:
        groups = {"All, the worst first": ranked}
    page = _legend(run)
    kind = "pictures" if run.of_regions and not run.by_class else "pictures pairs"
    for title, rows in groups.items():
        pictures = "".join(_picture(run, row) for row in rows)
        page += f'\n<h3>{title}</h3>\n<div class="{kind}">\n{pictures}</div>'
    return page if ranked else ""


def _legend(run: Run) -> str:
    if not run.of_regions:
        return _note("Left: predicted, each object or person in a colour of its own. Right: true.")
    classes = (run.scores or {}).get("per_class")
    keys = {"predicted": PREDICTED, "true": TRUE}
    if classes:
        keys = {name: class_colour(i) for i, name in enumerate(classes) if name != "background"}
    swatches = " ".join(_swatch(rgb, name) for name, rgb in {**keys, "unknown": UNKNOWN}.items())
    sides = _note("Left: predicted. Right: true.") if classes else ""
    return f'<p class="legend">{swatches}</p>{sides}'


def _swatch(colour: tuple[int, int, int], name: str) -> str:
    return f'<span class="key"><i style="background: rgb{colour}"></i>{escape(name)}</span>'


def _picture(run: Run, row: dict[str, Any]) -> str:
    name, score = escape(row["id"]), f"{_label(run.best)} {_number(row[run.best])}"
    path = run.workdir / "overlays" / f"{row['id']}.jpg"
    shown = _note("no picture")
    if path.exists():
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        alt = f"{name} with its predicted and true regions, {score}"
        shown = f'<img src="data:image/jpeg;base64,{data}" alt="{alt}">'
    return f"<figure>{shown}<figcaption>{name} <span>{score}</span></figcaption></figure>\n"


def _images(run: Run) -> str:
    if not run.images:
        return ""
    names = [name for name in run.images[0] if name != "id"]
    own = len(names) - next((k for k, n in enumerate(names) if n.startswith("own_")), len(names))
    head = ["", "", *(_label(name.removeprefix("own_")) for name in names)]
    rows = [
        [escape(row["id"]), _files(run, row["id"]), *(_number(row[n], n) for n in names)]
        for row in run.images
    ]
    over = f'<tr><td colspan="2"></td><th colspan="{len(names) - own}">{_size(run)}</th>'
    over += f'<th colspan="{own}">at own size</th></tr>' if own else "</tr>"
    return _table(head, rows, over)


def _files(run: Run, name: str) -> str:
    files = {"mask": f"predictions/{name}.png", "picture": f"overlays/{name}.jpg"}
    return " ".join(
        f'<a href="{escape(quote(path))}">{word}</a>'
        for word, path in files.items()
        if (run.workdir / path).exists()
    )


def _configuration(run: Run) -> str:
    return _words(row for name, value in run.fields.items() for row in _flat(name, value, 0))


def _words(rows: Iterable[tuple[int, str, str]]) -> str:
    """A table of names and values, each name indented by its depth."""
    body = "".join(
        f'<tr><th scope="row" style="padding-left: {1.25 * depth}rem">{escape(name)}</th>'
        f"<td>{escape(value)}</td></tr>\n"
        for depth, name, value in rows
    )
    return f'<table class="words">\n{body}</table>'


def _flat(name: str, value: Any, depth: int) -> Iterator[tuple[int, str, str]]:
    """Depth, name and text of a value of the configuration, then of what it holds."""
    inner = {}
    match value:
        case {"class": kind, "fields": inner}:
            text = _short(kind)
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


def _short(path: str) -> str:
    return path.rpartition(".")[2]


def _environment(run: Run) -> str:
    if not run.environment:
        return _note("There is no environment.json.")
    facts = {**run.environment}
    command = escape(facts.pop("command", "no command was recorded"))
    if (seconds := facts.pop("seconds", None)) is not None:
        facts["took"] = _duration(seconds)
    rows = (row for name, value in facts.items() for row in _flat(name, value, 0))
    return f"<pre>{command}</pre>\n{_words(rows)}"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _label(name: str) -> str:
    return LABELS.get(name, escape(name.replace("_", " ").capitalize()))


def _number(value: float | None, name: str = "") -> str:
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if name.removeprefix("own_") in COUNTS:
        return f"{value:.0f}"
    return f"{value:.2f}" if name.removeprefix("own_") in DISTANCES else f"{value:.3f}"


def _interval(scores: dict[str, Any], name: str, words: str = "") -> str:
    low, high = scores.get(f"{name}_ci95") or (math.nan, math.nan)
    if low is None or high is None or math.isnan(low + high):
        return ""
    text = f"{words}{_number(low, name)}–{_number(high, name)}"
    return f'<span class="interval">{text}</span>'


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _table(head: Iterable[str], rows: Iterable[list[str]], over: str = "") -> str:
    top = "".join(f'<th scope="col">{name}</th>' if name else "<td></td>" for name in head)
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="wide"><table>\n<thead>{over}<tr>{top}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
