"""Data sets: each a source of labelled images, those with records of their own known to TFDS.

`import seg_jax.datasets` is enough for `tfds.data_source("ph2", split="full")`, likewise "mads" and
"nevi".
"""

from seg_jax.datasets.dancers import Dancers
from seg_jax.datasets.folder import Folder
from seg_jax.datasets.mads import Mads
from seg_jax.datasets.nevi import Nevi, nevi_dataset_builder  # noqa: F401 (registers "nevi")
from seg_jax.datasets.ph2 import Ph2
from seg_jax.datasets.source import VOID, Example, Part, Skeleton, Source

__all__ = [
    "VOID",
    "Dancers",
    "Example",
    "Folder",
    "Mads",
    "Nevi",
    "Part",
    "Ph2",
    "Skeleton",
    "Source",
]
