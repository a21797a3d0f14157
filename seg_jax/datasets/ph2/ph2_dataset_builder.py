"""PH²: 200 dermoscopic images with lesion masks, as a TFDS builder that needs no TensorFlow."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from seg_jax.datasets.lists import first_few
from seg_jax.datasets.ph2 import FETCH, FILES, HOMEPAGE, IDS
from seg_jax.datasets.tfds_source import encoded_pair, unpacked
from seg_jax.errors import InputError

TABLE = "PH2_dataset.txt"

DIAGNOSES = ("common_nevus", "atypical_nevus", "melanoma")
COLOURS = ("white", "red", "light_brown", "dark_brown", "blue_gray", "black")
CRITERIA = {
    "pigment_network": ("AT", "T"),
    "dots_globules": ("A", "AT", "T"),
    "streaks": ("A", "P"),
    "regression_areas": ("A", "P"),
    "blue_whitish_veil": ("A", "P"),
}
"""Values of the criteria: A absent, P present, AT atypical, T typical."""


class Builder(tfds.core.GeneratorBasedBuilder):
    """Builder of PH²: one split, "full", in the order of the images' names."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"{FETCH} Put it, a .zip of it or the unpacked folder into the manual directory. The .rar "
        "needs one of the programs unrar, unar, 7z and bsdtar."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "mask": tfds.features.Image(
                shape=(None, None, 1), encoding_format="png", doc="1 in the lesion, else 0."
            ),
            "id": tfds.features.Text(),
            "histology": tfds.features.Text(doc="Histological diagnosis; empty where none."),
            "clinical_diagnosis": tfds.features.ClassLabel(names=DIAGNOSES),
            "asymmetry": tfds.features.Scalar(np.int32, doc="Number of asymmetric axes, 0 to 2."),
            **{name: tfds.features.ClassLabel(names=v) for name, v in CRITERIA.items()},
            "colours": tfds.features.Tensor(
                shape=(len(COLOURS),), dtype=np.bool_, doc=f"Present: {', '.join(COLOURS)}."
            ),
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
            images, masks = _files(folder, ".bmp"), _files(folder, "_lesion.bmp")
            for what, found in (("image", images), ("lesion mask", masks)):
                if missing := set(IDS) - set(found):
                    raise InputError(
                        f"{raw}: PH² has 200 images, but {len(missing)} of them lack the {what} "
                        f"here: {first_few(missing)}; fetch it again"
                    )
            rows = parse_table(_table(folder))
            for name in IDS:
                yield name, {"id": name, **rows[name], **encoded_pair(images[name], masks[name])}


def parse_table(path: Path) -> dict[str, dict]:
    """Reads PH2_dataset.txt, the table of diagnoses and criteria.

    Args:
      path: the file. Its columns are divided by `||`, the criteria by `|`; a legend follows.

    Returns:
      For each id the features histology, clinical_diagnosis, asymmetry, the criteria and colours.

    Raises:
      InputError: if a row can't be read or one of the 200 is missing.
    """
    rows = {}
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), start=1):
        name, *cells = (cell.strip() for cell in line.strip().strip("|").split("||"))
        if not re.fullmatch(r"IMD\d{3}", name):
            continue
        try:
            histology, diagnosis, criteria, colours = cells
            asymmetry, *signs = (sign.strip() for sign in criteria.split("|"))
            for sign, known in zip(signs, CRITERIA.values(), strict=True):
                known.index(sign)
            present = {int(colour) for colour in colours.split()}
            rows[name] = {
                "histology": histology,
                "clinical_diagnosis": DIAGNOSES[int(diagnosis)],
                "asymmetry": int(asymmetry),
                **dict(zip(CRITERIA, signs, strict=True)),
                "colours": np.array([n in present for n in range(1, len(COLOURS) + 1)]),
            }
        except (ValueError, IndexError) as error:
            raise InputError(
                f"{path}, line {number}: can't be read ({error}); fetch it again"
            ) from error
    if missing := set(IDS) - set(rows):
        raise InputError(f"{path}: lacks {first_few(missing)}; fetch it again")
    return rows


def _files(folder: Path, ending: str) -> dict[str, Path]:
    """Finds the files with this ending; the key is the file's name without it."""
    found = sorted(folder.rglob(f"IMD*{ending}"))
    return {path.name.removesuffix(ending): path for path in found}


def _table(folder: Path) -> Path:
    """Finds the table below the folder, or beside it if it is the folder of the images."""
    beside = folder.resolve().parent / TABLE
    found = [*sorted(folder.rglob(TABLE)), *([beside] if beside.is_file() else [])]
    if not found:
        raise InputError(
            f"{folder}: {TABLE} is neither below nor beside it; copy it there from PH2Dataset.rar"
        )
    return found[0]
