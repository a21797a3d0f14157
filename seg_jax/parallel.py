"""Runs a step on devices: `jit` on one, `pmap` over many or `jit` over a mesh; one host or many.

The step itself is written once, in `step.py`. Here its state is copied to every device and its
batch is split: each host gives its own rows of a batch, and each device gets a part of them. The
results are those of the whole batch, the same on every device and host.
"""

import contextlib
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from seg_jax.errors import InputError
from seg_jax.labels import Kind
from seg_jax.pipeline.augment import ALWAYS_MAPS
from seg_jax.step import Batch, Step

Tree = TypeVar("Tree")

DEVICES = "devices"
"""The axis that pmap maps over."""

HEARTBEAT_SECONDS = 30
"""After so many seconds without a sign of life a host counts as dead, and the others stop."""


@dataclass(frozen=True)
class Parallel:
    """Where a run computes. Nothing here changes its numbers beyond rounding.

    One device is used by `jit`, several devices of one or many hosts by `pmap`. With `mesh`, or
    with `space` above 1, they are used by `jit` over a mesh of data × space.
    """

    devices: int | None = None
    """Devices of each host to use; all if not given."""
    mesh: bool = False
    """Use jit over a mesh instead of pmap."""
    space: int = 1
    """Devices of a host that share each image, by rows, where it is too large for one device."""
    coordinator: str | None = None
    """HOST:PORT of the first host; needed only where hosts can't find each other by themselves, as
    they do on TPU pods and under Slurm."""
    hosts: int | None = None
    """How many hosts there are, with a coordinator."""
    host: int | None = None
    """This host's number, from 0, with a coordinator."""


def connect(parallel: Parallel) -> None:
    """Joins the other hosts, if there are any; must be called before anything else of JAX.

    Hosts of a TPU pod, of a Slurm job and of Open MPI find each other by themselves.

    Raises:
      InputError: if only some of coordinator, hosts and host are given, or there is no such host.
    """
    named = (parallel.coordinator, parallel.hosts, parallel.host)
    limits = {"heartbeat_timeout_seconds": HEARTBEAT_SECONDS}
    if all(value is not None for value in named):
        if not 0 <= parallel.host < parallel.hosts:
            raise InputError(
                f"parallel.host is {parallel.host}, but there are {parallel.hosts} hosts; "
                f"number them from 0 to {parallel.hosts - 1}"
            )
        jax.distributed.initialize(*named, **limits)
    elif any(value is not None for value in named):
        raise InputError(
            "several hosts need all of --parallel.coordinator HOST:PORT, --parallel.hosts N and "
            "--parallel.host I (from 0)"
        )
    elif _in_a_cluster():
        jax.distributed.initialize(**limits)


def _in_a_cluster() -> bool:
    """Whether JAX can find the other hosts by itself: under Slurm or Open MPI, or on a TPU."""
    if any(int(os.environ.get(n, 1)) > 1 for n in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")):
        return True
    devices = [*Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/*")]
    return bool(devices) and importlib.util.find_spec("libtpu") is not None


def is_first_host() -> bool:
    """Whether this host is the one that writes logs and reports."""
    return jax.process_index() == 0


def own_rows(batch_size: int) -> slice:
    """The rows of a batch that this host gives."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def wait_for_all_hosts(name: str) -> None:
    """Returns once every host has called it with the same name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def make_mesh(parallel: Parallel) -> Mesh:
    """The devices that a run computes on, as a mesh.

    Returns:
      A mesh with the axes data and space, or with the one axis that pmap maps over.

    Raises:
      InputError: if there aren't as many devices, or space doesn't divide them.
    """
    local = jax.local_device_count()
    count = local if parallel.devices is None else parallel.devices
    if not 1 <= count <= local:
        raise InputError(
            f"parallel.devices is {count}, but this machine has {local} "
            f"({jax.local_devices()[0].platform}); set --parallel.devices to at most "
            f"{local}, or leave it out to use all"
        )
    if parallel.space < 1 or count % parallel.space:
        raise InputError(
            f"parallel.space is {parallel.space}, which doesn't divide {count} device"
            f"{'s' * (count > 1)}; set --parallel.space to a divisor of that"
        )
    hosts = range(jax.process_count())
    devices = [d for host in hosts for d in jax.local_devices(process_index=host)[:count]]
    if parallel.mesh or parallel.space > 1:
        return data_by_space(devices, parallel.space)
    return Mesh(np.array(devices), (DEVICES,))


def data_by_space(devices: Sequence[jax.Device], space: int) -> Mesh:
    """A mesh with the axes data and space, in which groups of `space` devices share an image."""
    return Mesh(np.reshape(devices, (-1, space)), ("data", "space"))


def space_of(mesh: Mesh) -> int:
    """Devices that share an image."""
    return mesh.shape.get("space", 1)


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Copies arrays to every device, as a compiled step takes and returns the state."""
    # Under pmap each host has arrays of its own; over a mesh all hosts share the same arrays.
    over = mesh.local_mesh if _mapped(mesh) else mesh
    return jax.device_put(tree, NamedSharding(over, P()))


def on_devices(
    step: Step,
    mesh: Mesh,
    *,
    kinds: Mapping[str, Kind] = ALWAYS_MAPS,
    donate: bool = False,
    per_example: bool = False,
) -> Step:
    """`compiled` for batches on the host: each call first calls `place` with its batch.

    Args:
      step: as in `compiled`.
      mesh: from `make_mesh`.
      kinds: as in `place`.
      donate: as in `compiled`.
      per_example: as in `compiled`.

    Returns:
      A function of a state from `replicate` and this host's rows of a batch, as NumPy arrays.
    """
    call = compiled(step, mesh, donate=donate, per_example=per_example)
    return lambda state, batch: call(state, place(batch, mesh, kinds))


def compiled(step: Step, mesh: Mesh, *, donate: bool = False, per_example: bool = False) -> Step:
    """Compiles a step for the devices.

    Args:
      step: called as `step(state, batch, axis_name=…)`, returns two trees. Over the axis, if there
        is one, it sums what belongs to the whole batch.
      mesh: from `make_mesh`.
      donate: whether the state's memory is used for the result.
      per_example: whether the first tree that the step returns has a row for each example.

    Returns:
      A jitted or pmapped function of a state from `replicate` and a batch from `place`. It returns
      the two trees for the whole batch, on every device.
    """
    donated = (0,) if donate else ()
    if mesh.size == 1:
        return jax.jit(partial(step, axis_name=None), donate_argnums=donated)
    if not _mapped(mesh):
        everywhere = NamedSharding(mesh, P())
        return jax.jit(
            partial(step, axis_name=None),
            donate_argnums=donated,
            out_shardings=(everywhere, everywhere),
        )

    def whole(state, batch: Batch):
        first, second = step(state, batch, axis_name=DEVICES)
        if per_example:
            first = jax.lax.all_gather(first, DEVICES, tiled=True)
        return first, second

    return jax.pmap(
        whole,
        axis_name=DEVICES,
        devices=list(mesh.devices.flat),
        in_axes=(None, 0),
        out_axes=(None, None),
        donate_argnums=donated,
    )


def place(batch: Batch, mesh: Mesh, kinds: Mapping[str, Kind] = ALWAYS_MAPS) -> Batch:
    """Copies this host's rows of a batch to its devices, split as a compiled step takes them.

    It may be called in another thread than the step.

    Args:
      batch: NumPy arrays (B, ...).
      mesh: from `make_mesh`.
      kinds: what the arrays are. Where devices share images, maps are split by rows of pixels;
        `image`, `label` and `valid` are always maps.
    """
    if mesh.size == 1:
        return jax.device_put(batch, NamedSharding(mesh, P()))
    if _mapped(mesh):
        local = mesh.local_mesh
        parts = jax.tree.map(
            lambda x: x.reshape(local.size, len(x) // local.size, *x.shape[1:]), batch
        )
        return jax.device_put(parts, NamedSharding(local, P(DEVICES)))
    return {
        name: jax.make_array_from_process_local_data(_sharding(mesh, name, kinds), x)
        for name, x in batch.items()
    }


def abstract_arguments(
    state: Tree, batch: Batch, mesh: Mesh, kinds: Mapping[str, Kind] = ALWAYS_MAPS
) -> tuple[Tree, Batch]:
    """Shapes and shardings of the arguments of a step that is compiled for a mesh of data × space.

    Args:
      state: of arrays or `jax.ShapeDtypeStruct`.
      batch: likewise, with the rows of all hosts.
      mesh: with the axes data and space; its devices needn't exist.
      kinds: as in `place`.

    Returns:
      The state and the batch, of `jax.ShapeDtypeStruct`.
    """

    def on(x, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    everywhere = NamedSharding(mesh, P())
    return (
        jax.tree.map(lambda x: on(x, everywhere), state),
        {name: on(x, _sharding(mesh, name, kinds)) for name, x in batch.items()},
    )


def _sharding(mesh: Mesh, name: str, kinds: Mapping[str, Kind]) -> NamedSharding:
    """How an array of a batch is split: examples over data, and rows of pixels over space."""
    is_map = {**kinds, **ALWAYS_MAPS}.get(name) is Kind.MAP
    return NamedSharding(mesh, P("data", "space") if is_map else P("data"))


def _mapped(mesh: Mesh) -> bool:
    return mesh.axis_names == (DEVICES,)


@contextlib.contextmanager
def preemption() -> Iterator[Callable[[int], bool]]:
    """Catches SIGTERM, by which a scheduler says that it will soon stop the process.

    Yields:
      A function of the number of steps done, which says whether to save and stop now. If any host
      got the signal, it says so on all hosts after the same step.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    signals = []
    before = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        yield lambda step: bool(signals)
    finally:
        signal.signal(signal.SIGTERM, before)
