import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
from tiny import lines_of, state_of

from seg_jax import cli
from seg_jax.datasets import Nevi
from seg_jax.errors import InputError
from seg_jax.models import UNet
from seg_jax.optimiser import AdamW, Muon
from seg_jax.parallel import Parallel, make_mesh
from seg_jax.pipeline.augment import Augment
from seg_jax.run import train as training
from seg_jax.run.evaluate import Settings, evaluate
from seg_jax.run.load import load, read_runs
from seg_jax.run.log import Log, read_metrics
from seg_jax.run.train import read_part
from seg_jax.run.train import train as train_on


def train(experiment, examples, validation, workdir):
    mesh, labels = make_mesh(experiment.parallel), experiment.data.labels
    return train_on(experiment, labels, examples, validation, workdir, mesh)


@pytest.fixture(scope="module")
def parts(tiny):
    return [read_part(tiny, tiny.data.labels, part) for part in ("train", "val")]


@pytest.mark.parametrize("optimiser", [AdamW(learning_rate=1e-2), Muon()])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    optimiser, tiny, parts, tmp_path, monkeypatch
):
    tiny = dataclasses.replace(tiny, optimiser=optimiser)
    assert train(tiny, *parts, tmp_path / "whole") == 8

    add = Log.add

    def stop_at_step_6(self, step, scalars):
        if step == 6:
            raise KeyboardInterrupt
        add(self, step, scalars)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "add", stop_at_step_6)
        with pytest.raises(KeyboardInterrupt):
            train(tiny, *parts, tmp_path / "stopped")
    assert read_metrics(tmp_path / "stopped" / "metrics.jsonl")[-1]["step"] == 5
    train(tiny, *parts, tmp_path / "stopped")

    whole, stopped = (state_of(tiny, tmp_path / name) for name in ("whole", "stopped"))
    jax.tree.map(np.testing.assert_array_equal, whole, stopped)
    lines = [lines_of(tmp_path / name) for name in ("whole", "stopped")]
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0] if "val_dice" in line] == [4, 8]


def test_a_run_begins_with_the_weights_of_another(tiny, parts, finished_run, tmp_path, monkeypatch):
    still = dataclasses.replace(tiny, weights_from=finished_run, optimiser=AdamW(1e-12), epochs=1)
    train(still, *parts, tmp_path)
    begun, others = (
        state_of(still, tmp_path).variables["params"],
        read_runs([finished_run])[0].variables["params"],
    )
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-9), begun, others)

    def gone(workdirs):
        raise AssertionError("a run that goes on asked for them again")

    monkeypatch.setattr("seg_jax.run.train.read_runs", gone)
    train(dataclasses.replace(still, epochs=2), *parts, tmp_path)


def test_without_a_validation_part_the_last_weights_count(tiny, parts, tmp_path):
    train(tiny, parts[0], None, tmp_path)
    assert not list((tmp_path / "checkpoints" / "best").iterdir())
    assert all("val_dice" not in line for line in read_metrics(tmp_path / "metrics.jsonl"))
    assert state_of(tiny, tmp_path).step == 8


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_last_good_step(
    tiny, parts, tmp_path, monkeypatch
):
    add = Log.add

    def spoil(self, step, scalars):
        add(self, step, scalars | ({"loss": scalars["loss"] * np.nan} if step == 7 else {}))

    monkeypatch.setattr(Log, "add", spoil)
    with pytest.raises(InputError, match=r"loss is nan at step 7; step 4 is kept.*learning-rate"):
        train(tiny, *parts, tmp_path)
    assert state_of(tiny, tmp_path).step == 4


def test_a_rate_that_is_too_high_is_caught_before_anything_is_saved(tiny, parts, tmp_path):
    wild = AdamW(learning_rate=1e30, warmup=0.0, clip=None)
    with pytest.raises(InputError, match="there is no checkpoint yet"):
        train(dataclasses.replace(tiny, optimiser=wild), *parts, tmp_path)


def test_all_devices_are_used_and_predict_alike(tiny, parts, tmp_path):
    experiment = dataclasses.replace(tiny, batch_size=8, epochs=2, parallel=Parallel(devices=8))
    train(experiment, *parts, tmp_path / "eight")
    train(dataclasses.replace(experiment, parallel=Parallel(devices=1)), *parts, tmp_path / "one")
    eight, one = (state_of(experiment, tmp_path / name) for name in ("eight", "one"))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3),
        eight.variables,
        one.variables,
    )


def test_what_is_learnt_from_crops_is_predicted_whole_and_in_tiles(tiny, tmp_path, monkeypatch):
    size, crop = (32, 40), (16, 16)
    experiment = dataclasses.replace(
        tiny,
        model=UNet(features=(8, 16)),
        data=Nevi(train=4, val=2, test=2, size=40),
        size=size,
        augment=Augment(flip=True, crop=crop),
        epochs=120,
        evaluate_every=60,
        workdir=tmp_path,
    )
    trained, validated = [], []

    def noting(shapes, make):
        def made(*args, **kwargs):
            step = make(*args, **kwargs)

            def noted(state, batch, **options):
                shapes.append(batch["image"].shape)
                return step(state, batch, **options)

            return noted

        return made

    monkeypatch.setattr(training, "training_step", noting(trained, training.training_step))
    monkeypatch.setattr(training, "validation_step", noting(validated, training.validation_step))
    cli.run_experiment(experiment)
    assert set(trained) == {(4, *size, 3)}
    assert set(validated) == {(1, *size, 3)}  # no more pixels than four crops

    lines = read_metrics(tmp_path / "metrics.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:3])
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3)).astype(np.uint8)
    for tile in (None, crop):
        _, scores = evaluate([tmp_path], Settings(part="train", step="latest", tile=tile))
        assert scores["dice"] > 0.85
        assert load(tmp_path, step="latest", tile=tile)(image).label.shape == (50, 70)
