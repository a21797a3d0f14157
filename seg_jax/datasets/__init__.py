"""Data sets: each is a `Source` of labelled images.

`import seg_jax.datasets.builders` makes those that TFDS keeps known to it.
"""

from seg_jax.datasets.coco import COCO_SKELETON, CocoInstances, CocoKeypoints, CocoPanoptic
from seg_jax.datasets.dancers import Dancers
from seg_jax.datasets.folder import Folder
from seg_jax.datasets.lsp import Lsp
from seg_jax.datasets.mads import Mads
from seg_jax.datasets.nevi import Nevi
from seg_jax.datasets.nuclei import Nuclei
from seg_jax.datasets.ph2 import Ph2
from seg_jax.datasets.source import Source
from seg_jax.labels import VOID, Example, Labels, Part, Skeleton

__all__ = [
    "COCO_SKELETON",
    "VOID",
    "CocoInstances",
    "CocoKeypoints",
    "CocoPanoptic",
    "Dancers",
    "Example",
    "Folder",
    "Labels",
    "Lsp",
    "Mads",
    "Nevi",
    "Nuclei",
    "Part",
    "Ph2",
    "Skeleton",
    "Source",
]
