"""Puts a step onto devices: `jit` on one, `pmap` over many, `jit` over a mesh; one host or several.

The step itself is written once, in `step.py`. Here its state is replicated and its batch split:
each host hands in its own rows of a batch, each device sees its share of them, and the results are
the whole batch's, the same on every device and host.
"""

import contextlib
import importlib.util
import os
import signal
from collections.abc import Callable, Iterator, Sequence
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
from seg_jax.step import Batch, Step

Tree = TypeVar("Tree")

DEVICES = "devices"
"""The axis that pmap maps over."""

HEARTBEAT_SECONDS = 30
"""After this long without a sign of life a host counts as dead, and the others stop."""


@dataclass(frozen=True)
class Parallel:
    """Where a run computes: nothing here changes its numbers beyond rounding.

    One device runs under `jit`; several, of one host or many, under `pmap`; with `mesh`, or where
    `space` is above 1, under `jit` over a mesh of data × space.
    """

    devices: int | None = None
    """Devices of each host to use; all if not given."""
    mesh: bool = False
    """Use jit over a mesh in place of pmap."""
    space: int = 1
    """Devices of a host that share each image, row by row, where one can't hold it."""
    coordinator: str | None = None
    """HOST:PORT of the first host; only where hosts don't find each other (TPU, Slurm)."""
    hosts: int | None = None
    """How many hosts there are, with a coordinator."""
    host: int | None = None
    """This host's number, from 0, with a coordinator."""


def connect(parallel: Parallel) -> None:
    """Joins the other hosts, if there are any; to be called before anything else of JAX.

    Hosts of a TPU pod, of a Slurm job and of Open MPI find each other by themselves.

    Raises:
      InputError: if only a part of coordinator, hosts and host is given.
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
    """Whether JAX can find the other hosts by itself: a step of Slurm or Open MPI, or a TPU."""
    if any(int(os.environ.get(n, 1)) > 1 for n in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")):
        return True
    devices = [*Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/*")]
    return bool(devices) and importlib.util.find_spec("libtpu") is not None


def is_first_host() -> bool:
    """Whether this host is the one that writes logs and reports."""
    return jax.process_index() == 0


def own_rows(batch_size: int) -> slice:
    """The rows of a batch that this host hands in."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def wait_for_all_hosts(name: str) -> None:
    """Returns once every host has come here; `name` says where."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def make_mesh(parallel: Parallel) -> Mesh:
    """The devices that a run computes on, in the shape in which it uses them.

    Returns:
      A mesh of the axes data and space, or of the one axis that pmap maps over.

    Raises:
      InputError: if there aren't so many devices, or space doesn't divide them.
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
    """The mesh in which each `space` devices share an image."""
    return Mesh(np.reshape(devices, (-1, space)), ("data", "space"))


def space_of(mesh: Mesh) -> int:
    """Devices that share an image."""
    return mesh.shape.get("space", 1)


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Copies arrays to every device, as `on_devices` takes and gives the state."""
    # Under pmap each host holds arrays of its own, over a mesh all hosts hold one together.
    over = mesh.local_mesh if _mapped(mesh) else mesh
    return jax.device_put(tree, NamedSharding(over, P()))


def on_devices(step: Step, mesh: Mesh, *, donate: bool = False, per_example: bool = False) -> Step:
    """Puts `step(state, batch, axis_name=…)` onto the devices.

    Returns:
      A function of a replicated state and this host's rows of a batch, arrays on the host. What it
      returns is the whole batch's, on every device. See `compiled` for the arguments.
    """
    call = compiled(step, mesh, donate=donate, per_example=per_example)
    return lambda state, batch: call(state, place(batch, mesh))


def compiled(step: Step, mesh: Mesh, *, donate: bool = False, per_example: bool = False) -> Step:
    """Compiles a step for the devices.

    Args:
      step: sees a state and a batch, sums over `axis_name` what belongs to the whole batch, and
        returns two trees.
      mesh: from `make_mesh`.
      donate: whether the state's memory is used for the result.
      per_example: whether the first tree returned has a row an example, as the batch does.

    Returns:
      A jitted or pmapped function of what `replicate` and `place` give.
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


def place(batch: Batch, mesh: Mesh) -> Batch:
    """This host's rows of a batch, divided among its devices as a compiled step takes them."""
    if mesh.size == 1:
        return batch
    if _mapped(mesh):
        local = mesh.local_mesh.size
        return jax.tree.map(lambda x: x.reshape(local, len(x) // local, *x.shape[1:]), batch)
    return {
        name: jax.make_array_from_process_local_data(_split(mesh, x, batch), x)
        for name, x in batch.items()
    }


def described(state: Tree, batch: Batch, mesh: Mesh) -> tuple[Tree, Batch]:
    """Shapes of a state and a whole batch as a step compiled for a mesh of data × space takes them.

    Args:
      state: of arrays or `jax.ShapeDtypeStruct`, as is the batch.
      batch: with the rows of all hosts.
      mesh: its devices may be only described.
    """

    def on(x, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    everywhere = NamedSharding(mesh, P())
    return (
        jax.tree.map(lambda x: on(x, everywhere), state),
        {name: on(x, _split(mesh, x, batch)) for name, x in batch.items()},
    )


def _split(mesh: Mesh, x, batch: Batch) -> NamedSharding:
    """A batch's rows over data, and the rows of its images and other maps over space."""
    is_map = x.shape[:3] == batch["label"].shape
    return NamedSharding(mesh, P("data", "space") if is_map else P("data"))


def _mapped(mesh: Mesh) -> bool:
    return mesh.axis_names == (DEVICES,)


@contextlib.contextmanager
def preemption() -> Iterator[Callable[[int], bool]]:
    """Notices SIGTERM, with which schedulers announce that they will take the machine.

    Yields:
      A function of the step just done that says whether to save and stop now: on all hosts after
      the same step, if any of them was told.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    told = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    try:
        yield lambda step: bool(told)
    finally:
        signal.signal(signal.SIGTERM, before)
