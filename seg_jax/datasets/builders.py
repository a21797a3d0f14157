"""Makes "ph2", "mads" and "nevi" known to TFDS; importing this module is enough.

import seg_jax.datasets.builders
import tensorflow_datasets as tfds

records = tfds.data_source("ph2", split="full")
"""

# TFDS registers a builder when its class is defined.
from seg_jax.datasets.mads import mads_dataset_builder
from seg_jax.datasets.nevi import nevi_dataset_builder
from seg_jax.datasets.ph2 import ph2_dataset_builder

__all__ = ["mads_dataset_builder", "nevi_dataset_builder", "ph2_dataset_builder"]
