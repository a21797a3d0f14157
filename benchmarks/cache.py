"""Measures what `--cache` changes: time to load, memory, and time for a batch.

    python benchmarks/cache.py --raw PATH/TO/stage1_train
    python benchmarks/cache.py --raw PATH/TO/stage1_train --cache /tmp/cache      # twice

140 images of nuclei at 1024×1024, 881 MB. Memory is that of the process alone (RssAnon). It doesn't
include cached pages of files, which the system can take back.
"""

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from seg_jax.pipeline.batches import training_batch
from seg_jax.run.train import read_part

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))
from nuclei_panoptic import experiment as nuclei


@dataclass(frozen=True)
class Loading:
    """What to load."""

    raw: Path
    """Folder of the nuclei."""
    cache: Path | None = None
    """Folder for the resized images; in memory if not given."""
    batches: int = 50
    """How many batches of 8 to take."""


def main(loading: Loading) -> None:
    """Loads the images, takes batches, and prints memory and times."""
    data = dataclasses.replace(nuclei.data, raw=loading.raw)
    experiment = dataclasses.replace(nuclei, data=data, size=(1024, 1024), cache=loading.cache)
    start = time.perf_counter()
    examples = read_part(experiment, data.labels, "train")
    loaded = time.perf_counter() - start
    times = []
    for step in range(loading.batches):
        start = time.perf_counter()
        training_batch(examples, step, batch_size=8, seed=0)
        times.append(time.perf_counter() - start)
    status = Path("/proc/self/status").read_text().splitlines()
    (own,) = (int(line.split()[1]) / 1e6 for line in status if line.startswith("RssAnon"))
    print(
        f"loaded in {loaded:.1f} s; {own:.2f} GB of memory; a batch in "
        f"{1000 * np.median(times):.0f} ms"
    )


if __name__ == "__main__":
    main(tyro.cli(Loading))
