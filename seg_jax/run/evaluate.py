"""Scores runs on a data set and writes what they found: an evaluation is a folder of its own.

    WORKDIR/evaluations/NAME/scores.json      means with intervals, by class, by group
    WORKDIR/evaluations/NAME/per_image.csv    the scores of each image
    WORKDIR/evaluations/NAME/predictions/     masks, and COCO's JSON where there are objects
    WORKDIR/evaluations/NAME/overlays/        pictures of them

NAME is "test" for the run's own test part at its own settings; everything else has another name,
so nothing overwrites the test.
"""

import csv
import dataclasses
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
from tqdm import tqdm

from seg_jax.datasets.folder import Folder
from seg_jax.datasets.source import Source
from seg_jax.errors import InputError
from seg_jax.export.coco import CocoFiles
from seg_jax.export.overlay import write_overlay
from seg_jax.export.predictions import save, save_probabilities
from seg_jax.files import write_json, write_whole
from seg_jax.inference.evaluate import row, score, summary
from seg_jax.labels import Example, Labels, Part
from seg_jax.run.config import Experiment
from seg_jax.run.load import Step, compose, read_runs
from seg_jax.run.read import read_experiment
from seg_jax.run.workdir import Workdir
from seg_jax.tasks import Task

Parts = Part | Literal["all"]
"""A part of a data set, or all of them together."""


class Settings(NamedTuple):
    """How runs are evaluated; what isn't given is as the run itself says."""

    part: Parts | None = None
    """Part of the data set: "test" if not given, but all of a folder named by `data`."""
    data: Path | None = None
    """Other data of the same labels: a folder with images/ and masks/, an experiment file, or the
    folder of a run."""
    step: Step = "best"
    """Which weights."""
    scales: tuple[float, ...] | None = None
    """Multiples of the training size at which predictions are averaged."""
    tile: tuple[int, int] | None = None
    """Height and width of tiles in which images are seen at their own size."""
    overlap: float = 0.5
    """Of neighbouring tiles, as a fraction of the tile."""
    probabilities: Literal["npy", "png"] | None = None
    """Also write the probabilities, in this format."""


def evaluate(runs: Sequence[Path], settings: Settings | None = None) -> tuple[Path, dict[str, Any]]:
    """Scores what one run has learnt, or several as an ensemble, and writes what it found.

    Args:
      runs: folders; the evaluation is written into the first.
      settings: what is scored, and how.

    Returns:
      The folder of the evaluation, and what its scores.json holds (there, null stands for NaN).

    Raises:
      InputError: if a run or its data can't be read, or the data have other labels.
    """
    settings = settings or Settings()
    learnt = read_runs(runs, settings.step)
    predictor = compose(
        learnt, scales=settings.scales, tile=settings.tile, overlap=settings.overlap
    )
    experiment, labels, variables, step = learnt[0]
    data, part = _data(experiment, labels, settings)
    name, title = _named(runs, settings, part)
    folder = Workdir(Path(runs[0]).expanduser()).evaluation(name)
    parts = get_args(Part) if part == "all" else (part,)
    entries: dict[str, Any] = {}
    examples = _examples(data, parts, entries)
    coco = CocoFiles(labels, predictor.task.finds)
    rows, scored = [], []
    for example, found, one in score(predictor, tqdm(examples, desc=title, unit="image")):
        rows.append(row(predictor, one))
        scored.append(one)
        save(folder, example.id, labels, found)
        if settings.probabilities:
            save_probabilities(folder, example.id, found.probabilities, settings.probabilities)
        picture = predictor.task.picture(labels, found, example.image, example)
        write_overlay(folder, example.id, picture)
        entry = entries.get(example.id, {"file_name": example.id})
        coco.add(example.id, entry, example.image, found)
    if not rows:
        raise InputError(f"data: the {part} part holds no image; name another part")
    coco.write(folder)

    scores = {
        "title": title,
        "part": part,
        "step": step,
        "n": len(rows),
        "best": predictor.task.best(labels),
    }
    if settings.tile is None:
        scores["scales"] = list(settings.scales or experiment.test_scales)
    else:
        scores["tile"] = list(settings.tile)
    scores |= summary(predictor, scored)
    scores["parameters"] = sum(x.size for x in jax.tree.leaves(variables["params"]))
    scores["note"] = predictor.task.score_note(labels)
    scores["legend"] = predictor.task.legend(labels)._asdict()
    _write_table(folder / "per_image.csv", rows)
    write_json(folder / "scores.json", scores, indent=2)
    return folder, scores


def _examples(data: Source, parts: Sequence[Part], entries: dict[str, Any]) -> Iterator[Example]:
    """The examples of some parts; ids that come again get their part's name before them.

    Args:
      data: the data set.
      parts: of it.
      entries: gets the images' entries in COCO's files, by the ids of the examples.
    """
    seen = set()
    for part in parts:
        of_part = data.image_entries(part)
        for example in data.read(part):
            name = f"{part}-{example.id}" if example.id in seen else example.id
            if name in seen:
                raise InputError(f"data: two images are called {example.id}; rename one")
            seen.add(name)
            if example.id in of_part:
                entries[name] = of_part[example.id]
            yield example._replace(id=name)


def one_line(scores: dict[str, Any], task: Task) -> str:
    """The first three scores and their intervals: "Dice 0.9668 [0.959, 0.973], …"."""
    shown = [name for name, value in scores.items() if isinstance(value, float) and name != "loss"]
    return ", ".join(_score(scores, name, task) for name in shown[:3])


def _score(scores: dict[str, Any], name: str, task: Task) -> str:
    title = task.score_names[name].title if name in task.score_names else name
    interval = scores.get(f"{name}_ci95")
    return f"{title} {scores[name]:.4f}" + (
        f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
    )


def _data(experiment: Experiment, labels: Labels, settings: Settings) -> tuple[Source, Parts]:
    """What is scored: a data set and its part.

    Raises:
      InputError: if the data have other labels, or other channels, than the run.
    """
    if settings.data is None:
        return experiment.data, settings.part or "test"
    path, part = settings.data.expanduser(), settings.part or "test"
    if not path.exists():
        raise InputError(
            f"--data: {path} doesn't exist; name a folder with images/ and masks/, an experiment "
            "file or a run's folder"
        )
    if path.is_dir() and not Workdir(path).config.exists():
        if isinstance(experiment.data, Folder):  # with the run's own void, for example
            data = dataclasses.replace(experiment.data, path=path, csv=None)
        else:
            data = Folder(
                path=path,
                classes=labels.classes,
                instances=bool(labels.things) and labels.binary,
                channels=experiment.data.channels,
            )
        part = settings.part or "all"
    else:
        data = read_experiment(path).data
    for field in ("classes", "segments", "things", "skeleton"):
        ours, theirs = (getattr(each, field) for each in (labels, data.labels))
        if ours != theirs:
            raise InputError(
                f"--data {path}: its {field} are {theirs}, but the run has learnt {ours}; name "
                "data of the same labels"
            )
    if data.channels != experiment.data.channels:
        raise InputError(
            f"--data {path}: its images have {data.channels} channels, but the run has learnt from "
            f"{experiment.data.channels}; set its channels to {experiment.data.channels}"
        )
    return data, part


def _named(runs: Sequence[Path], settings: Settings, part: Parts) -> tuple[str, str]:
    """The name of an evaluation's folder, and its title."""
    names, titles = [part], [part]
    if settings.data is not None:
        other = settings.data.expanduser().absolute()
        names.append(f"of-{other.name}")
        titles[0] = f"{part} of {other.name}"
    if settings.step != "best":
        names.append(f"step-{settings.step}")
        titles.append(f"step {settings.step}" if isinstance(settings.step, int) else settings.step)
    if settings.scales is not None:
        numbers = [f"{scale:.4g}" for scale in settings.scales]
        names += ["scales", *numbers]
        titles.append(f"at {' and '.join(numbers)} times the training size")
    if settings.tile is not None:
        height, width = settings.tile
        names.append(f"tile-{height}x{width}-overlap-{settings.overlap:g}")
        titles.append(f"tiles of {height} × {width}")
    if len(runs) > 1:
        members = [Path(run).absolute().name for run in runs]
        names.append("ensemble-" + "-".join(members))
        titles.append(f"ensemble of {', '.join(members)}")
    # A folder's name on every system, which has at most 255 bytes there.
    name = re.sub(r"[^\w.-]", "_", "-".join(names)).encode()[:180].decode(errors="ignore")
    if settings.data is not None or len(runs) > 1:
        # Other folders may have the same last names.
        paths = [settings.data, *runs]
        absolute = [path and str(Path(path).expanduser().absolute()) for path in paths]
        name += f"-{hashlib.sha256(repr(absolute).encode()).hexdigest()[:6]}"
    return name, ", ".join(titles)


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the scores of each image as CSV."""
    text, names = io.StringIO(), list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())
