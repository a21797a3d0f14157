import dataclasses

import numpy as np
import pytest

from seg_jax import metrics
from seg_jax.inference.evaluate import validate
from seg_jax.run.load import network_predictor, read_runs
from seg_jax.run.train import read_part, validation_step
from seg_jax.tasks.semantic import labels_of


def test_validation_is_the_mean_over_images_whatever_the_batch(finished_run, tiny):
    ((experiment, labels, variables, _),) = read_runs([finished_run])
    test = read_part(tiny, labels, "test")
    step = validation_step(experiment, labels)
    one, three = (
        validate(experiment.task, labels, step, variables, test, batch_size=n) for n in (2, 3)
    )
    assert one["dice"] == pytest.approx(three["dice"])
    plain = dataclasses.replace(experiment, test_flips=False)
    maps = network_predictor(plain, labels, variables).maps(test.arrays["image"])
    counts = metrics.count(labels_of(np.asarray(maps)), test.arrays["label"], classes=1)
    assert one["dice"] == pytest.approx(metrics.dice(counts).mean())
