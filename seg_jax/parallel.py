"""Puts a step onto devices: `jit` on one, `pmap` over several.

The step itself is written once, in `step.py`; here its state is replicated and its batch split.
"""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np

from seg_jax.errors import InputError
from seg_jax.step import Batch, Step

AXIS = "devices"


def local_devices(count: int | None = None) -> list[jax.Device]:
    """The first `count` local devices, or all of them.

    Raises:
      InputError: if there are fewer.
    """
    devices = jax.local_devices()
    if count is not None and not 1 <= count <= len(devices):
        raise InputError(
            f"devices is {count}, but this machine has {len(devices)} ({devices[0].platform}); "
            f"set --devices to 1 to {len(devices)}, or leave it out to use all"
        )
    return devices[:count]


def on_devices(
    step: Step, devices: Sequence[jax.Device], *, donate: bool = False, split_out: bool = False
) -> Step:
    """Compiles `step(state, batch, axis_name=…)` for these devices.

    Args:
      step: sees a state and a batch, sums over `axis_name` what belongs to the whole batch, and
        returns two trees.
      devices: one runs the step under `jit`, several under `pmap`.
      donate: whether the state's memory may be used for the result.
      split_out: whether the first tree returned has a row an example, like the batch, instead of
        being the same on all devices.

    Returns:
      A function of a state and a batch on the host, (B, …) arrays, B divisible by the number of
      devices.
    """
    donated = (0,) if donate else ()
    if len(devices) == 1:
        return jax.jit(partial(step, axis_name=None), donate_argnums=donated)

    mapped = jax.pmap(
        partial(step, axis_name=AXIS),
        axis_name=AXIS,
        devices=devices,
        in_axes=(None, 0),
        out_axes=(0 if split_out else None, None),
        donate_argnums=donated,
    )

    def call(state, batch: Batch):
        first, second = mapped(state, jax.tree.map(split, batch))
        return (jax.tree.map(merge, first) if split_out else first), second

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(devices), x.shape[0] // len(devices), *x.shape[1:])

    def merge(x: jax.Array) -> np.ndarray:
        return np.asarray(x).reshape(-1, *x.shape[2:])

    return call
