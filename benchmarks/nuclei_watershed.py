"""The classic way to separate nuclei, to compare with `experiments/nuclei_panoptic.py`.

    pip install -e .[test] && python benchmarks/nuclei_watershed.py --raw PATH/TO/stage1_train

The same U-Net on the same split, with the same recipe, learns three classes: background, inside and
border. The pixels of class inside are split into connected components. These grow over the border
by a watershed on the probability of inside. As there, objects below `min_area` are dropped. All
of this is done at the training size, because borders disappear in smaller maps. Scores are those at
the images' own size.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro
from scipy import ndimage
from skimage.segmentation import watershed

import seg_jax
from seg_jax import cli
from seg_jax.datasets import Nuclei
from seg_jax.found import Segments
from seg_jax.metrics import segments
from seg_jax.metrics.segments import Matches
from seg_jax.resize import resize_label
from seg_jax.tasks import Semantic

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
from nuclei_panoptic import experiment as panoptic

MIN_AREA = panoptic.task.min_area


@dataclass(frozen=True)
class Baseline:
    """What to train and score."""

    raw: Path
    """Folder of the nuclei."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds, one run each."""


def parted(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities (H, W, 3) of background, inside and border to the objects' numbers (H, W)."""
    label = probabilities.argmax(-1)
    seeds, _ = ndimage.label(label == 1)
    found = watershed(-probabilities[..., 1], seeds, mask=label > 0)
    area = np.bincount(found.ravel())
    return np.where(area[found] >= MIN_AREA, found, 0)


def objects(number: np.ndarray) -> Segments:
    """Objects of one category, all with the score 1."""
    category = (np.arange(number.max() + 1) > 0).astype(np.int32)
    return Segments(jnp.asarray(number, jnp.int32), jnp.asarray(category), jnp.asarray(category))


def main(baseline: Baseline) -> None:
    """Trains, separates the nuclei and scores them."""
    for seed in baseline.seeds:
        experiment = dataclasses.replace(
            panoptic,
            name=f"nuclei_watershed_{seed}",
            data=Nuclei(raw=baseline.raw, borders=True),
            task=Semantic(panoptic.task.loss),
            seed=seed,
        )
        cli.run_experiment(experiment)
        network = seg_jax.load(experiment.folder)
        matches = []
        for example in experiment.data.read("test"):
            (maps,) = network.maps([example.image])
            number = parted(np.asarray(maps))
            found = objects(resize_label(number, example.label.shape))
            true = objects(example.instance)
            valid = jnp.ones(example.label.shape, bool)
            shared = segments.shared_pixels(found, true, valid)
            matches.append(segments.matches(shared, 1))
        quality = segments.panoptic_quality(
            Matches(*(np.sum(x, axis=0) for x in zip(*matches, strict=True)))
        )
        scores = {name: round(float(values[0]), 4) for name, values in quality.items()}
        bowl = np.mean([segments.bowl_precision(m) for m in matches])
        print(json.dumps({"seed": seed, "ap50_bowl": round(float(bowl), 4), **scores}), flush=True)


if __name__ == "__main__":
    with cli.plain_errors(goes_on=True):
        main(tyro.cli(Baseline))
