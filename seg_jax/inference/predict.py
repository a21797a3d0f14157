"""From a workdir and pictures of any size to what the task makes of them at that size."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from seg_jax.datasets.images import IMAGE_SUFFIXES, is_image_file, read_image
from seg_jax.errors import InputError
from seg_jax.export.video import VIDEO_SUFFIXES, read_frames, write_video
from seg_jax.files import read_json, write_json
from seg_jax.resize import resize_image
from seg_jax.run.checkpoint import Checkpoints
from seg_jax.run.config import Experiment, from_json
from seg_jax.step import TrainState, Variables, init_state, normalise, to_float

Item = TypeVar("Item")
Predict = Callable[[Sequence[np.ndarray]], np.ndarray]
"""B images (height, width, C) uint8 to predictions at the training size, (B, H, W, K) float32."""


def read_experiment(workdir: Path) -> Experiment:
    """The experiment that a workdir belongs to.

    Raises:
      InputError: if the folder isn't a workdir, or its config.json is broken.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise InputError(f"{workdir} is no workdir: it has no config.json; name a run's folder")
    return from_json(read_json(path))


def shapes_of_state(experiment: Experiment) -> TrainState:
    """The state that an experiment trains, as shapes and dtypes alone."""
    optimiser, _ = experiment.optimiser.chain(1)
    shape = (*experiment.size, experiment.data.channels)
    return jax.eval_shape(
        partial(init_state, experiment.model, optimiser, seed=experiment.seed, shape=shape)
    )


def load(
    workdir: Path, scales: tuple[float, ...] | None = None
) -> tuple[Experiment, Variables, int]:
    """The experiment of a workdir, the variables to predict with, and their step.

    Args:
      workdir: a run's.
      scales: take the place of the experiment's `test_scales`.

    Raises:
      InputError: if the folder isn't a workdir, or `scales` make no sense.
    """
    experiment = read_experiment(workdir)
    if scales is not None:
        experiment = dataclasses.replace(experiment, test_scales=scales)
    checkpoints = Checkpoints(workdir, read_only=True)
    variables, step = checkpoints.restore_for_prediction(shapes_of_state(experiment))
    checkpoints.close()
    return experiment, variables, step


def predictor(experiment: Experiment, variables: Variables) -> Predict:
    """Compiles the prediction, averaged over sizes and mirror images as the experiment says.

    Args:
      experiment: names the network and the task.
      variables: the network's parameters and statistics.
    """
    model, task, data = experiment.model, experiment.task, experiment.data
    mirrors = experiment.augment.mirrors if experiment.test_flips else ((),)
    stride = getattr(task, "stride", 1)
    sizes = [
        tuple(stride * max(1, round(scale * side / stride)) for side in experiment.size)
        for scale in experiment.test_scales
    ]

    @jax.jit
    def predict(variables: Variables, image: Array) -> Array:
        image = normalise(to_float(image), standardise=experiment.standardise)

        def seen_mirrored(axes: tuple[int, ...]) -> Array:
            maps = model.apply(variables, jnp.flip(image, axes), train=False)
            return task.mirrored(data, task.predictions(data, maps), axes)

        return sum(map(seen_mirrored, mirrors)) / len(mirrors)

    def seen_at(size: tuple[int, int], images: Sequence[np.ndarray]) -> np.ndarray:
        image = np.stack([resize_image(image, size) for image in images])
        found = np.asarray(predict(variables, image))
        if size == experiment.size:
            return found
        return np.stack([task.resized(data, maps, experiment.size) for maps in found])

    return lambda images: sum(seen_at(size, images) for size in sizes) / len(sizes)


TOGETHER = 8
"""Images that are predicted at once: whole ones are held in memory, so they're few."""


def predicted(
    predict: Predict, images: Iterable[tuple[Item, np.ndarray]]
) -> Iterator[tuple[Item, np.ndarray, np.ndarray]]:
    """Whose each image is, the image and its predictions; `TOGETHER` are predicted at once.

    What is left over at the end is filled up, so that it needs no compiled program of its own.
    """
    images, size = iter(images), 0
    while some := list(islice(images, TOGETHER)):
        size = max(size, len(some))
        filled = (some * size)[:size]
        found = predict([image for _, image in filled])
        yield from ((*each, maps) for each, maps in zip(some, found, strict=False))


MOST = 2**27
"""Numbers in an image's maps when they are decoded: half a gigabyte, copied several times."""


def decoder(experiment: Experiment) -> Callable[[np.ndarray, tuple[int, int]], Any]:
    """What a task makes of the predictions (H, W, K) of one image at a size (height, width).

    The result has no batch axis; at another than the training size its maps are filled up below and
    at the right, to whole multiples of `STEP`, so that many sizes share a few compiled programs.
    Where there would be more than `MOST` numbers, it is that of a smaller size, enlarged.
    """
    task, data = experiment.task, experiment.data
    decode = jax.jit(partial(task.decode, data), static_argnames="scale")

    def decoded(predictions: np.ndarray, size: tuple[int, int]) -> Any:
        smaller = min(1, (MOST / (math.prod(size) * predictions.shape[-1])) ** 0.5)
        within = tuple(max(1, round(smaller * side)) for side in size)
        filled = task.resized(data, predictions, within)
        if size != experiment.size:
            filled = fill_up(filled, 0)
        ratio = math.prod(within) / math.prod(predictions.shape[:2])
        scale = max(1, round(4 * ratio**0.5)) / 4
        found = jax.tree.map(lambda x: np.asarray(x)[0], decode(filled[None], scale=scale))
        if within == size:
            return found
        return filled_up(task.enlarged(found, within, size), size)

    return decoded


STEP = 64
"""Pixels by whose multiples the sizes of compiled programs grow."""


def fill_up(maps: np.ndarray, value: int) -> np.ndarray:
    """(H, W, ...) filled up to multiples of `STEP`."""
    edges = [(0, -side % STEP) for side in maps.shape[:2]] + [(0, 0)] * (maps.ndim - 2)
    return np.pad(maps, edges, constant_values=value)


def filled_up(tree: Any, size: tuple[int, int]) -> Any:
    """Those arrays of a tree that are maps of a size, by zeros."""
    return jax.tree.map(lambda x: fill_up(x, 0) if x.shape[:2] == size else x, tree)


class CocoFiles:
    """Collects what a task finds in images and writes it in COCO's formats."""

    def __init__(self, experiment: Experiment):
        self._categories = experiment.task.categories(experiment.data)
        self._found: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = []

    def add(
        self,
        name: str,
        entry: dict[str, Any],
        image: np.ndarray,
        annotations: list[dict[str, Any]],
    ) -> None:
        """Takes what a task's `save` gave of an image.

        Args:
          name: that it was saved by.
          entry: the image's `file_name`, and its `id` if the data have given it one.
          image: (height, width, C) uint8.
          annotations: what is in it.
        """
        height, width = image.shape[:2]
        self._found.append((name, {**entry, "height": height, "width": width}, annotations))

    def write(self, folder: Path) -> None:
        """Writes predictions/coco.json, if the task has objects or skeletons.

        If it has stuff as well, predictions/panoptic.json lists all segments, with the PNGs that
        `save` wrote into predictions/panoptic.
        """
        segments = [c for c in self._categories if "isthing" in c]
        countable = [c for c in self._categories if c.get("isthing", 1)]
        counted = {category["id"] for category in countable}
        images, objects, panoptic = [], [], []
        numbers = _image_ids([name for name, *_ in self._found])
        for number, (name, entry, annotations) in zip(numbers, self._found, strict=True):
            image = {"id": number} | entry
            images.append(image)
            infos = [_segment_info(each) for each in annotations if "segment" in each]
            whose = {"image_id": image["id"]}
            panoptic.append(whose | {"file_name": f"{name}.png", "segments_info": infos})
            for each in annotations:
                if each["category_id"] in counted:
                    objects.append({"id": len(objects) + 1} | whose | {"iscrowd": 0} | each)

        def write(file: str, annotations: list, categories: list) -> None:
            content = {"images": images, "annotations": annotations, "categories": categories}
            (folder / "predictions").mkdir(parents=True, exist_ok=True)
            write_json(folder / "predictions" / file, content)

        if countable:
            write("coco.json", objects, countable)
        if len(countable) < len(self._categories):
            write("panoptic.json", panoptic, segments)


def _segment_info(annotation: dict[str, Any]) -> dict[str, Any]:
    """What COCO's panoptic format says of a segment."""
    fields = {name: annotation[name] for name in ("category_id", "area", "bbox")}
    return {"id": annotation["segment"], "iscrowd": 0} | fields


def _image_ids(names: list[str]) -> list[int]:
    """The numbers that the images are called by, such as COCO's 000000000139, else 1, 2, …"""
    numbers = [int(name) for name in names if name.isdecimal()]
    return numbers if len(set(numbers)) == len(names) else list(range(1, len(names) + 1))


def predict_files(
    workdir: Path,
    paths: Sequence[Path],
    out: Path,
    *,
    every: int = 1,
    video: float | None = None,
    scales: tuple[float, ...] | None = None,
) -> int:
    """Predicts image files, those of folders, and frames of videos, at their own sizes.

    What a task saves of an image is called like it; of a video clip.mp4, predictions/clip_00000.png
    and so on, by the frame's number, and overlays/clip.mp4 alone. What is in all of them is in
    predictions/coco.json and predictions/panoptic.json, as `CocoFiles.write` says.

    Args:
      workdir: a run's.
      paths: files and folders.
      out: where to write.
      every: of a video, take the first frame and each that comes so many later.
      video: also join the overlays of a folder into overlays/FOLDER.mp4, in order of their names,
        so many a second.
      scales: of the training size at which predictions are averaged; the experiment's if not given.

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
    experiment, variables, _ = load(workdir, scales)
    task, data = experiment.task, experiment.data
    predict, decode = predictor(experiment, variables), decoder(experiment)
    coco = CocoFiles(experiment)
    count = 0

    def overlays(images: Iterable[tuple[str, np.ndarray]]) -> Iterator[Path]:
        """Predicts and saves named images as their overlays are asked for."""
        nonlocal count
        for name, image, predictions in predicted(predict, images):
            decoded = decode(predictions, image.shape[:2])
            stem = Path(name).stem
            coco.add(stem, {"file_name": name}, image, task.save(data, decoded, out, stem, image))
            count += 1
            yield out / "overlays" / f"{stem}.jpg"

    try:
        for path, found in files.items():
            if _is_video(path):
                clip = read_frames(path, every, data.channels)
                frames = enumerate(tqdm(clip.frames, path.name, clip.count, unit="frame"))
                named = ((f"{path.stem}_{k * every:05}.png", frame) for k, frame in frames)
                joined = out / "overlays" / f"{path.stem}.mp4"
                write_video(joined, clip.rate, _used_up(overlays(named)))
                continue
            drawn = overlays((file.name, read_image(file, data.channels)) for file in found)
            if path in folders:
                write_video(out / "overlays" / f"{path.resolve().name}.mp4", video, drawn)
            else:
                for _ in drawn:
                    pass
    finally:
        if count:  # what was found before a file that can't be read is kept
            coco.write(out)
    return count


def _used_up(pictures: Iterable[Path]) -> Iterator[Path]:
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
    written = {(out / folder).resolve() for folder in ("predictions", "overlays")}
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
