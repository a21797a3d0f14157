import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
import tyro

from seg_jax.datasets import CocoPanoptic, Folder
from seg_jax.errors import InputError
from seg_jax.losses import Loss
from seg_jax.run import config
from seg_jax.run.config import Experiment
from seg_jax.tasks import Semantic

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.py"))


@pytest.fixture(params=EXPERIMENTS, ids=lambda path: path.stem)
def experiment(request, monkeypatch) -> Experiment:
    """Each of the experiment files."""
    monkeypatch.syspath_prepend(str(request.param.parent))
    spec = importlib.util.spec_from_file_location(request.param.stem, request.param)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "python experiments/" in module.__doc__
    return module.experiment


def test_experiments_can_be_run_and_kept(experiment):
    if not isinstance(experiment.data, CocoPanoptic):  # its classes stand in a file of the user's
        config.check(experiment, devices=1)
    kept = json.loads(json.dumps(config.to_json(experiment)))
    again = config.from_json(kept)
    assert config.to_json(again) == kept
    assert again.model == experiment.model
    assert again.task == experiment.task


def test_every_field_of_an_experiment_is_a_flag(experiment, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(Experiment, default=experiment, args=["--help"])
    text = capsys.readouterr().out
    for flag in ("--model.features", "--data.", "--task.", "--augment.flip", "--workdir"):
        assert flag in text
    changed = tyro.cli(
        Experiment,
        default=experiment,
        args=["--model.features", "4", "8", "--optimiser.learning-rate", "0.5", "--epochs", "2"],
    )
    assert changed.model.features == (4, 8)
    assert changed.optimiser.learning_rate == 0.5
    assert type(changed.model) is type(experiment.model)


def test_paths_survive_and_become_absolute(tiny):
    experiment = dataclasses.replace(tiny, data=Folder(path=Path("mine")), workdir=Path("runs/x"))
    again = config.from_json(json.loads(json.dumps(config.to_json(experiment))))
    assert again.data.path == Path("mine").absolute()
    assert again.workdir == Path("runs/x").absolute()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": Folder(classes=("a", "b", "c"))},
            r"model.outputs is 1, .* 3 maps \(a, b, c\)",
        ),
        (
            {"task": Semantic(Loss(class_weights=(1.0,)))},
            "class_weights has 1 numbers; set --task.loss.class-weights to 2",
        ),
        ({"epochs": 0}, "epochs is 0; it must be above 0"),
        ({"batch_size": -4}, "batch_size is -4"),
        ({"size": (0, 4)}, r"size is \(0, 4\)"),
        ({"average": 1.0}, "average is 1.0"),
        ({"batch_size": 9}, "batch_size is 9, which 2 devices .* set --batch-size 8"),
    ],
)
def test_what_can_only_fail_later_is_refused_at_once(tiny, changes, message):
    with pytest.raises(InputError, match=message):
        config.check(dataclasses.replace(tiny, **changes), devices=2)


def test_classes_of_the_script_that_runs_are_refused(tiny):
    local = dataclasses.make_dataclass("Local", [], frozen=True)
    local.__module__ = "__main__"
    with pytest.raises(InputError, match="Local is defined in the script"):
        config.to_json(dataclasses.replace(tiny, optimiser=local()))


def test_a_config_of_another_version_is_named(tiny):
    kept = config.to_json(tiny)
    with pytest.raises(InputError, match=r"no seg_jax\.gone\.Net"):
        config.from_json(kept | {"class": "seg_jax.gone.Net"})
    kept["fields"]["colour"] = 1
    with pytest.raises(InputError, match="has no field colour"):
        config.from_json(kept)


def test_differences_name_the_fields(tiny):
    changed = dataclasses.replace(tiny, epochs=9, model=tiny.model.clone(features=(2, 4)))
    found = config.differences(config.to_json(tiny), config.to_json(changed))
    assert found == {"model.features": ([4, 8], [2, 4]), "epochs": (4, 9)}
    assert config.differences(config.to_json(tiny), config.to_json(tiny)) == {}
