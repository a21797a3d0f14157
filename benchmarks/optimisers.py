"""Compares two optimisers after the same few steps of `experiments/dancers_panoptic.py`.

    pip install -e . && python benchmarks/optimisers.py

Network, images, their order and augmentation are the same. Each run has a complete learning-rate
schedule of its own, and is scored on the validation part at its end.
"""

import dataclasses
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from seg_jax.optimiser import AdamW, Muon
from seg_jax.parallel import make_mesh
from seg_jax.run.log import read_metrics
from seg_jax.run.train import read_part, train

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
from dancers_panoptic import experiment as panoptic


@dataclass(frozen=True)
class Contest:
    """What to compare, and for how long."""

    steps: int = 250
    """Steps of every run."""
    adamw: tuple[float, ...] = (2e-3, 5e-3)
    """AdamW's learning rates."""
    muon: tuple[float, ...] = (0.01, 0.03)
    """Muon's learning rates."""


def main(contest: Contest) -> None:
    """Trains with each optimiser in turn, and prints a line for each."""
    batch_size = panoptic.batch_size
    shown = dataclasses.replace(panoptic.data, train=contest.steps * batch_size)
    experiment = dataclasses.replace(panoptic, data=shown, epochs=1)
    labels = experiment.data.labels
    parts = [read_part(experiment, labels, part) for part in ("train", "val")]
    mesh = make_mesh(experiment.parallel)
    for optimiser in (*map(AdamW, contest.adamw), *map(Muon, contest.muon)):
        run = dataclasses.replace(experiment, optimiser=optimiser)
        with tempfile.TemporaryDirectory() as folder:
            train(run, labels, *parts, Path(folder), mesh)
            *_, before, scores = read_metrics(Path(folder) / "metrics.jsonl")
        of = {"optimiser": type(optimiser).__name__, "learning_rate": optimiser.learning_rate}
        of |= {name: round(scores[f"val_{name}"], 4) for name in ("loss", "pq", "dice")}
        of["ms_a_step"] = round(1000 * batch_size / before["images_per_second"])
        print(json.dumps(of), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Contest))
