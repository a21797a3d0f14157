"""Plans the training of two published networks on TPU slices, without having these slices.

    pip install -e .[tpu] && python benchmarks/plan_slices.py

The networks are `original_unet` and `original_segnet` in bfloat16, on RGB images with one map,
trained by AdamW with flips and quarter turns. Each plan is a compilation by the TPU compiler, which
takes minutes on 2 CPU cores. Results are kept, so the same command continues after a stop.
`--search` also looks for the largest batch of a device, which depends on the kind of device and
hardly on their number.
"""

import os
from dataclasses import dataclass
from typing import Literal

import jax
import tyro

from seg_jax import models
from seg_jax.datasets import Nevi
from seg_jax.pipeline.augment import Augment
from seg_jax.plan import plan
from seg_jax.run.config import Experiment

Net = Literal["original_unet", "original_segnet"]


@dataclass(frozen=True)
class Slices:
    """What to plan."""

    nets: tuple[Net, ...] = ("original_unet", "original_segnet")
    """Networks."""
    sizes: tuple[int, ...] = (256, 512)
    """Heights and widths of the images."""
    topologies: tuple[str, ...] = ("v5e:2x2", "v5e:4x4", "v5e:16x16", "v4:2x2x1", "v6e:2x2")
    """TPU slices."""
    pixels: int = 2**20
    """Pixels of each device's share of the batch: 16 images of 256² or 4 of 512²."""
    search: bool = False
    """Look for the largest batch that fits, plain and rematerialised."""


def main(slices: Slices) -> None:
    """Prints a plan for every network, size and slice."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    jax.config.update("jax_platforms", "cpu")
    for topology in slices.topologies:
        devices = plan.mesh_of(topology, 1).size
        for net in slices.nets:
            for size in slices.sizes:
                experiment = Experiment(
                    name=net,
                    model=getattr(models, net)(dtype="bfloat16"),
                    data=Nevi(),
                    size=(size, size),
                    batch_size=devices * max(1, slices.pixels // size**2),
                    augment=Augment(flip=True, rotate90=True),
                )
                print(plan.plan(experiment, topology=topology, search=slices.search), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Slices))
