"""Where everything of a run is kept: every path of a workdir, in one place.

WORKDIR/config.json        the experiment and its labels
WORKDIR/environment.json   command, versions and machine of a run that has finished
WORKDIR/metrics.jsonl      the log of the training; the same in tensorboard/
WORKDIR/checkpoints/       see `seg_jax.run.checkpoint`
WORKDIR/evaluations/NAME/  scores, scores of each image, predictions and overlays
WORKDIR/report.html        all of it on one page
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seg_jax.errors import InputError
from seg_jax.files import read_json
from seg_jax.labels import Labels
from seg_jax.run.config import Experiment, restored


@dataclass(frozen=True)
class Workdir:
    """The folder of a run; it need not exist yet."""

    path: Path

    @property
    def config(self) -> Path:
        """config.json."""
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        """environment.json, which is written once the run has finished."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """metrics.jsonl."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's files."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """report.html."""
        return self.path / "report.html"

    @property
    def evaluations(self) -> Path:
        """Folder of the evaluations, which are folders themselves."""
        return self.path / "evaluations"

    def evaluation(self, name: str) -> Path:
        """Folder of an evaluation, such as "test"."""
        return self.evaluations / name

    @property
    def finished(self) -> bool:
        """Whether the run has trained to its end and was scored."""
        # Not by its scores alone, which `seg-jax evaluate` gives a stopped run too.
        return self.environment.exists() and (self.evaluation("test") / "scores.json").exists()

    def read(self) -> tuple[Experiment, Labels]:
        """The experiment that the folder belongs to, and what its labels mean.

        Raises:
          InputError: if the folder isn't a run's, or its config.json is broken.
        """
        kept = self.read_config()
        try:
            return restored(kept)
        except InputError as error:
            raise InputError(f"{self.path}: {error}", field=error.field) from error

    def read_config(self) -> dict[str, Any]:
        """What config.json holds.

        Raises:
          InputError: if there is none, or it is broken.
        """
        if not self.config.exists():
            raise InputError(
                f"{self.path} is no workdir: it has no config.json; name a run's folder"
            )
        kept = read_json(self.config)
        if not isinstance(kept, dict) or not {"class", "fields"} <= kept.keys():
            raise InputError(f"{self.config} holds no experiment; restore it or run again")
        return kept
