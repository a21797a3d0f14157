"""Data sets: each a source of labelled images, those with records of their own known to TFDS.

`import seg_jax.datasets` is enough for `tfds.data_source("ph2", split="full")`, likewise "mads" and
"nevi".
"""

from seg_jax.datasets.coco import COCO_SKELETON, CocoInstances, CocoKeypoints, CocoPanoptic
from seg_jax.datasets.dancers import Dancers
from seg_jax.datasets.folder import Folder
from seg_jax.datasets.lsp import Lsp
from seg_jax.datasets.mads import Mads
from seg_jax.datasets.nevi import Nevi, nevi_dataset_builder  # noqa: F401 (registers "nevi")
from seg_jax.datasets.nuclei import Nuclei
from seg_jax.datasets.ph2 import Ph2
from seg_jax.datasets.source import VOID, Example, Part, Skeleton, Source

__all__ = [
    "COCO_SKELETON",
    "VOID",
    "CocoInstances",
    "CocoKeypoints",
    "CocoPanoptic",
    "Dancers",
    "Example",
    "Folder",
    "Lsp",
    "Mads",
    "Nevi",
    "Nuclei",
    "Part",
    "Ph2",
    "Skeleton",
    "Source",
]
