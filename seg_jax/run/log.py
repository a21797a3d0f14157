"""The log of a training: metrics.jsonl and TensorBoard; it also stops a run whose loss is NaN."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from seg_jax.files import as_json, write_whole
from seg_jax.run.workdir import Workdir


class NotFinite(ArithmeticError):
    """The loss or the gradient is NaN or infinite."""


class Log:
    """Collects the scalars of each step on the device, and writes a line for several steps at once.

    The loss, the gradient norm, `images_per_second` and `data_wait` (the share of the time that was
    spent waiting for batches) of a line are means over the steps since the previous line. `seconds`
    counts from the start of the run, without the time between a stop and its continuation.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        batch_size: int,
        examples: int,
        resume_at: int,
        best: str = "dice",
        writes: bool = True,
    ):
        """Opens the log and drops lines of steps after `resume_at`, because they are run again.

        Args:
          workdir: where metrics.jsonl and tensorboard/ are.
          batch_size: images a step.
          examples: images an epoch.
          resume_at: number of steps done so far.
          best: the validation score that tells the best weights.
          writes: whether lines are written to disk; of several hosts, only the first one writes.
        """
        self._path = Workdir(workdir).metrics
        self._batch_size, self._examples = batch_size, examples
        self._waited, self._since = 0.0, time.perf_counter()
        lines = [line for line in read_metrics(self._path) if line["step"] <= resume_at]
        self._score = f"val_{best}"
        scores = (line[self._score] for line in lines if line.get(self._score) is not None)
        self._best = max(filter(math.isfinite, scores), default=-1.0)
        self._start = self._since - (lines[-1]["seconds"] if lines else 0.0)
        suspended = lines.pop() if lines and "pending" in lines[-1] else {"pending": []}
        self._pending: list[tuple[int, dict[str, Any]]] = suspended["pending"]
        self._tensorboard = None
        if writes:
            # Imported here, because it imports PyTorch where that is installed.
            from tensorboardX import SummaryWriter

            write_whole(self._path, "".join(map(as_json, lines)))
            self._tensorboard = SummaryWriter(
                Workdir(workdir).tensorboard, purge_step=resume_at + 1
            )

    @contextmanager
    def waiting_for_data(self) -> Iterator[None]:
        """Counts the time inside as waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Doesn't count the time inside (evaluation, saving) for the throughput."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def add(self, step: int, scalars: dict[str, jax.Array]) -> None:
        """Adds the scalars of a step, without waiting for the device."""
        self._pending.append((step, scalars))

    def write(self, **more: float) -> dict[str, float]:
        """Writes a line for the steps since the previous line.

        Args:
          **more: further values of the line.

        Returns:
          The line.

        Raises:
          NotFinite: naming the first step whose loss or gradient isn't finite.
        """
        steps = self._fetch()
        seconds = max(time.perf_counter() - self._since, 1e-9)
        line = {
            name: sum(scalars[name] for _, scalars in steps) / len(steps) for name in steps[0][1]
        } | {
            **more,
            "images_per_second": len(steps) * self._batch_size / seconds,
            "data_wait": self._waited / seconds,
        }
        self._pending = []
        self._waited, self._since = 0.0, time.perf_counter()
        return self._append(steps[-1][0], line)

    def suspend(self) -> None:
        """Keeps the steps that no line covers yet, so that a resumed run writes the same lines.

        Raises:
          NotFinite: as in `write`.
        """
        if steps := self._fetch():
            self._append(steps[-1][0], {"pending": steps})

    def write_scores(self, step: int, scores: dict[str, float]) -> bool:
        """Writes a line of validation scores; returns whether they are the best so far."""
        line = self._append(step, {f"val_{name}": value for name, value in scores.items()})
        better = line[self._score] >= self._best
        self._best = line[self._score] if better else self._best
        return better

    def close(self) -> None:
        """Writes out what TensorBoard still holds in memory."""
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _fetch(self) -> list[tuple[int, dict[str, float]]]:
        """The steps that no line covers yet, with their scalars on the host."""
        steps = [
            (step, {name: float(value) for name, value in jax.device_get(scalars).items()})
            for step, scalars in self._pending
        ]
        for step, scalars in steps:
            for name, value in scalars.items():
                if not math.isfinite(value):
                    raise NotFinite(f"{name} is {value} at step {step}")
        return steps

    def _append(self, step: int, values: dict[str, Any]) -> dict[str, Any]:
        epoch = round(step * self._batch_size / self._examples, 3)
        seconds = round(time.perf_counter() - self._start, 1)
        line = {"step": step, "epoch": epoch, **values, "seconds": seconds}
        if self._tensorboard is not None:
            with self._path.open("a") as file:
                file.write(as_json(line))
            for name, value in values.items():
                if name != "pending":
                    self._tensorboard.add_scalar(name, value, step)
        return line


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, without one that is incomplete because the run was killed."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines
