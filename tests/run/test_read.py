import sys
from pathlib import Path

import pytest

from seg_jax.errors import InputError
from seg_jax.run.read import read_experiment


def test_an_experiment_is_read_from_its_file_or_its_run(finished_run, tiny, tmp_path):
    experiments = Path(__file__).parents[2] / "experiments"
    before = list(sys.path)
    assert read_experiment(experiments / "ph2_segnet.py").name == "ph2_segnet"
    assert sys.path == before
    assert read_experiment(finished_run).model == tiny.model
    (tmp_path / "no.py").write_text("x = 1\n")
    with pytest.raises(InputError, match=r"no.py defines no `experiment`"):
        read_experiment(tmp_path / "no.py")
    with pytest.raises(InputError, match=r"nowhere.py doesn't exist"):
        read_experiment(tmp_path / "nowhere.py")
