import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from seg_jax.datasets import Dancers
from seg_jax.errors import InputError
from seg_jax.inference import predictor as module
from seg_jax.inference.predictor import averaged, mirrored, of_network, resized
from seg_jax.labels import Labels
from seg_jax.models import UNet
from seg_jax.pipeline.augment import Augment
from seg_jax.resize import Resize, resize_image
from seg_jax.run.config import Experiment
from seg_jax.run.load import at_sizes, load, network_predictor, read_runs
from seg_jax.tasks import Pose, Semantic
from seg_jax.tasks.semantic import labels_of

ONE = Labels(("thing",))


def random_images(*sizes, channels=3):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, channels), dtype=np.uint8) for size in sizes]


def net_of(seed=0, labels=ONE, **fields):
    net = UNet(features=(4, 8), outputs=len(labels.classes), **fields)
    variables = net.init(jax.random.key(seed), np.zeros((1, 16, 16, 3), np.float32), train=False)
    return of_network(net, variables, Semantic(), labels, channels=3)


@pytest.mark.parametrize(
    ("shown", "mirrors"),
    [
        (Augment(), [()]),
        (Augment(flip=True), [(), 2]),
        (Augment(flip=True, flip_vertical=True), [(), 1, 2, (1, 2)]),
    ],
    ids=["none", "flip", "both flips"],
)
def test_only_mirror_images_that_training_showed_are_averaged(finished_run, shown, mirrors):
    ((experiment, labels, variables, _),) = read_runs([finished_run])
    experiment = dataclasses.replace(experiment, augment=shown)
    images = np.stack(random_images(experiment.size, experiment.size))
    predict = network_predictor(experiment, labels, variables).maps
    found = predict(images)
    for axes in (1, 2, (1, 2)):
        symmetric = np.allclose(np.flip(predict(np.flip(images, axes)), axes), found, atol=1e-5)
        assert symmetric == (axes in mirrors)
    without = dataclasses.replace(experiment, test_flips=False)
    plain = network_predictor(without, labels, variables).maps
    back = [np.flip(plain(np.flip(images, axes)), axes) for axes in mirrors]
    np.testing.assert_allclose(found, sum(back) / len(back), atol=1e-5)


def test_sizes_are_averaged_each_from_the_images_own_pixels(finished_run):
    ((experiment, labels, variables, _),) = read_runs([finished_run])
    height, width = experiment.size
    larger = round(1.5 * height), round(1.5 * width)
    images = random_images(larger, (37, 53))
    net = network_predictor(experiment, labels, variables)

    at_training_size = at_sizes(net, experiment).maps(images)
    assert at_training_size.shape == (2, height, width, 1)
    shown = [resize_image(image, experiment.size) for image in images]
    np.testing.assert_allclose(net.maps(shown), at_training_size, atol=2e-2)  # a level of 255

    at_larger = resized(net, larger).maps(images)
    back = Resize.between(larger, experiment.size)(at_larger)
    found = load(finished_run, scales=(1.0, 1.5)).maps(images)
    np.testing.assert_allclose(found, (at_training_size + back) / 2, atol=1e-6)
    assert np.abs(back - at_training_size).max() > 1e-3


def test_sizes_are_whole_multiples_of_the_stride():
    net = UNet(features=(4, 4, 4), stride=4)
    data = Dancers()
    experiment = Experiment(name="pose", model=net, data=data, task=Pose(), size=(24, 40))
    net = net.clone(outputs=40)
    variables = net.init(jax.random.key(0), np.zeros((1, 24, 40, 3), np.float32), train=False)
    seen = network_predictor(experiment, data.labels, variables)
    images = random_images((24, 40))
    first, second = (  # 32 × 52 and 28 × 48
        at_sizes(seen, experiment, (scale,)).maps(images) for scale in (1.25, 28 / 24)
    )
    assert first.shape == second.shape == (1, 24, 40, 40)
    assert not np.allclose(first, second)


def test_batches_of_one_shape_give_each_image_its_own_answer(monkeypatch):
    shapes = []

    def mean_of(batch):
        shapes.append(np.shape(batch))
        return np.mean(batch, (1, 2, 3), keepdims=True)

    images = [np.full((2, 2, 1), k, np.uint8) for k in range(5)]
    monkeypatch.setattr(module, "IMAGES_AT_ONCE", 3)
    predict = dataclasses.replace(net_of(), maps=mean_of)
    names, shown, found = zip(*predict.predictions(zip("abcde", images, strict=True)), strict=True)
    assert names == tuple("abcde")
    assert all(map(np.array_equal, shown, images))
    np.testing.assert_array_equal(np.stack(found)[:, 0, 0, 0], range(5))
    assert shapes == [(3, 2, 2, 1)] * 2


def test_probabilities_are_resized_bilinearly_and_cut_at_one_half():
    step = np.zeros((4, 4, 1), np.float32)
    step[:, 2:] = 1
    labels = labels_of(Resize.between((4, 4), (8, 8))(step[None])[0])
    np.testing.assert_array_equal(labels, np.arange(8)[None] >= np.full((8, 1), 4))
    three = np.random.default_rng(0).random((4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(labels_of(three), three.argmax(-1))
    assert labels_of(three).dtype == np.uint8


def test_a_notebook_gets_labels_and_probabilities_of_an_images_own_size(finished_run, tmp_path):
    predict = load(str(finished_run))
    (image,) = random_images((37, 53))
    found = predict(image)
    assert found.label.shape == (37, 53)
    assert found.label.dtype == np.uint8
    assert found.probabilities.shape == (37, 53, 1)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_array_equal(found.label, found.probabilities[..., 0] >= 0.5)
    Image.fromarray(image).save(tmp_path / "a.png")
    both = predict([image, tmp_path / "a.png"])
    for one in both:
        np.testing.assert_array_equal(one.label, found.label)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8), np.uint8)],
    ids=["float", "four channels", "no channels"],
)
def test_what_is_no_image_is_refused_with_its_shape(image):
    with pytest.raises(InputError, match=r"this network takes uint8 of shape \(height, width, 3\)"):
        net_of()(image)


def test_an_ensemble_is_the_mean_of_its_members_probabilities(finished_run):
    images = random_images((40, 30))
    members = [resized(net_of(seed), (16, 24)) for seed in range(3)]
    found = averaged(members)(images)[0]
    each = [member(images)[0].probabilities for member in members]
    np.testing.assert_allclose(found.probabilities, np.mean(each, 0), atol=1e-6)
    assert np.ptp([p.mean() for p in each]) > 1e-3
    twice = load([finished_run, finished_run])(images)[0]
    once = load(finished_run)(images)[0]
    np.testing.assert_allclose(twice.probabilities, once.probabilities, atol=1e-6)


def test_members_of_other_training_sizes_meet_on_the_first_ones_grid():
    images = random_images((40, 30))
    first, second = resized(net_of(0), (16, 24)), resized(net_of(1), (32, 32))
    found = averaged([first, second]).maps(images)
    back = Resize.between((32, 32), (16, 24))(second.maps(images))
    np.testing.assert_allclose(found, (first.maps(images) + back) / 2, atol=1e-6)


def test_runs_that_do_not_fit_together_are_refused():
    other = net_of(labels=Labels(("sky", "road")))
    with pytest.raises(InputError, match=r"Semantic of thing .*, another Semantic of sky, road"):
        averaged([net_of(), other])


def test_a_mirrored_predictor_sees_the_mirror_image():
    net, images = net_of(), np.stack(random_images((16, 24)))
    for axes in ((), (1,), (2,), (1, 2)):
        expected = np.flip(net.maps(np.flip(images, axes)), axes)
        np.testing.assert_allclose(mirrored(net, axes).maps(images), expected, atol=1e-6)


def test_a_network_is_compiled_once_whatever_the_images_sizes():
    predict = resized(net_of(norm="group"), (16, 16))  # a net that no other test compiles
    before = module._apply._cache_size()
    for size in ((37, 53), (64, 64), (90, 20), (200, 300)):
        predict(random_images(size)[0])
    assert module._apply._cache_size() == before + 1


def test_a_very_large_image_is_decoded_at_a_smaller_size(finished_run, monkeypatch):
    large = resize_image(random_images((30, 40))[0], (300, 400))
    predict = load(finished_run)
    whole = predict(large).label
    monkeypatch.setattr(module, "MAX_DECODED", 300 * 400 // 4)
    smaller = predict(large).label
    assert whole.shape == smaller.shape == (300, 400)
    assert (whole == smaller).mean() > 0.97
