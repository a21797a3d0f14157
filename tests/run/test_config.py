import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
import tyro

from seg_jax.datasets import CocoPanoptic, Dancers, Folder
from seg_jax.errors import InputError
from seg_jax.labels import Labels
from seg_jax.losses import Loss
from seg_jax.models import UNet
from seg_jax.pipeline.augment import Augment
from seg_jax.run import config
from seg_jax.run.config import Experiment
from seg_jax.tasks import Panoptic, Pose, Semantic

LABELS = Labels(("sky", "person"), things=("person",))

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
    labels = LABELS if isinstance(experiment.data, CocoPanoptic) else experiment.data.labels
    kept = json.loads(json.dumps(config.kept(experiment, labels)))
    again, labels_again = config.restored(kept)
    assert config.kept(again, labels_again) == kept
    assert labels_again == labels
    assert again.model == experiment.model
    assert again.task == experiment.task
    assert config.network(again, labels).outputs == len(experiment.task.maps(labels))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": Folder(classes=("a", "b", "c")), "model": UNet(outputs=1)},
            r"model.outputs is 1, .* 3 maps \(a, b, c\)",
        ),
        ({"model": UNet(stride=2)}, "model.stride is 2, but Semantic .* set --model.stride 1"),
        (
            {"task": Semantic(Loss(class_weights=(1.0,)))},
            "class_weights has 1 numbers; set --task.loss.class-weights to 2",
        ),
        ({"epochs": 0}, "epochs is 0; it must be above 0"),
        ({"batch_size": -4}, "batch_size is -4"),
        ({"size": (0, 4)}, r"size is \(0, 4\)"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"batch_size": 9}, "batch_size is 9, which 2 devices .* set --batch-size 8"),
    ],
)
def test_what_can_only_fail_later_is_refused_at_once(tiny, changes, message):
    with pytest.raises(InputError, match=message):
        config.check(dataclasses.replace(tiny, **changes), devices=2)


def test_crops_that_do_not_fit_are_refused(tiny):
    coarse = {"data": Dancers(), "task": Pose(), "model": UNet(features=(4, 8, 8), stride=4)}
    for changes, crop, space, message in (
        ({}, (16, 24), 1, None),
        ({}, (9, 7), 1, None),
        ({}, (32, 20), 1, r"crop is \(32, 20\), .* size, \(16, 24\); set --augment.crop 16 20,"),
        ({}, (16, 25), 1, r"crop is \(16, 25\), .*--augment.crop 16 24, or a larger --size"),
        (coarse, (8, 12), 1, None),
        (coarse, (10, 12), 1, r"model.stride, 4, doesn't divide; set --augment.crop 8 12"),
        (coarse, (8, 3), 1, r"crop is \(8, 3\), .* set --augment.crop 8 4"),
        ({}, (8, 8), 2, r"augment.crop is \(8, 8\), but parallel.space is 2, .*--parallel.space 1"),
    ):
        experiment = dataclasses.replace(tiny, **changes, augment=Augment(crop=crop))
        if message is None:
            config.check(experiment, devices=4, space=space)
            continue
        with pytest.raises(InputError, match=message):
            config.check(experiment, devices=4, space=space)


def test_a_crop_is_a_flag_and_is_kept(tiny):
    cropped = tyro.cli(Experiment, default=tiny, args=["--augment.crop", "8", "12"])
    assert cropped.augment.crop == (8, 12)
    whole = tyro.cli(Experiment, default=cropped, args=["--augment.crop", "None"])
    assert whole.augment.crop is None
    kept = json.loads(json.dumps(config.kept(cropped, cropped.data.labels)))
    assert config.restored(kept)[0] == cropped
    del kept["fields"]["augment"]["fields"]["crop"]  # as runs from before there were crops
    assert config.restored(kept)[0] == whole


@pytest.mark.parametrize("task", [Panoptic(max_objects=9, min_area=3), Pose(max_people=4)])
def test_a_configuration_of_version_1_is_read(tiny, task):
    """As it was before labels were kept, and fields and classes got other names."""
    new = dataclasses.replace(tiny, task=task, data=Dancers())
    kept = config.kept(new, new.data.labels)
    old = {"class": "seg_jax.config.Experiment", "fields": dict(kept["fields"])}
    fields = old["fields"]
    fields["average"] = fields.pop("ema_decay")
    fields["model"]["fields"]["outputs"] = len(task.maps(new.data.labels))
    fields["augment"]["class"] = "seg_jax.augment.Augment"
    renamed = {
        "centre_weight": "centre",
        "offset_weight": "offset",
        "max_objects": "objects",
        "min_area": "least",
        "heat_weight": "heat",
        "field_weight": "field",
        "max_people": "people",
        "min_joints": "least_joints",
        "min_score": "least_score",
    }
    of_task = fields["task"]["fields"]
    fields["task"]["fields"] = {renamed.get(name, name): value for name, value in of_task.items()}
    if isinstance(task, Pose):
        fields["task"]["fields"]["stride"] = 1
    again, labels = config.restored(json.loads(json.dumps(old)))
    assert again == new
    assert labels == new.data.labels


def test_other_labels_are_another_configuration(tiny):
    old = config.kept(tiny, tiny.data.labels)
    new = config.kept(tiny, Labels(("mole",)))
    assert config.changed_fields(old, new) == [
        "labels.classes: ['lesion'], now ['mole']",
        "labels.segments: ['lesion'], now ['mole']",
    ]
    assert (
        config.changed_fields(
            old, config.kept(dataclasses.replace(tiny, log_every=9), tiny.data.labels)
        )
        == []
    )
