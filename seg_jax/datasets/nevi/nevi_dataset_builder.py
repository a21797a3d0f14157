"""TFDS builder of "nevi": the pictures that `seg_jax.datasets.nevi.Nevi` draws, on disk.

import seg_jax.datasets.builders
import tensorflow_datasets as tfds

parts = tfds.data_source("nevi/256")
"""

import dataclasses
import io
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from seg_jax.datasets.nevi import DIAGNOSES, Nevi, draw_nevus, picture_index
from seg_jax.labels import Part


@dataclasses.dataclass
class NeviConfig(tfds.core.BuilderConfig):
    """Which pictures are written."""

    source: Nevi = dataclasses.field(default_factory=Nevi)
    """The data set; its parts are the splits."""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Draws 200 training, 20 validation and 60 test pictures."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        NeviConfig(
            name=str(size), description=f"Pictures of {size}×{size} pixels.", source=Nevi(size=size)
        )
        for size in (256, 128, 512)
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.source.size
        info = self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3)),
                    "mask": tfds.features.Image(shape=(size, size, 1)),
                    "id": tfds.features.Text(),
                    "diagnosis": tfds.features.ClassLabel(names=DIAGNOSES),
                }
            ),
            supervised_keys=("image", "mask"),
        )
        # TFDS's own default, TFRecord, needs TensorFlow to be written.
        info.set_file_format("array_record")
        return info

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager
        return {part: self._generate_examples(part) for part in ("train", "val", "test")}

    def _generate_examples(self, part: Part) -> Iterator[tuple[str, dict]]:
        source = self.builder_config.source
        for position in range(getattr(source, part)):
            index = picture_index(part, position)
            nevus = draw_nevus(source.seed, index, source.size)
            name = f"nevus{index:04d}"
            yield (
                name,
                {
                    "image": _png(nevus.image),
                    "mask": _png(nevus.mask),
                    "id": name,
                    "diagnosis": nevus.diagnosis,
                },
            )


def _png(pixels: np.ndarray) -> io.BytesIO:
    # TFDS needs TensorFlow to encode arrays, but stores files as they are.
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return io.BytesIO(file.getvalue())
