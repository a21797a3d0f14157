"""What the report shows of a run, read from the files in its workdir."""

import csv
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from seg_jax.errors import InputError
from seg_jax.files import read_json
from seg_jax.run.log import read_metrics
from seg_jax.run.workdir import Workdir

TEXT_COLUMNS = ("id", "group")
"""Columns of per_image.csv that aren't numbers."""
NOT_SCORES = ("step", "n", "parameters", "scales", "tile")
"""What scores.json holds beside the scores that may be a number or null."""


class Evaluation(NamedTuple):
    """A folder in WORKDIR/evaluations/."""

    folder: Path
    scores: dict[str, Any]
    """What scores.json holds."""
    images: list[dict[str, Any]]
    """The lines of per_image.csv."""

    @property
    def title(self) -> str:
        """What a person calls it."""
        return str(self.scores.get("title", self.folder.name))

    @property
    def count(self) -> str:
        """How many images of which part were scored, and how the network saw them."""
        number = self.scores.get("n", len(self.images))
        text = f"{number:,} {self.scores.get('part', 'test')} image{'s' * (number != 1)}"
        match self.scores:
            case {"tile": [int(height), int(width)]}:
                return f"{text} (seen in tiles of {height} × {width})"
            case {"scales": [*scales]} if scales not in ([], [1]):
                times = " and ".join(f"{scale:.3g}" for scale in scales)
                return f"{text} (seen at {times} times the training size)"
        return text

    @property
    def legend(self) -> dict[str, Any]:
        """`colours`, `note` and `pairs` of its pictures, all of them there."""
        return {"colours": {}, "note": "", "pairs": False} | (self.scores.get("legend") or {})

    @property
    def best(self) -> str:
        """The headline score, by which images are ranked; the first one if none is named."""
        return self.scores.get("best") or next(iter(score_names([self.scores])), "")

    @property
    def ranked(self) -> list[dict[str, Any]]:
        """The images from the lowest to the highest score, without those that have none."""
        best = self.best
        scored = (row for row in self.images if math.isfinite(row.get(best, math.nan)))
        return sorted(scored, key=lambda row: (row[best], row["id"]))


class Run(NamedTuple):
    """What a workdir holds."""

    workdir: Path
    fields: dict[str, Any]
    """The experiment's configuration."""
    score_titles: dict[str, tuple[str, int]]
    """By a score's name, its title and how many digits it has after the point."""
    environment: dict[str, Any]
    lines: list[dict[str, Any]]
    """Of metrics.jsonl."""
    evaluations: dict[str, Evaluation]
    """By the names of their folders, in order."""

    @property
    def shown(self) -> Evaluation | None:
        """The evaluation that is shown in full: "test", else the first; None if there is none."""
        first = next(iter(self.evaluations.values()), None)
        return self.evaluations.get("test", first)

    @property
    def size(self) -> str:
        """At which size the first scores of the shown evaluation were taken."""
        match self.fields.get("size"):
            # Tiles are seen at the images' own sizes.
            case _ if self.shown and self.shown.scores.get("tile"):
                return "at own size"
            case [int(height), int(width)]:
                return f"at {height} × {width}"
        return "at training size"

    def title(self, score: str) -> str:
        """A score's title; its own name in words if the run gives none. Not yet escaped."""
        return self.score_titles.get(score, (score.replace("_", " ").capitalize(), 3))[0]

    def number(self, value: float | None, score: str) -> str:
        """A value of a score, with the score's digits."""
        if value is None or math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞" if value > 0 else "-∞"
        return f"{value:.{self.score_titles.get(score, ('', 3))[1]}f}"


def read_run(workdir: Path) -> Run:
    """Reads what a run has written; what is missing is empty.

    Raises:
      InputError: if the workdir or its config.json is missing, or a file in it is broken.
    """
    if not workdir.is_dir():
        raise InputError(f"{workdir}: no such folder; name the workdir of a run")
    files = Workdir(workdir)
    config = _read_json(files.config)
    if config is None:
        raise InputError(f"{files.config} is missing; name the workdir of a run")
    # An evaluation without scores.json isn't finished.
    folders = sorted(path.parent for path in files.evaluations.glob("*/scores.json"))
    return Run(
        workdir,
        config.get("fields", {}),
        _titles(config.get("scores", {})),
        _read_json(files.environment) or {},
        read_metrics(files.metrics),
        {folder.name: _read_evaluation(folder) for folder in folders},
    )


def score_names(scores: Iterable[dict[str, Any]]) -> list[str]:
    """Names of the scores among all that is kept with them, in order, each once."""
    names = dict.fromkeys(
        name
        for each in scores
        for name, value in each.items()
        if value is None or isinstance(value, int | float)
    )
    return [name for name in names if name not in NOT_SCORES and not name.endswith("_ci95")]


def _titles(scores: dict[str, Any]) -> dict[str, tuple[str, int]]:
    titles = {}
    for name, value in scores.items():
        match value:
            case [str(title), int(digits)] if 0 <= digits < 10:
                titles[name] = (title, digits)
    return titles


def _read_evaluation(folder: Path) -> Evaluation:
    return Evaluation(
        folder, read_json(folder / "scores.json"), _read_rows(folder / "per_image.csv")
    )


def _read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {
                name: value if name in TEXT_COLUMNS else float(value or "nan")
                for name, value in row.items()
            }
            for row in csv.DictReader(file)
        ]


def _read_json(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.exists() else None
