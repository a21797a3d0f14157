"""All of Orbax: saves the training state, finds it again, restores it.

    WORKDIR/checkpoints/latest/STEP    the two newest, to resume from
    WORKDIR/checkpoints/best/STEP      the best on the validation part, where there is one

Orbax writes a step into a temporary folder and renames it when it is whole, so a kill or a full
disk while saving leaves the earlier ones as they were.
"""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from seg_jax.errors import InputError
from seg_jax.step import TrainState, Variables


class Checkpoints:
    """The checkpoints of a workdir."""

    def __init__(self, workdir: Path):
        """Opens the checkpoints of a workdir, creating the folders where there are none."""
        folder = workdir.absolute() / "checkpoints"
        self._latest = _manager(folder / "latest", keep=2)
        self._best = _manager(folder / "best", keep=1)

    @property
    def latest_step(self) -> int | None:
        """The newest step that can be resumed from, None before the first."""
        return self._latest.latest_step()

    def save(self, state: TrainState) -> None:
        """Saves the whole state, to resume from."""
        step = int(state.step)
        if step not in self._latest.all_steps():
            self._latest.save(step, args=ocp.args.StandardSave(state))
            self._latest.wait_until_finished()

    def save_best(self, step: int, variables: Variables) -> None:
        """Saves the variables that scored best so far, in place of the ones before."""
        self._best.save(step, args=ocp.args.StandardSave(variables))
        self._best.wait_until_finished()

    def restore(self, like: TrainState) -> TrainState:
        """The newest state, in the shapes and dtypes of `like`."""
        return self._restore(self._latest, like)

    def restore_for_prediction(self, like: TrainState) -> tuple[Variables, int]:
        """The variables to predict with, and their step: the best, else the latest average.

        Raises:
          InputError: if the workdir holds no checkpoint.
        """
        if (step := self._best.latest_step()) is not None:
            return self._restore(self._best, like.average), step
        if (step := self._latest.latest_step()) is not None:
            return self.restore(like).average, step
        folder = self._latest.directory.parent
        raise InputError(f"{folder} holds no checkpoint; train first, or name another workdir")

    def _restore(self, manager: ocp.CheckpointManager, like: Any) -> Any:
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(abstract))

    def close(self) -> None:
        """Waits for what is being written."""
        self._latest.close()
        self._best.close()


def _manager(folder: Path, *, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
    return ocp.CheckpointManager(folder, options=options)
