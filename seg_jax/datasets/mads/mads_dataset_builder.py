"""MADS: 1,192 video frames of people with body masks, as a TFDS builder without TensorFlow."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from seg_jax.datasets.lists import first_few
from seg_jax.datasets.mads import FETCH, FILES, HOMEPAGE, IDS
from seg_jax.datasets.tfds_source import encoded_pair, unpacked
from seg_jax.errors import InputError


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of MADS: one split, "full", in the order of the frames' names."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}  # noqa: RUF012
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="complete", description="All 1,192 frames."),
        tfds.core.BuilderConfig(name="partial", description="The frames of a partial copy."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{FETCH} Put it or the unpacked folder into the manual directory."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "mask": tfds.features.Image(
                shape=(None, None, 1), encoding_format="png", doc="1 on the person, else 0."
            ),
            "id": tfds.features.Text(),
            "action": tfds.features.Text(),
            "clip": tfds.features.Text(doc="Clip of the action: three cameras saw each."),
            "camera": tfds.features.Scalar(np.int32),
            "frame": tfds.features.Scalar(np.int32, doc="Position in the clip."),
        }
        info = self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "mask"),
            homepage=HOMEPAGE,
            disable_shuffling=True,
        )
        # TFDS's own default, TFRecord, needs TensorFlow to be written.
        info.set_file_format("array_record")
        return info

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return {"full": self._generate_examples(Path(os.fspath(dl_manager.manual_dir)))}

    def _generate_examples(self, raw: Path) -> Iterator[tuple[str, dict]]:
        with unpacked(raw, FILES) as folder:
            images, masks = _files(folder, "images"), _files(folder, "masks")
            for what, these, those in (("mask", images, masks), ("image", masks, images)):
                if alone := set(these) - set(those):
                    raise InputError(f"{raw}: {first_few(alone)} without {what}; fetch it again")
            if not images:
                raise InputError(f"{raw}: has no folders images and masks with frames of MADS")
            missing = set(IDS) - set(images)
            if self.builder_config.name == "complete" and missing:
                raise InputError(
                    f"{raw}: MADS has {len(IDS):,} frames, but {len(missing):,} of them are "
                    f"missing here: {first_few(missing)}; fetch it again, or accept a partial copy "
                    "with {flag} (TFDS: mads/partial)",
                    field="data.partial",
                )
            for name in sorted(images):
                yield name, {**_features_of(name), **encoded_pair(images[name], masks[name])}


def _files(folder: Path, kind: str) -> dict[str, Path]:
    """Finds the known frames in all folders called `kind`; the key is the frame's id."""
    known = set(IDS)
    found = sorted(folder.rglob(f"{kind}/*.png"))
    return {path.stem: path for path in found if path.stem in known}


def _features_of(name: str) -> dict[str, str | int]:
    """Splits a frame's name, such as "Kata_F2_C0_00180", into the features that it holds."""
    action, clip, camera, frame = name.split("_")
    return {
        "id": name,
        "action": action,
        "clip": clip,
        "camera": int(camera[1:]),
        "frame": int(frame),
    }
