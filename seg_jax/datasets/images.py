"""Image files as arrays: photographs as uint8, masks as the numbers that they hold."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from seg_jax.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes of image files, in lower case."""

MAX_PIXELS = 2**30
"""Pixels of the largest image that is read; its bytes alone are 3 GB."""

# Pillow refuses more than 179 megapixels, to guard servers; here users read their own files.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


def is_image_file(path: Path) -> bool:
    """Whether a file's name is that of an image.

    macOS writes files beside images whose names differ only by a leading dot; those aren't images.
    """
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: Path, channels: int = 3) -> np.ndarray:
    """Decodes a photograph as a person sees it.

    EXIF orientation is applied, alpha is dropped, a palette is looked up, and greyscale and colour
    are converted into each other (luma of ITU-R 601). 16-bit greyscale is scaled from its full
    range, 0 to 65535, even if the picture uses only a part of it.

    Args:
      path: the file.
      channels: 3 for RGB, 1 for greyscale.

    Returns:
      (height, width, channels) uint8.

    Raises:
      InputError: if the file is missing, truncated or no image, has several pages, or has more
        than 16 bits a pixel and channel.
    """
    mode = {1: "L", 3: "RGB"}[channels]
    image = _decode(path)
    # Pillow before 11.3 opens a 16-bit PNG in mode I.
    if image.mode.startswith("I;16") or (image.mode == "I" and Path(path).suffix.lower() == ".png"):
        image = Image.fromarray(((np.asarray(image, np.uint32) + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise InputError(f"{path}: has 32 bits a pixel; save it with 8 or 16")
    # Pillow would warn about it, and alpha is dropped anyway.
    image.info.pop("transparency", None)
    # Some modes can only be converted to RGB; grey stays the same on the way.
    if image.mode != mode:
        image = image.convert("RGB").convert(mode)
    return np.array(image).reshape(image.height, image.width, channels)


def read_mask(path: Path) -> np.ndarray:
    """Decodes a label mask: the value that the file holds for each pixel, unscaled.

    A palette image gives its indices, not its colours. A palette of only black and white is an
    exception: black is 0 and white 1, as in a 1-bit image. A colour image whose three channels are
    equal gives one of them. Alpha is dropped and EXIF orientation is applied.

    Args:
      path: the file.

    Returns:
      (height, width) uint8, uint16 (16-bit greyscale) or int32 (32-bit).

    Raises:
      InputError: if the file is missing, truncated or no image, has several pages, or holds
        colours or floating-point values.
    """
    image = _decode(path)
    if image.mode == "F":
        raise InputError(f"{path}: floating-point values aren't labels; save it as 8-bit integers")
    values = np.array(image)
    if image.mode == "P":
        colours = [tuple(c) for c in np.reshape(image.getpalette(), (-1, 3)).tolist()]
        if _WHITE in colours and set(colours) <= {_BLACK, _WHITE}:
            values = np.array([c == _WHITE for c in colours])[values]
    if values.ndim == 3 and values.shape[2] == 2:
        values = values[..., 0]
    elif values.ndim == 3:
        if image.mode not in ("RGB", "RGBA") or np.ptp(values[..., :3], axis=2).any():
            raise InputError(
                f"{path}: colour-coded masks aren't labels; save one channel that holds the class"
                " number of each pixel"
            )
        values = values[..., 0]
    if values.dtype == bool:
        return values.astype(np.uint8)
    return values.astype(values.dtype.newbyteorder("="))


def _decode(path: Path) -> Image.Image:
    """Reads the file's only picture, turned upright, in the file's own mode."""
    try:
        # Given a path, Pillow maps the file to memory and misreads TIFFs with EXIF orientation.
        with open(path, "rb") as file, Image.open(file) as image:
            problem = _hidden_problem(image)
            if not problem:
                image.load()
                # In place, because a copy of a large image would take as much memory again.
                ImageOps.exif_transpose(image, in_place=True)
                return image
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, not an image; name its files") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path}: not an image; replace or remove it") from error
    # Pillow's decoders raise all kinds of exceptions on broken files.
    except Exception as error:
        raise InputError(
            f"{path}: truncated or broken ({error}); copy it again or remove it"
        ) from error
    raise InputError(f"{path}: {problem}")


def _hidden_problem(image: Image.Image) -> str | None:
    """What Pillow would silently ignore or misread in a file that was opened but not decoded."""
    if image.width * image.height > MAX_PIXELS:
        megapixels = image.width * image.height / 1e6
        return (
            f"has {megapixels:.0f} megapixels, more than {MAX_PIXELS / 1e6:.0f}; cut it into parts"
        )
    if image.format == "TIFF" and image.n_frames > 1:
        return f"has {image.n_frames} pages; save each as a file of its own"
    if image.format == "BMP" and image.mode == "1":
        _, _, _, (_, bytes_per_row, *_) = image.tile[0]
        # Pillow takes 8-bit files of two colours for 1-bit, whose rows have at least 4 bytes.
        if bytes_per_row >= max(image.width, 5):
            return "a BMP of 8 bits a pixel but two colours; save it as PNG"
    return None
