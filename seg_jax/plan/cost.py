"""What a compiled training step needs of one device: operations, memory and communication.

All numbers are the compiler's. Nothing runs, so the devices need only be described, such as those
of a TPU slice.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import math
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from seg_jax import parallel
from seg_jax.files import write_whole
from seg_jax.labels import Example
from seg_jax.pipeline.batches import arrays_of
from seg_jax.run.config import Experiment
from seg_jax.run.load import abstract_state
from seg_jax.run.train import training_step

_COLLECTIVE = re.compile(
    r"= (?P<shape>.+?) (?P<kind>all-reduce|collective-permute|all-gather|reduce-scatter|all-to-all)"
    r"(?P<start>-start)?\("
)
_ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\]")


class TooLarge(Exception):
    """The compiler found that a step doesn't fit into the memory of a device."""


@dataclass(frozen=True)
class Cost:
    """What one compiled step needs of one device."""

    flops: float
    """Operations of a step."""
    accessed: float
    """Bytes read and written by a step's operations."""
    arguments: int
    """Bytes of state and batch."""
    temporaries: int
    """Bytes of intermediate results."""
    peak: int
    """Largest number of bytes at once: arguments, temporaries, and results that don't replace an
    argument."""
    reduced: int
    """Bytes that a step sums over the devices."""
    exchanged: int
    """Bytes that a step otherwise exchanges between devices, such as rows of split images."""


def cost_of(experiment: Experiment, mesh: Mesh, *, topology: str | None, folder: Path) -> Cost:
    """Compiles the experiment's training step for the devices, and gives what it needs.

    Args:
      experiment: with the batch size of all devices together.
      mesh: of data × space.
      topology: the slice's name; it identifies a kept result, with the program and versions.
      folder: where results are kept, so that nothing is compiled twice.

    Raises:
      TooLarge: if the step doesn't fit, with the compiler's message.
    """
    lowered = lower(experiment, mesh)
    program = (lowered.as_text(), topology, _versions())
    kept = folder / f"{hashlib.sha256(repr(program).encode()).hexdigest()[:32]}.json"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _said(experiment, mesh):
            text = json.dumps(_compile(lowered))
        write_whole(kept, text + "\n")
    found = json.loads(kept.read_text())
    if "too_large" in found:
        raise TooLarge(found["too_large"])
    return Cost(**found)


def lower(experiment: Experiment, mesh: Mesh) -> jax.stages.Lowered:
    """The training step of an experiment, traced for the devices; no array is made."""
    labels, task = experiment.data.labels, experiment.task
    optimiser, _ = experiment.optimiser.chain(1000)
    step = training_step(experiment, labels, optimiser)
    image = np.zeros((*experiment.size, experiment.data.channels), np.uint8)
    joints = len(labels.skeleton.joints) if labels.skeleton else 0
    blank = Example(
        id="",
        image=image,
        label=image[..., 0],
        instance=image[..., 0].astype(np.uint16),
        joints=np.zeros((0, joints, 3), np.float32),
        area=np.zeros(0, np.float32),
    )
    arrays = arrays_of(task, labels, experiment.size, blank)
    arrays |= {name: np.int32(0) for name in ("epoch", "index")}
    batch = {
        name: jax.ShapeDtypeStruct((experiment.batch_size, *x.shape), x.dtype)
        for name, x in arrays.items()
    }
    state = abstract_state(experiment, labels)
    arguments = parallel.abstract_arguments(state, batch, mesh, task.kinds)
    return parallel.compiled(step, mesh, donate=True).lower(*arguments)


def _compile(lowered: jax.stages.Lowered) -> dict:
    """Compiles a step; the fields of its `Cost`, or `too_large` and the compiler's message."""
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {"too_large": too_large(str(error))}
    memory, counted = program.memory_analysis(), program.cost_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    reduced, exchanged = bytes_between(program.as_text())
    found = Cost(
        flops=counted["flops"],
        accessed=counted["bytes accessed"],
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        peak=memory.argument_size_in_bytes + memory.temp_size_in_bytes + results,
        reduced=reduced,
        exchanged=exchanged,
    )
    return dataclasses.asdict(found)


def too_large(words: str) -> str:
    """The part about memory of the compiler's message: "needs 18.60G of 15.75G"."""
    found = re.search(r"\(([\d.]+\w)\) exceeds available HBM \(([\d.]+\w)\)", words)
    return f"needs {found[1]} of {found[2]}" if found else words.partition("\n")[0][:120]


def bytes_between(program: str) -> tuple[int, int]:
    """Bytes that the collective operations of an optimised HLO program move, for one device.

    Returns:
      Bytes that are summed by all-reduce, and bytes that the other operations exchange.
    """
    reduced = exchanged = 0
    for found in _COLLECTIVE.finditer(program):
        size = sum(_size(*array) for array in _ARRAY.findall(found["shape"]))
        if found["kind"] == "all-reduce":
            reduced += size
        else:
            # The start of an asynchronous operation lists its inputs and its outputs.
            exchanged += size // 2 if found["start"] else size
    return reduced, exchanged


def _size(kind: str, shape: str) -> int:
    count = math.prod(int(n) for n in shape.split(",") if n)
    return count * max(1, int(re.sub(r"\D", "", kind) or 8) // 8)


def _versions() -> list[str]:
    found = (name for name in ("jax", "jaxlib", "libtpu") if importlib.util.find_spec(name))
    return [f"{name} {version(name)}" for name in found]


@contextlib.contextmanager
def _said(experiment: Experiment, mesh: Mesh) -> Iterator[None]:
    """Prints what is being compiled and, at the end, how long it took."""
    remat = ", rematerialised" if experiment.model.remat else ""
    where = f"{mesh.size} × {mesh.devices.flat[0].device_kind}"
    words = f"compiling for {where}, batch {experiment.batch_size}{remat} …"
    print(words, end="", file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        yield
    finally:
        print(f" {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
