"""MADS: 1,192 video frames of people with body masks, as a TFDS builder without TensorFlow."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from seg_jax.datasets.tfds_source import encoded_pair, read_list, some, unpacked
from seg_jax.errors import InputError

HOMEPAGE = "https://www.kaggle.com/datasets/tapakah68/segmentation-full-body-mads-dataset"
FETCH = f"Fetch 'Segmentation Full Body MADS Dataset' (a .zip) from {HOMEPAGE}."

FILES = "*_*_C?_*.png"

IDS = tuple(
    sorted(row["id"] for row in read_list(Path(__file__).parent / "splits/random_leaky.csv"))
)
"""Names of the 1,192 frames, sorted."""


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
                    raise InputError(f"{raw}: {some(alone)} without {what}; fetch it anew")
            if not images:
                raise InputError(f"{raw}: has no folders images and masks with frames of MADS")
            missing = set(IDS) - set(images)
            if self.builder_config.name == "complete" and missing:
                raise InputError(
                    f"{raw}: MADS has {len(IDS):,} frames, but {len(missing):,} of them are "
                    f"missing here: {some(missing)}; fetch it anew, or ask for what there is with "
                    "--data.partial (TFDS: mads/partial)"
                )
            for name in sorted(images):
                yield name, {**_described(name), **encoded_pair(images[name], masks[name])}


def _files(folder: Path, kind: str) -> dict[str, Path]:
    """Finds the known frames in folders of this name, however deep, by their ids."""
    known = set(IDS)
    found = sorted(folder.rglob(f"{kind}/*.png"))
    return {path.stem: path for path in found if path.stem in known}


def _described(name: str) -> dict[str, str | int]:
    """Returns what a frame's name tells: "Kata_F2_C0_00180" is action, clip, camera and frame."""
    action, clip, camera, frame = name.split("_")
    return {
        "id": name,
        "action": action,
        "clip": clip,
        "camera": int(camera[1:]),
        "frame": int(frame),
    }
