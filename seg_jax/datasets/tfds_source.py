"""Shared by the data sets whose records TFDS keeps: archive → array_record → examples.

This module imports TFDS, so data sets import it only when they are read.
"""

import contextlib
import fnmatch
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from seg_jax.datasets.images import read_image
from seg_jax.errors import InputError
from seg_jax.labels import Example, Part

RAR_TOOLS = {
    "unrar": lambda rar, out: ["unrar", "x", "-o+", "-p-", "-inul", rar, f"{out}/"],
    "unar": lambda rar, out: ["unar", "-q", "-f", "-o", out, rar],
    "7z": lambda rar, out: ["7z", "x", "-y", "-p", "-bd", f"-o{out}", rar],
    "bsdtar": lambda rar, out: ["bsdtar", "-x", "-f", rar, "-C", out],
}
"""Command lines of the programs that can unpack a .rar, the preferred one first."""


def examples(
    builder: tfds.core.DatasetBuilder,
    wanted: Collection[str],
    part: Part,
    *,
    raw: Path | None,
    files: str,
    fetch: str,
    group: Callable[[Mapping[str, Any]], str] = lambda record: "",
) -> Iterator[Example]:
    """Reads the examples of a part, preparing the records from the raw data the first time.

    Args:
      builder: has one split, "full", with features image, mask and id.
      wanted: ids of the part's examples; ids without a record are ignored.
      part: its name; only "val" may be empty.
      raw: folder or archive of the original data; may be None once the records are prepared.
      files: glob pattern of the names of the data set's image files.
      fetch: one line that says what to fetch and from where.
      group: gives the `Example.group` of a record.

    Returns:
      The examples in the order of the records.

    Raises:
      InputError: if the data isn't prepared and raw is missing or broken, or if the records have
        no example of the part.
    """
    _prepare(builder, raw, files, fetch)
    as_png = {"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()}
    records = builder.as_data_source("full", decoders=as_png)
    positions = [i for i, record in enumerate(records) if record["id"].decode() in wanted]
    if not positions and part != "val":
        raise InputError(
            f"{builder.data_dir}: has no example of {part}; delete it and prepare it again from a "
            "copy with more of the data"
        )
    return (_example(records[i], group) for i in positions)


def _example(record: Mapping[str, Any], group: Callable[[Mapping[str, Any]], str]) -> Example:
    image, mask = _from_png(record["image"]), _from_png(record["mask"])
    return Example(record["id"].decode(), image, mask, group=group(record))


def _prepare(builder: tfds.core.DatasetBuilder, raw: Path | None, files: str, fetch: str) -> None:
    if builder.data_path.exists():
        return
    if raw is None:
        raise InputError(
            f"{builder.name} isn't prepared in {builder.data_dir}.\n{fetch}\n"
            "Then name the archive or the unpacked folder once: {flag} PATH",
            field="data.raw",
        )
    print(f"Preparing {builder.name} in {builder.data_dir} (once)", file=sys.stderr, flush=True)
    quiet = io.StringIO()
    with (
        unpacked(raw.expanduser(), files) as folder,
        contextlib.redirect_stdout(quiet),
        contextlib.redirect_stderr(quiet),
    ):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=folder, try_download_gcs=False)
        )


@contextlib.contextmanager
def unpacked(raw: Path, files: str) -> Iterator[Path]:
    """Finds or unpacks a folder that has the wanted files somewhere below it.

    Args:
      raw: such a folder, an archive of one (.zip, .rar), or a folder with such an archive.
      files: glob pattern of the names of the wanted files.

    Yields:
      raw itself, or a temporary folder with the archive's content.

    Raises:
      InputError: if there is no such file, or the archive can't be unpacked.
    """
    if not raw.exists():
        raise InputError(f"{raw}: no such file or folder")
    archives = [raw]
    if raw.is_dir():
        if any(raw.rglob(files)):
            yield raw
            return
        archives = sorted(
            path for path in raw.rglob("*") if path.suffix.lower() in (".zip", ".rar")
        )
    for archive in archives:
        with tempfile.TemporaryDirectory(prefix="seg_jax_") as folder:
            _unpack(archive, folder, files)
            if not any(Path(folder).rglob(files)):
                continue
            try:
                yield Path(folder)
            except InputError as error:
                raise InputError(str(error).replace(folder, str(archive))) from error
            return
    raise InputError(
        f"{raw}: has no file {files}, nor an archive (.zip, .rar) with such files; name the place "
        "of the original data"
    )


def _unpack(archive: Path, folder: str, files: str) -> None:
    """Unpacks an archive, unless it is a .zip without any of the files."""
    if archive.suffix.lower() == ".rar":
        _unpack_rar(archive, folder)
        return
    try:
        with zipfile.ZipFile(archive) as content:
            if fnmatch.filter((Path(name).name for name in content.namelist()), files):
                content.extractall(folder)
    # An encrypted archive gives RuntimeError.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise InputError(
            f"{archive}: not a whole .zip or .rar archive ({error}); fetch it again"
        ) from error


def _unpack_rar(archive: Path, folder: str) -> None:
    tools = [tool for tool in RAR_TOOLS if shutil.which(tool)]
    if not tools:
        raise InputError(
            f"{archive}: unpacking a .rar needs one of {', '.join(RAR_TOOLS)}, none of which is "
            "installed; install one, or unpack it elsewhere and give the folder"
        )
    for tool in tools:
        command = RAR_TOOLS[tool](str(archive.resolve()), folder)
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
    raise InputError(
        f"{archive}: can't be unpacked by {', '.join(tools)}; fetch it again, or unpack it "
        "elsewhere and give the folder"
    )


def encoded_pair(image_path: Path, mask_path: Path) -> dict[str, io.BytesIO]:
    """Reads an image and its mask of foreground and background as TFDS stores them.

    Args:
      image_path: any image; stored as RGB.
      mask_path: the foreground bright and the background dark, of any bits and channels: what is
        128 or more as greyscale is stored as 1, the rest as 0.

    Returns:
      PNG files "image" (height, width, 3) and "mask" (height, width, 1), because TFDS needs
      TensorFlow to encode arrays but stores files as they are.

    Raises:
      InputError: if a file is missing or broken, if their sizes differ, or if the mask's values
        are all below 128 but not all 0.
    """
    image = read_image(image_path)
    mask = read_image(mask_path, channels=1)[..., 0]
    if image.shape[:2] != mask.shape:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape
        raise InputError(
            f"{mask_path}: the mask is {mask_width}×{mask_height} but its image {width}×{height}; "
            "fetch both again"
        )
    if 0 < mask.max() < 128:
        raise InputError(
            f"{mask_path}: the mask's highest value is {mask.max()}; save it with 0 and 255"
        )
    return {"image": _to_png(image), "mask": _to_png((mask >= 128).astype(np.uint8))}


def _to_png(pixels: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    # Pillow's default, level 6, takes four times as long for 5 % less.
    Image.fromarray(pixels).save(file, "png", compress_level=1)
    file.seek(0)
    return file


def _from_png(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.array(image)
