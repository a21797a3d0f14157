"""All of Orbax: saves the training state, finds it again, restores it.

    WORKDIR/checkpoints/latest/STEP    the two newest, to resume from
    WORKDIR/checkpoints/best/STEP      the best on the validation part, where there is one
    WORKDIR/checkpoints/aside/…        what a run that resumed from an earlier step set aside

Orbax writes a step into a temporary folder and renames it when it is whole, so a kill or a full
disk while saving leaves the earlier ones as they were. What is saved are arrays of the host, so a
checkpoint restores on any number of devices and hosts, of whatever kind.
"""

import sys
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from seg_jax.errors import InputError
from seg_jax.parallel import is_first_host, wait_for_all_hosts
from seg_jax.step import TrainState, Variables

Tree = TypeVar("Tree")


class Checkpoints:
    """The checkpoints of a workdir. Several hosts call every method together."""

    def __init__(self, workdir: Path, *, read_only: bool = False):
        """Opens the checkpoints of a workdir.

        Args:
          workdir: holds checkpoints/, which is created if it isn't there.
          read_only: leaves the folder as it is, also while a run writes to it. Then a host calls
            on its own.
        """
        self._folder = workdir.absolute() / "checkpoints"
        self._latest = _manager(self._folder / "latest", keep=2, read_only=read_only)
        # The best of a step that a resumed run comes to again may go; the one before it stays.
        self._best = _manager(self._folder / "best", keep=2, read_only=read_only)

    def save(self, state: TrainState) -> None:
        """Saves the whole state, to resume from, unless this step is saved already.

        Raises:
          InputError: if it couldn't be written; what was saved before is kept.
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
        """The newest state that can be read, on the host, or the given one where none was saved.

        What can't be read is moved to aside/, and so is the best of a step after the one that is
        resumed from, because the run comes there again.

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

    def restore_for_prediction(self, like: TrainState) -> tuple[Variables, int]:
        """The variables to predict with, and their step: the best, else the latest average.

        Raises:
          InputError: if the workdir holds no checkpoint, or none that can be read.
        """
        for manager, tree in ((self._best, like.average), (self._latest, like)):
            for step in _newest_first(manager):
                found = self._read_step(manager, step, tree)
                if found is not None:
                    return (found.average if manager is self._latest else found), step
        raise InputError(
            f"{self._folder} holds no checkpoint that can be read; train first, or name another "
            "workdir"
        )

    @property
    def latest_step(self) -> int | None:
        """The newest step saved, None before the first."""
        return self._latest.latest_step()

    def close(self) -> None:
        """Waits for what is being written."""
        self._latest.close()
        self._best.close()

    def _write(self, manager: ocp.CheckpointManager, step: int, tree: TrainState | Variables):
        try:
            manager.save(step, args=ocp.args.StandardSave(jax.device_get(tree)))
        except Exception as error:  # Orbax passes on whatever its storage raises
            kept = [s for s in self._latest.all_steps() if s < step]
            raise InputError(
                f"step {step} couldn't be saved in {manager.directory}: {_first_line(error)}; "
                + (f"step {max(kept)} is kept, and " if kept else "")
                + "once that is mended, the same command goes on"
            ) from error

    def _read(self, manager: ocp.CheckpointManager, like: Tree) -> Tree | None:
        """The newest step that can be read."""
        steps = _newest_first(manager)
        for step in steps:
            if (found := self._read_step(manager, step, like)) is not None:
                return found
        if steps:
            raise InputError(
                f"none of the checkpoints in {manager.directory} can be read; copy them anew, or "
                "delete the workdir to start again"
            )
        return None

    def _read_step(self, manager: ocp.CheckpointManager, step: int, like: Tree) -> Tree | None:
        wanted = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        try:
            return manager.restore(step, args=ocp.args.StandardRestore(wanted))
        except Exception as error:  # a torn file can raise anything
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
        # Orbax's own read_only warns about every option that it overrules.
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
    """The path, or with a number after it."""
    names = (path.with_name(f"{path.name}{n}") for n in ("", *(f".{k}" for k in range(1, 1000))))
    return next(name for name in names if not name.exists())


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    if "No space left on device" in text:
        return "no space left on the disk"
    return text[:300] or type(error).__name__
