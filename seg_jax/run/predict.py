"""Predicts the files of a person: images, folders of them, and videos."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from seg_jax.datasets.images import IMAGE_SUFFIXES, is_image_file, read_image
from seg_jax.errors import InputError
from seg_jax.export.coco import CocoFiles
from seg_jax.export.overlay import write_overlay
from seg_jax.export.predictions import save, save_probabilities
from seg_jax.export.video import VIDEO_SUFFIXES, read_frames, write_video
from seg_jax.inference.predictor import Predictor


def predict_files(
    predictor: Predictor,
    paths: Sequence[Path],
    out: Path,
    *,
    every: int = 1,
    video: float | None = None,
    probabilities: Literal["npy", "png"] | None = None,
) -> int:
    """Predicts image files, those of folders, and frames of videos, at their own sizes.

    What is found in an image is called like it; in a video clip.mp4, predictions/clip_00000.png
    and so on, by the frame's number, and overlays/clip.mp4 alone. What is in all of them is in
    predictions/coco.json and predictions/panoptic.json, as `CocoFiles.write` says.

    Args:
      predictor: what a run has learnt.
      paths: files and folders.
      out: where to write.
      every: of a video, take the first frame and each that comes so many later.
      video: also join the overlays of a folder into overlays/FOLDER.mp4, in order of their names,
        so many a second.
      probabilities: also write them, in this format: see `export.predictions.save_probabilities`.

    Returns:
      How many images and frames were predicted.

    Raises:
      InputError: if a path doesn't exist, holds no image, or can't be read; if two would be written
        to one file; or if the images of a folder that becomes a video differ in size.
    """
    if every < 1:
        raise InputError(f"--every is {every}; take every frame (1), every second one (2) …")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out: {out} is a file; name a folder")
    files = {path: _files(path, out) for path in paths}
    folders = [path for path in files if path.is_dir() and video is not None]
    if video is not None and not folders:
        raise InputError("--video joins the images of a folder; name one, or leave it out")
    _refuse_twins([file for found in files.values() for file in found], folders)
    labels, channels = predictor.labels, predictor.channels
    coco = CocoFiles(labels, predictor.task.finds)
    count = 0

    def overlays(images: Iterable[tuple[str, np.ndarray]]) -> Iterator[Path]:
        """Predicts and saves named images as their overlays are asked for."""
        nonlocal count
        for name, image, found in predictor.find(images):
            stem = Path(name).stem
            save(out, stem, labels, found)
            if probabilities:
                save_probabilities(out, stem, found.probabilities, probabilities)
            write_overlay(out, stem, predictor.task.picture(labels, found, image))
            coco.add(stem, {"file_name": name}, image, found)
            count += 1
            yield out / "overlays" / f"{stem}.jpg"

    try:
        for path, found in files.items():
            if _is_video(path):
                clip = read_frames(path, every, channels)
                frames = enumerate(tqdm(clip.frames, path.name, clip.count, unit="frame"))
                named = ((f"{path.stem}_{k * every:05}.png", frame) for k, frame in frames)
                joined = out / "overlays" / f"{path.stem}.mp4"
                write_video(joined, clip.rate, _delete_after_use(overlays(named)))
                continue
            drawn = overlays((file.name, read_image(file, channels)) for file in found)
            if path in folders:
                write_video(out / "overlays" / f"{path.resolve().name}.mp4", video, drawn)
            else:
                for _ in drawn:
                    pass
    finally:
        if count:  # what was found before a file that can't be read is kept
            coco.write(out)
    return count


def _delete_after_use(pictures: Iterable[Path]) -> Iterator[Path]:
    """Gives files one by one and deletes each when the next one is asked for."""
    for picture in pictures:
        yield picture
        picture.unlink()


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()


def _files(path: Path, out: Path) -> list[Path]:
    """The file that a path is, or the images in the folder, frame 2 before frame 10.

    What was written to `out` before is left out.
    """
    if not path.exists():
        raise InputError(f"{path} doesn't exist")
    if path.is_file():
        return [path]
    folders = ("predictions", "overlays", "probabilities")
    written = {(out / folder).resolve() for folder in folders}
    found = [
        p for p in path.rglob("*") if is_image_file(p) and written.isdisjoint(p.resolve().parents)
    ]
    if not found:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{path} holds no image ({suffixes}); name videos themselves")

    def numbered(file: Path) -> list[str | int]:
        # Text and numbers take turns, so that like is compared with like.
        return [int(p) if k % 2 else p for k, p in enumerate(re.split(r"(\d+)", str(file)))]

    return sorted(found, key=numbered)


def _refuse_twins(files: list[Path], folders: list[Path]) -> None:
    """Refuses files, and folders to become videos, of which two would be written to one file."""
    images = [file.stem for file in files if not _is_video(file)]
    videos = [file.stem for file in files if _is_video(file)]
    frames = (re.fullmatch(r"(.*)_\d{5,}", name) for name in images)
    for frame in filter(None, frames):
        if frame[1] in videos:
            raise InputError(
                f"{frame[0]} is called like a frame of {frame[1]}; predict them into different "
                "folders"
            )
    rendered = videos + [folder.resolve().name for folder in folders]
    for kind, names in (("images", images), ("videos", rendered)):
        twice = next((name for name, times in Counter(names).items() if times > 1), None)
        if twice:
            raise InputError(f"two {kind} are called {twice}; predict them into different folders")
