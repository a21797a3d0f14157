"""Experiments from files and folders."""

import runpy
import sys
from pathlib import Path

from seg_jax.errors import InputError
from seg_jax.run.config import Experiment
from seg_jax.run.workdir import Workdir


def read_experiment(path: Path) -> Experiment:
    """The experiment of an experiment file, or of a run's folder.

    Raises:
      InputError: if it is neither.
    """
    if path.is_dir():
        return Workdir(path).read()[0]
    if not path.exists():
        raise InputError(f"{path} doesn't exist; name an experiment file or a run's folder")
    if path.suffix != ".py":
        raise InputError(f"{path} is no experiment file (.py); name one, or a run's folder")
    sys.path.insert(0, str(path.parent.absolute()))  # as Python does for a file that it runs
    try:
        found = runpy.run_path(str(path)).get("experiment")
    finally:
        sys.path.pop(0)
    if not isinstance(found, Experiment):
        raise InputError(f"{path} defines no `experiment`; name an experiment file")
    return found
