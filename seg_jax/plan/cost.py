"""What one compiled training step takes of one device, by the compiler's own count.

Nothing runs: the devices may be only described, such as those of a TPU slice.
"""

import contextlib
import dataclasses
import functools
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
from seg_jax.datasets.source import Example
from seg_jax.files import write_whole
from seg_jax.inference import predict
from seg_jax.pipeline.batches import arrays_of
from seg_jax.run.config import Experiment
from seg_jax.step import make_train_step

_COLLECTIVE = re.compile(
    r"= (?P<shape>.+?) (?P<kind>all-reduce|collective-permute|all-gather|reduce-scatter|all-to-all)"
    r"(?P<start>-start)?\("
)
_ARRAY = re.compile(r"\b(pred|bf16|[fsu]\d+)\[([\d,]*)\]")


class TooLarge(Exception):
    """The compiler found that a step doesn't fit the device's memory."""


@dataclass(frozen=True)
class Cost:
    """What one compiled step takes of one device."""

    flops: float
    """Operations of a step."""
    accessed: float
    """Bytes read and written by a step's operations."""
    arguments: int
    """Bytes of state and batch."""
    temporaries: int
    """Bytes of what is kept and computed within a step."""
    peak: int
    """Bytes at once: arguments, temporaries, and results that don't take an argument's place."""
    reduced: int
    """Bytes that a step sums over the devices."""
    exchanged: int
    """Bytes that a step passes between devices otherwise, such as the rows beside a cut."""


def cost_of(experiment: Experiment, mesh: Mesh, *, topology: str | None, folder: Path) -> Cost:
    """Compiles the experiment's training step for the devices and reads off what it takes.

    Args:
      experiment: with the batch size of all devices together.
      mesh: of data × space.
      topology: the slice's name, under which the result is kept.
      folder: where results are kept, by what was compiled.

    Raises:
      TooLarge: if the step doesn't fit, with the compiler's words.
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
    optimiser, _ = experiment.optimiser.chain(1000)
    step = make_train_step(
        experiment.model,
        optimiser,
        functools.partial(experiment.task.objective, experiment.data),
        augmentation=experiment.augment,
        seed=experiment.seed,
        average=experiment.average,
        accumulate=experiment.accumulate,
        standardise=experiment.standardise,
    )
    image = np.zeros((*experiment.size, experiment.data.channels), np.uint8)
    skeleton = getattr(experiment.data, "skeleton", None)
    blank = Example(
        id="",
        image=image,
        label=image[..., 0],
        instance=image[..., 0].astype(np.uint16),
        joints=np.zeros((0, len(skeleton.joints), 3), np.float32) if skeleton else None,
        area=np.zeros(0, np.float32),
    )
    arrays = arrays_of(experiment, blank) | {name: np.int32(0) for name in ("epoch", "index")}
    batch = {
        name: jax.ShapeDtypeStruct((experiment.batch_size, *x.shape), x.dtype)
        for name, x in arrays.items()
    }
    arguments = parallel.described(predict.shapes_of_state(experiment), batch, mesh)
    return parallel.compiled(step, mesh, donate=True).lower(*arguments)


def _compile(lowered: jax.stages.Lowered) -> dict:
    """What `cost_of` keeps of a compilation."""
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
    """What the compiler says of the memory: "needs 18.60G of 15.75G"."""
    found = re.search(r"\(([\d.]+\w)\) exceeds available HBM \(([\d.]+\w)\)", words)
    return f"needs {found[1]} of {found[2]}" if found else words.partition("\n")[0][:120]


def bytes_between(program: str) -> tuple[int, int]:
    """Bytes of an optimised HLO program's collectives, of one device.

    Returns:
      What its all-reduces sum, and what the others pass on.
    """
    reduced = exchanged = 0
    for found in _COLLECTIVE.finditer(program):
        size = sum(_size(*array) for array in _ARRAY.findall(found["shape"]))
        if found["kind"] == "all-reduce":
            reduced += size
        else:
            # The start of an asynchronous one names what goes in and what comes out.
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
    """Says what is being compiled and, at the end, how long it took."""
    remat = ", rematerialised" if getattr(experiment.model, "remat", False) else ""
    where = f"{mesh.size} × {mesh.devices.flat[0].device_kind}"
    words = f"compiling for {where}, batch {experiment.batch_size}{remat} …"
    print(words, end="", file=sys.stderr, flush=True)
    start = time.perf_counter()
    try:
        yield
    finally:
        print(f" {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
