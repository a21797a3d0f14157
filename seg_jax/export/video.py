"""Reads videos as frames and writes pictures as a video, by OpenCV (the optional extra `video`)."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from seg_jax.datasets.images import read_image
from seg_jax.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
"""Suffixes of the files taken for videos, in lower case; compare `path.suffix.lower()`."""


class Video(NamedTuple):
    """A video that is being read."""

    rate: float
    """Frames a second, counting those that are taken."""

    count: int | None
    """How many are taken, as far as the file says."""

    frames: Iterator[np.ndarray]
    """(H, W, C) uint8, decoded one by one."""


def read_frames(path: Path, every: int = 1, channels: int = 3) -> Video:
    """Opens a video; its frames are upright and are decoded one by one as they are asked for.

    Args:
      path: the file.
      every: 1 for all frames, 2 for every second one …; the first is always taken.
      channels: 3 for RGB, 1 for greyscale.

    Raises:
      InputError: if OpenCV isn't installed, or the file can't be opened, has no frame or no rate.
    """
    cv2 = _opencv()
    capture = cv2.VideoCapture(str(path))
    rate, declared = (capture.get(k) for k in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT))
    if not capture.isOpened() or not capture.grab():
        raise InputError(f"{path}: no video that OpenCV can decode; save it anew as H.264 in .mp4")
    if not 0 < rate < float("inf"):
        raise InputError(f"{path}: doesn't say its frame rate; save it anew as H.264 in .mp4")
    colours = {1: cv2.COLOR_BGR2GRAY, 3: cv2.COLOR_BGR2RGB}[channels]

    def frames() -> Iterator[np.ndarray]:
        number, more = 0, True
        while more:
            if number % every == 0:
                more, frame = capture.retrieve()
                if not more:
                    break
                yield cv2.cvtColor(frame, colours).reshape(*frame.shape[:2], channels)
            number, more = number + 1, capture.grab()
        capture.release()
        # What many files declare is off by a few frames.
        if declared - number > rate:
            print(
                f"{path}: ends after {number} of the {declared:.0f} frames that it declares; "
                "copy it anew if something is missing",
                file=sys.stderr,
            )

    return Video(rate / every, -int(-declared // every) if declared > 0 else None, frames())


def write_video(path: Path, rate: float, pictures: Iterable[Path]) -> None:
    """Joins pictures of one size into an MPEG-4 video; an odd side is padded by a pixel.

    MPEG-4 Part 2 is the one codec that OpenCV's wheels write on every system.

    Args:
      path: an .mp4 file, written anew.
      rate: frames a second.
      pictures: files, each read before the next one is asked for.

    Raises:
      InputError: if OpenCV isn't installed, a picture's size isn't the first one's, or nothing can
        be written at this rate.
    """
    cv2 = _opencv()
    if not 0 < rate <= 1000:
        raise InputError(f"{path}: can't show {rate:g} frames a second; choose up to 1000")
    # The codec counts time in fractions whose denominator is below 65536.
    rate = round(rate, 3 if rate < 65 else 2)
    writer, size = cv2.VideoWriter(), None
    try:
        for picture in pictures:
            image = read_image(picture)
            if size is None:
                size = image.shape[:2]
                path.parent.mkdir(parents=True, exist_ok=True)
                even = tuple(side + side % 2 for side in size[::-1])
                if not writer.open(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, even):
                    raise InputError(
                        f"{path}: OpenCV can't write {even[0]}×{even[1]} at {rate:g} frames a "
                        "second there; try another rate, and see that the folder can be written"
                    )
            if image.shape[:2] != size:
                raise InputError(
                    f"{picture} is {image.shape[1]}×{image.shape[0]}, those before it "
                    f"{size[1]}×{size[0]}; a video has frames of one size"
                )
            padding = [(0, side % 2) for side in size]
            padded = np.pad(image, [*padding, (0, 0)], mode="edge")
            writer.write(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise InputError("videos need OpenCV; pip install 'seg_jax[video]'") from error
    return cv2
