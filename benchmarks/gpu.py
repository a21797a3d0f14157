"""Measures training steps, their input, and prediction on one GPU.

    PYTHONPATH=. python benchmarks/gpu.py

It needs neither git nor an installed seg_jax. Each measurement prints a line of JSON as soon as it
is done. If one fails, the others still run. If the machine stops, the lines so far are kept. The
whole script takes a few minutes on one GPU, and about one minute on a CPU with `--small`.
"""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
import optax
import tyro

from seg_jax import models
from seg_jax.datasets import Nevi
from seg_jax.inference.predictor import averaged, mirrored, of_network, resized
from seg_jax.inference.tiles import tiled
from seg_jax.parallel import Parallel, compiled, make_mesh, place, replicate
from seg_jax.pipeline.augment import Augment
from seg_jax.pipeline.batches import Examples, prefetch, training_batch
from seg_jax.step import init_state, make_train_step
from seg_jax.tasks import Semantic

NETS = ("original_unet", "original_segnet", "lesson_unet", "lesson_segnet")
TASK, LABELS = Semantic(), Nevi().labels


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    small: bool = False
    """Use tiny images and batches, to see on a CPU that everything runs."""
    steps: int = 20
    """Steps of each measurement."""


def examples(count: int, size: int) -> Examples:
    """Random images and masks."""
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    label = random.integers(0, 2, (count, size, size), dtype=np.uint8)
    return Examples(tuple(map(str, range(count))), {"image": image, "label": label})


def trained(name: str, dtype: str, size: int, batch: int, steps: int, *, ahead: bool) -> dict:
    """Images a second in training; with `ahead`, batches are made during earlier steps."""
    net, optimiser = getattr(models, name)(dtype=dtype), optax.adam(1e-3)
    mesh = make_mesh(Parallel(devices=1))
    augmentation = Augment(flip=True, rotate90=True, rotate=45, brightness=0.2)
    objective = partial(TASK.objective, LABELS)
    step = make_train_step(net, optimiser, objective, augmentation=augmentation, seed=0)
    call = compiled(step, mesh, donate=True)
    state = replicate(init_state(net, optimiser, seed=0, shape=(size, size, 3)), mesh)
    data = examples(4 * batch, size)

    def batch_of(number: int):
        return place(training_batch(data, number, batch_size=batch, seed=0), mesh)

    start = time.perf_counter()
    state, scalars = call(state, batch_of(0))
    jax.block_until_ready(scalars)
    compiling = time.perf_counter() - start
    numbers = range(1, steps + 1)
    batches = prefetch(batch_of, numbers) if ahead else map(batch_of, numbers)
    start = time.perf_counter()
    for each in batches:
        state, scalars = call(state, each)
    loss = float(scalars["loss"])
    seconds = time.perf_counter() - start
    return {
        "images_per_second": round(batch * steps / seconds, 1),
        "ms_a_step": round(1000 * seconds / steps, 2),
        "compilation_s": round(compiling, 1),
        "loss": round(loss, 4),
    }


def predicted(name: str, shape: tuple[int, int], *, size: int, tile: bool) -> dict:
    """Seconds an image of prediction with two mirror images, at one size or in tiles."""
    net = getattr(models, name)()
    variables = net.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32), train=False)
    one = of_network(net, variables, TASK, LABELS, channels=3)
    both = averaged([one, mirrored(one, (2,))])
    predict = tiled(both, (size, size)) if tile else resized(both, (size, size))
    images = np.random.default_rng(0).integers(0, 256, (8, *shape, 3), dtype=np.uint8)
    images = list(images[: 1 if tile else 8])
    predict(images)
    start = time.perf_counter()
    found = predict(images)
    seconds = (time.perf_counter() - start) / len(images)
    return {"seconds_an_image": round(seconds, 4), "foreground": round(found[0].label.mean(), 3)}


def guarded(measure: Callable[..., dict], **settings) -> None:
    """Prints what is measured, or what went wrong, as a line of JSON."""
    line = {"measure": measure.__name__, **settings}
    try:
        line |= measure(**settings)
    except Exception as error:  # whatever it is, the other parts are wanted
        traceback.print_exc()
        line["error"] = f"{type(error).__name__}: {error}"[:300]
    print(json.dumps(line), flush=True)


def main(settings: Settings) -> None:
    """Measures one part after another."""
    device = jax.devices()[0]
    print(json.dumps({"device": device.device_kind, "jax": jax.__version__}), flush=True)
    small, steps = settings.small, 2 if settings.small else settings.steps
    size, batches = (32, (1, 2)) if small else (256, (4, 16, 64))
    nets = NETS[2:] if small else NETS
    for name in nets:
        for batch in batches:
            for dtype in ("bfloat16", "float32") if batch == batches[-1] else ("bfloat16",):
                settings_of = {"name": name, "dtype": dtype, "size": size, "batch": batch}
                guarded(trained, **settings_of, steps=steps, ahead=True)
    guarded(trained, name=nets[0], dtype="bfloat16", size=size, batch=2, steps=steps, ahead=False)
    for shape in ((60, 70), (90, 120)) if small else ((480, 640), (3000, 4000)):
        guarded(predicted, name=nets[0], shape=shape, size=size, tile=False)
        guarded(predicted, name=nets[0], shape=shape, size=size, tile=True)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
