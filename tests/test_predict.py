import dataclasses

import numpy as np
import pytest
from PIL import Image

from seg_jax import predict
from seg_jax.datasets.images import read_image, read_mask
from seg_jax.errors import InputError
from seg_jax.predict import in_batches, load, predict_files, predictor
from seg_jax.resize import resize_maps
from seg_jax.tasks.semantic import labels_of


def save_image(path, size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_masks_have_the_images_own_sizes(finished_run, tmp_path):
    odd = save_image(tmp_path / "in" / "odd.png", (37, 53))
    save_image(tmp_path / "in" / "deeper" / "grey.jpg", (20, 90))
    out = tmp_path / "out"
    assert predict_files(finished_run, [tmp_path / "in"], out) == 2
    for name, size in (("odd", (37, 53)), ("grey", (20, 90))):
        mask = read_mask(out / "predictions" / f"{name}.png")
        assert mask.shape == size
        assert set(np.unique(mask)) <= {0, 255}
        assert read_image(out / "overlays" / f"{name}.jpg").shape[:2] == size
    again = tmp_path / "again"
    predict_files(finished_run, [odd], again)
    first, second = (read_mask(folder / "predictions" / "odd.png") for folder in (out, again))
    np.testing.assert_array_equal(first, second)


def test_flips_make_the_prediction_symmetric(finished_run):
    experiment, variables, _ = load(finished_run)
    images = np.random.default_rng(0).integers(0, 256, (2, *experiment.size, 3), dtype=np.uint8)
    predict = predictor(experiment, variables)
    np.testing.assert_allclose(predict(images[:, :, ::-1])[:, :, ::-1], predict(images), atol=1e-5)
    plain = predictor(dataclasses.replace(experiment, test_flips=False), variables)
    mirrored = [plain(np.flip(images, axes)) for axes in ((), 1, 2, (1, 2))]
    mean = sum(np.flip(m, a) for m, a in zip(mirrored, ((), 1, 2, (1, 2)), strict=True)) / 4
    np.testing.assert_allclose(predict(images), mean, atol=1e-5)


def test_batches_of_one_shape_give_each_image_its_own_answer():
    shapes = []

    def mean_of(batch):
        shapes.append(batch.shape)
        return batch.mean((1, 2, 3), keepdims=True)

    images = [np.full((2, 2, 1), k, np.uint8) for k in range(5)]
    np.testing.assert_array_equal(in_batches(mean_of, images, 3)[:, 0, 0, 0], range(5))
    assert shapes == [(3, 2, 2, 1)] * 2


def test_probabilities_are_resized_bilinearly_and_cut_at_one_half():
    step = np.zeros((4, 4, 1), np.float32)
    step[:, 2:] = 1
    labels = labels_of(resize_maps(step, (8, 8)))
    np.testing.assert_array_equal(labels, np.arange(8)[None] >= np.full((8, 1), 4))
    three = np.random.default_rng(0).random((4, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(labels_of(three), three.argmax(-1))
    assert labels_of(three).dtype == np.uint8


def test_what_cannot_be_predicted_is_named(finished_run, tmp_path):
    with pytest.raises(InputError, match=r"nowhere doesn't exist"):
        predict_files(finished_run, [tmp_path / "nowhere"], tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no image"):
        predict_files(finished_run, [tmp_path / "empty"], tmp_path)
    with pytest.raises(InputError, match=r"is no workdir: it has no config\.json"):
        predict.load(tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        predict_files(finished_run, [broken], tmp_path / "out")
    twins = [save_image(tmp_path / k / "a.png", (8, 8)) for k in "xy"]
    with pytest.raises(InputError, match="two images are called a"):
        predict_files(finished_run, twins, tmp_path)
