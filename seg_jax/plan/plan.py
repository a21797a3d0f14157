"""Plans a training step for devices that you may not have: its memory, operations and bytes.

The TPU compiler works without a TPU, so a slice can be planned before it is rented. Nothing runs:
the numbers are the compiler's, for the same step that `run/train.py` runs.
"""

import dataclasses
import importlib.util
import math
import os
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from seg_jax import parallel
from seg_jax.errors import InputError
from seg_jax.plan.cost import Cost, TooLarge, cost_of
from seg_jax.run import config
from seg_jax.run.config import Experiment
from seg_jax.run.load import abstract_state


@dataclass(frozen=True)
class Chip:
    """The published data of a device."""

    flops: float
    """Peak bfloat16 operations a second."""
    bandwidth: float
    """Bytes a second between memory and chip."""
    memory: float
    """Bytes of memory."""


GIB = 2**30
CHIPS = {
    # JAX treats the two cores of a v4 chip as two devices; each has half of everything.
    "TPU v4": Chip(137.5e12, 614e9, 16 * GIB),
    "TPU v5 lite": Chip(197e12, 819e9, 16 * GIB),
    "TPU v5": Chip(459e12, 2765e9, 95 * GIB),
    "TPU v6 lite": Chip(918e12, 1640e9, 32 * GIB),
}
"""By JAX's name of the kind of device; from cloud.google.com/tpu/docs/v4, v5e, v5p and v6e."""


def mesh_of(topology: str | None, space: int) -> Mesh:
    """The devices of a TPU slice that is only described, or those of this machine.

    Args:
      topology: as Google writes it, such as "v5e:4x4"; None for this machine's own devices.
      space: devices that share an image.

    Raises:
      InputError: if the TPU compiler isn't installed, or knows no such slice.
    """
    if topology is None:
        return parallel.make_mesh(parallel.Parallel(mesh=True, space=space))
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(
            "planning a TPU slice needs the TPU compiler: pip install 'seg_jax[tpu]', into an "
            "environment of its own, since with it every import of JAX prints warnings"
        )
    # Without these variables the compiler asks Google's metadata server about this machine.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # The compiler locks the TPU, though there is none; the lock stays after a plan is killed.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except jax.errors.JaxRuntimeError as error:
        raise InputError(
            f"--topology {topology}: {str(error).partition(': ')[2] or error}; write it as v5e:2x2,"
            " v5e:4x4, v5e:16x16, v6e:4x4, v5p:2x2x2 or v4:2x2x1"
        ) from error
    if space < 1 or len(devices) % space:
        raise InputError(
            f"--space {space} doesn't divide the {len(devices)} devices; give a divisor"
        )
    return parallel.data_by_space(devices, space)


def largest_batch(
    experiment: Experiment, mesh: Mesh, *, topology: str | None, folder: Path
) -> int | None:
    """The largest batch that fits, to within an eighth; None if none fits.

    The memory of the two largest batches that fit so far is extrapolated linearly. The batch at
    which it reaches the chip's memory is compiled next. This is repeated, because the compiler uses
    memory better for large batches.

    Args:
      experiment: its batch size is where the search starts.
      mesh: from `mesh_of`, of a kind in `CHIPS`.
      topology: as for `cost_of`.
      folder: as for `cost_of`.
    """
    unit = mesh.shape["data"] * experiment.accumulate
    fitting: dict[int, Cost] = {}

    def fits(units: int) -> bool:
        changed = dataclasses.replace(experiment, batch_size=units * unit)
        try:
            fitting[units] = cost_of(changed, mesh, topology=topology, folder=folder)
        except TooLarge:
            return False
        return True

    start = experiment.batch_size // unit
    for units in [start >> k for k in range(start.bit_length())] if start > 1 else [1, 2]:
        if fits(units) and len(fitting) == 2:
            break
    else:
        return max(fitting, default=0) * unit or None
    # The compiler reserves a part of the memory.
    memory = 0.97 * CHIPS[mesh.devices.flat[0].device_kind].memory
    too_many = math.inf
    while True:
        (small, low), (large, high) = sorted(fitting.items())[-2:]
        slope = max((high.peak - low.peak) / (large - small), 1.0)
        units = large + int((memory - high.peak) / slope)
        units = min(units, 4 * large, (large + too_many) // 2)
        if units <= large + large // 16:
            return large * unit
        if not fits(units):
            too_many = units


def plan(
    experiment: Experiment,
    *,
    topology: str | None = None,
    space: int = 1,
    search: bool = True,
    folder: Path | None = None,
) -> str:
    """What the experiment's training step needs, with and without rematerialisation, as a table.

    Args:
      experiment: with the batch size of all devices together.
      topology: of a TPU slice; None for the devices of this machine.
      space: devices that share an image.
      search: whether to look for the largest batch that fits, where the device is in `CHIPS`.
      folder: where results are kept; the user's cache folder if not given.

    Raises:
      InputError: if the experiment can't run on these devices.
    """
    folder = folder or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "seg_jax"
    mesh = mesh_of(topology, space)
    config.check(experiment, devices=mesh.size, space=space)
    kind = mesh.devices.flat[0].device_kind
    columns = {}
    for name, model in _variants(experiment).items():
        changed = dataclasses.replace(experiment, model=model)
        try:
            found = cost_of(changed, mesh, topology=topology, folder=folder)
            columns[name] = _figures(found, changed, mesh)
        except TooLarge as error:
            columns[name] = {"doesn't fit": str(error)}
        if search and kind in CHIPS:
            best = largest_batch(changed, mesh, topology=topology, folder=folder)
            columns[name]["largest batch that fits"] = "none" if best is None else f"{best:,}"
    seen = "{}×{}".format(*experiment.size)
    if experiment.augment.crop is not None:
        seen += ", crops of {}×{}".format(*experiment.augment.crop)
    where = topology or "this machine"
    title = (
        f"{experiment.name}: {type(experiment.model).__name__} in "
        f"{experiment.model.dtype}, "
        f"{_parameters(experiment):,} parameters\n"
        f"{seen}, batch {experiment.batch_size} on {mesh.size} × {kind} ({where})"
        + (f", {space} an image" if space > 1 else "")
    )
    loops = kind == "cpu" or experiment.accumulate > 1  # loops over images, over parts of a batch
    note = "\nThe compiler counts a loop once, so operations and bytes are too low.\n" * loops
    return f"{title}\n\n{_table(columns)}\n{note}"


def _variants(experiment: Experiment) -> dict:
    return {
        "plain": experiment.model.clone(remat=False),
        "rematerialised": experiment.model.clone(remat=True),
    }


def _parameters(experiment: Experiment) -> int:
    params = abstract_state(experiment, experiment.data.labels).variables["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _figures(found: Cost, experiment: Experiment, mesh: Mesh) -> dict[str, str]:
    """The rows of a column, by name."""
    chip = CHIPS.get(mesh.devices.flat[0].device_kind)
    total = found.flops * mesh.size
    rows = {
        "operations an image": _si(total / experiment.batch_size, "FLOP"),
        "operations a step": _si(total, "FLOP"),
        "memory a device: state and batch": f"{found.arguments / GIB:.2f} GiB",
        "  temporaries": f"{found.temporaries / GIB:.2f} GiB",
        "  peak": f"{found.peak / GIB:.2f} GiB"
        + (f" of {chip.memory / GIB:.0f} GiB" if chip else ""),
        "summed over devices a step": _si(found.reduced, "B"),
    }
    if mesh.shape["space"] > 1:
        rows["passed between devices a step"] = _si(found.exchanged, "B")
    rows["arithmetic intensity"] = f"{found.flops / found.accessed:.1f} FLOP/byte"
    if chip:
        compute, memory = found.flops / chip.flops, found.accessed / chip.bandwidth
        bound = "arithmetic" if compute > memory else "memory"
        seconds = max(compute, memory)
        rows["roofline: a step"] = f"{_si(seconds, 's')} ({bound})"
        rows["  images a second at most"] = f"{experiment.batch_size / seconds:,.0f}"
    return rows


def _si(value: float, unit: str) -> str:
    """A value with three digits and a prefix: "1.96 MB"."""
    prefixes = {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1.0}
    prefix, size = next((item for item in prefixes.items() if value >= item[1]), ("m", 1e-3))
    shown = value / size
    return f"{shown:,.{max(0, 2 - int(math.log10(max(shown, 1))))}f} {prefix}{unit}"


def _table(columns: dict[str, dict[str, str]]) -> str:
    names = dict.fromkeys(name for rows in columns.values() for name in rows)
    rows = [["", *columns]]
    rows += [[name, *(column.get(name, "–") for column in columns.values())] for name in names]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [first.ljust(widths[0]), *(x.rjust(w) for x, w in zip(rest, widths[1:], strict=True))]
        for first, *rest in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)
