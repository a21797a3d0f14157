"""Saves and restores the training state with Orbax. No other module uses Orbax.

    WORKDIR/checkpoints/latest/STEP    the two newest, to resume from
    WORKDIR/checkpoints/best/STEP      the best on the validation part, if there is one
    WORKDIR/checkpoints/aside/…        checkpoints of later steps than the one that was resumed from

Orbax writes a checkpoint into a temporary folder and renames it when it is complete. So a kill or a
full disk while saving doesn't change earlier checkpoints. Checkpoints hold arrays of the host, so
they can be restored on any number and kind of devices and hosts.
"""

import sys
from pathlib import Path
from typing import Literal, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from seg_jax.errors import InputError
from seg_jax.parallel import is_first_host, wait_for_all_hosts
from seg_jax.run.workdir import Workdir
from seg_jax.step import TrainState, Variables

Tree = TypeVar("Tree")


class Checkpoints:
    """The checkpoints of a workdir. Several hosts call every method together."""

    def __init__(self, workdir: Path, *, read_only: bool = False):
        """Opens the checkpoints of a workdir.

        Args:
          workdir: holds checkpoints/, which is created if it isn't there.
          read_only: nothing in the folder is changed, so a run may write to it at the same time.
            Then each host calls the methods on its own.
        """
        self._folder = Workdir(workdir.absolute()).checkpoints
        self._latest = _manager(self._folder / "latest", keep=2, read_only=read_only)
        # Two, because a resumed run sets aside the best one if it is of a later step.
        self._best = _manager(self._folder / "best", keep=2, read_only=read_only)

    def save(self, state: TrainState) -> None:
        """Saves the whole state, to resume from, unless this step was saved already.

        Raises:
          InputError: if it couldn't be written; earlier checkpoints are kept.
        """
        if (step := int(state.step)) not in self._latest.all_steps():
            self._write(self._latest, step, state)

    def save_best(self, step: int, variables: Variables) -> None:
        """Saves the variables that scored best so far.

        Raises:
          InputError: as in `save`.
        """
        self._write(self._best, step, variables)

    def resume(self, state: TrainState) -> TrainState:
        """The newest state that can be read, on the host, or the given one if none was saved.

        Checkpoints of later steps are moved to aside/: those that can't be read, and the best one
        if it is of a later step, because the run will reach that step again.

        Raises:
          InputError: if there are checkpoints, and none of them can be read.
        """
        found = self._read(self._latest, state)
        resumed_at = 0 if found is None else int(found.step)
        for manager in (self._latest, self._best):
            for step in manager.all_steps():
                if step > resumed_at:
                    self._set_aside(manager, step)
        return state if found is None else found

    def restore_for_prediction(
        self, like: TrainState, which: int | Literal["best", "latest"] = "best"
    ) -> tuple[Variables, int]:
        """The variables for prediction (the moving average of the weights), and their step.

        Args:
          like: the state, as shapes and dtypes.
          which: "best" for the best on the validation part, or the latest if there is none;
            "latest"; or the number of a step.

        Raises:
          InputError: if the workdir holds no such checkpoint, or none that can be read.
        """
        managers = {"latest": [self._latest]}.get(which, [self._best, self._latest])
        for manager in managers:
            for step in _newest_first(manager):
                if which in ("best", "latest", step):
                    best = manager is self._best
                    found = self._read_step(manager, step, like.average if best else like)
                    if found is not None:
                        return (found if best else found.average), step
        there = sorted({step for manager in managers for step in manager.all_steps()})
        if there and which not in ("best", "latest"):
            raise InputError(
                f"{self._folder} holds no checkpoint of step {which} that can be read; --step can "
                f"be {', '.join(map(str, there))}, best or latest"
            )
        raise InputError(
            f"{self._folder} holds no checkpoint that can be read; train first, or name another "
            "workdir"
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def latest_step(self) -> int | None:
        """The newest step that was saved; None if there is none."""
        return self._latest.latest_step()

    def close(self) -> None:
        """Waits until everything is written."""
        self._latest.close()
        self._best.close()

    def _write(self, manager: ocp.CheckpointManager, step: int, tree: TrainState | Variables):
        try:
            manager.save(step, args=ocp.args.StandardSave(jax.device_get(tree)))
        except Exception as error:  # Orbax raises whatever its storage raises
            kept = [s for s in self._latest.all_steps() if s < step]
            raise InputError(
                f"step {step} couldn't be saved in {manager.directory}: {_first_line(error)}; "
                + (f"step {max(kept)} is kept, and " if kept else "")
                + "once that is fixed, the same command goes on"
            ) from error

    def _read(self, manager: ocp.CheckpointManager, like: Tree) -> Tree | None:
        """What the newest checkpoint that can be read holds; None if there is no checkpoint."""
        steps = _newest_first(manager)
        for step in steps:
            if (found := self._read_step(manager, step, like)) is not None:
                return found
        if steps:
            raise InputError(
                f"none of the checkpoints in {manager.directory} can be read; copy them again, or "
                "delete the workdir to start again"
            )
        return None

    def _read_step(self, manager: ocp.CheckpointManager, step: int, like: Tree) -> Tree | None:
        wanted = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        try:
            return manager.restore(step, args=ocp.args.StandardRestore(wanted))
        except Exception as error:  # a broken file can raise anything
            folder = manager.directory / str(step)
            print(f"{folder} can't be read, going back ({_first_line(error)})", file=sys.stderr)
            return None

    def _set_aside(self, manager: ocp.CheckpointManager, step: int) -> None:
        if is_first_host():
            path = Path(manager.directory) / str(step)
            aside = self._folder / "aside" / f"{path.parent.name}-{step}"
            aside.parent.mkdir(exist_ok=True)
            path.rename(_unused(aside))
        wait_for_all_hosts(f"set aside {manager.directory} {step}")
        manager.reload()


def _manager(folder: Path, *, keep: int, read_only: bool) -> ocp.CheckpointManager:
    if read_only:
        folder.mkdir(parents=True, exist_ok=True)
        # Orbax's own read_only warns about every option that it overrides.
        options = ocp.CheckpointManagerOptions(
            create=False,
            save_root_metadata=False,
            enable_async_checkpointing=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=jax.process_index(),
                active_processes={jax.process_index()},
                barrier_sync_key_prefix=f"host_{jax.process_index()}",
            ),
        )
        return ocp.CheckpointManager(folder, options=options)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=True,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=False,
    )
    return ocp.CheckpointManager(folder, options=options)


def _newest_first(manager: ocp.CheckpointManager) -> list[int]:
    return sorted(manager.all_steps(), reverse=True)


def _unused(path: Path) -> Path:
    """The path, with a number added if it exists already."""
    names = (path.with_name(f"{path.name}{n}") for n in ("", *(f".{k}" for k in range(1, 1000))))
    return next(name for name in names if not name.exists())


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    if "No space left on device" in text:
        return "no space left on the disk"
    return text[:300] or type(error).__name__
