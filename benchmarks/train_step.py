"""Times a training step in seg_jax, in PyTorch and in plain Flax, in one process.

    pip install -e .[torch] && python benchmarks/train_step.py

Each round runs a few steps of each in turn, so a busy or warm machine slows all of them alike.
Ratios are taken within a round. All use float32, binary cross-entropy and Adam, with the same
images already in memory. PyTorch runs with channels first and with channels last, and the faster
one counts. "Plain Flax" is the same network with `flax.linen.max_pool`, `flax.linen.ConvTranspose`,
`jax.image.resize` and XLA's kernel gradient instead of the layers in `seg_jax.models.layers`. It
has no max-unpooling.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal
from unittest import mock

import flax.linen as nn
import jax
import numpy as np
import optax
import torch
import torch_nets
import tyro

from seg_jax import models
from seg_jax.datasets import Nevi
from seg_jax.models import layers
from seg_jax.pipeline.augment import Augment
from seg_jax.step import init_state, make_train_step
from seg_jax.tasks import Semantic

Net = Literal["lesson_unet", "lesson_segnet", "original_unet", "original_segnet"]
Advance = Callable[[], float]


@dataclass(frozen=True)
class Benchmark:
    """What to time."""

    nets: tuple[Net, ...] = ("lesson_unet", "original_unet")
    """Networks, timed one after the other."""
    size: int | None = None
    """Height and width of the images; 256 for the lesson's networks and 128 for the papers'."""
    batch: int | None = None
    """Images a step; 8 for the lesson's networks and 4 for the papers'."""
    rounds: int = 7
    """Rounds; the table gives their median and quartiles."""
    steps: int = 2
    """Steps of each in a round."""
    plain: bool = True
    """Also time plain Flax."""


def plain_bilinear(x: jax.Array, *, align_corners: bool = False) -> jax.Array:
    """`jax.image.resize` to twice the size; it can't align corners, which would cost the same."""
    b, h, w, c = x.shape
    return jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")


PLAIN = {
    "conv_same": layers.conv_by_xla,
    "max_pool": partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2)),
    "upsample_bilinear": plain_bilinear,
    "UpConv": partial(nn.ConvTranspose, kernel_size=(2, 2), strides=(2, 2)),
}


def jax_steps(name: Net, image: np.ndarray, label: np.ndarray, *, plain: bool) -> Advance:
    """One training step a call, compiled and warm; returns the loss."""
    batch, height, width, channels = image.shape
    net, optimiser = getattr(models, name)(), optax.adam(1e-3)
    with ExitStack() as patches:
        if plain:
            patches.enter_context(mock.patch.multiple(layers, **PLAIN))
        state = init_state(net, optimiser, seed=0, shape=(height, width, channels))
        data = {
            "image": jax.device_put(image),
            "label": jax.device_put(label),
            "epoch": jax.numpy.zeros(batch, int),
            "index": jax.numpy.arange(batch),
        }
        objective = partial(Semantic().objective, Nevi().labels)
        step = make_train_step(net, optimiser, objective, augmentation=Augment(), seed=0)
        compiled = jax.jit(step, donate_argnums=0).lower(state, data).compile()

    def advance() -> float:
        nonlocal state
        state, scalars = compiled(state, data)
        return float(scalars["loss"])

    return advance


def torch_steps(name: Net, image: np.ndarray, label: np.ndarray, *, layout) -> Advance:
    """One training step a call; returns the loss."""
    net = getattr(torch_nets, name)().to(memory_format=layout)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    x = torch.from_numpy((image / np.float32(255) - np.float32(0.5)) * np.float32(4))
    x = x.movedim(-1, 1).contiguous(memory_format=layout)
    y = torch.from_numpy(label[:, None].astype(np.float32))

    def advance() -> float:
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x), y)
        loss.backward()
        optimiser.step()
        return loss.item()

    return advance


def race(runners: dict[str, Advance], *, rounds: int, steps: int) -> dict[str, np.ndarray]:
    """Milliseconds a step of each runner in each round, without the first round."""
    times = {name: [] for name in runners}
    for _ in range(rounds + 1):
        for name, advance in runners.items():
            start = time.perf_counter()
            for _ in range(steps):
                loss = advance()
            times[name].append((time.perf_counter() - start) / steps * 1e3)
            if not np.isfinite(loss):
                raise FloatingPointError(f"{name}: the loss is {loss}")
    return {name: np.array(values[1:]) for name, values in times.items()}


def main(benchmark: Benchmark) -> None:
    """Prints one line for each network."""
    print(
        f"{jax.default_backend()}, {torch.get_num_threads()} threads; JAX {jax.__version__}, "
        f"PyTorch {torch.__version__}; {benchmark.rounds} rounds of {benchmark.steps} steps"
    )
    print(
        f"{'net':16}{'size':>5}{'batch':>6}{'JAX ms':>9}{'PyTorch ms':>12} {'layout':15}"
        f"{'ratio (quartiles)':>20}{'plain Flax ms':>15}{'ratio':>7}"
    )
    for name in benchmark.nets:
        lesson = name.startswith("lesson")
        size, batch = benchmark.size or (256 if lesson else 128), benchmark.batch or 4 + 4 * lesson
        random = np.random.default_rng(0)
        image = random.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
        label = random.integers(0, 2, (batch, size, size), dtype=np.uint8)
        runners = {
            "JAX": jax_steps(name, image, label, plain=False),
            "channels first": torch_steps(name, image, label, layout=torch.contiguous_format),
            "channels last": torch_steps(name, image, label, layout=torch.channels_last),
        }
        if benchmark.plain and name != "original_segnet":
            runners["plain"] = jax_steps(name, image, label, plain=True)
        times = race(runners, rounds=benchmark.rounds, steps=benchmark.steps)
        layout = min(("channels first", "channels last"), key=lambda k: np.median(times[k]))
        low, ratio, high = np.quantile(times["JAX"] / times[layout], [0.25, 0.5, 0.75])
        line = (
            f"{name:16}{size:5}{batch:6}{np.median(times['JAX']):9.0f}"
            f"{np.median(times[layout]):12.0f} {layout:15}{ratio:6.2f} ({low:.2f}–{high:.2f})"
        )
        if "plain" in times:
            plain = np.median(times["plain"] / times[layout])
            line += f"{np.median(times['plain']):16.0f}{plain:7.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
