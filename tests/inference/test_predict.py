import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from seg_jax.datasets import Dancers
from seg_jax.datasets.images import read_image, read_mask
from seg_jax.errors import InputError
from seg_jax.export.video import read_frames, write_video
from seg_jax.inference import predict
from seg_jax.inference.predict import CocoFiles, load, predict_files, predicted, predictor
from seg_jax.models import UNet
from seg_jax.pipeline.augment import Augment
from seg_jax.resize import resize_image
from seg_jax.run.config import Experiment
from seg_jax.tasks import Panoptic, Pose
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
    experiment, variables, _ = load(finished_run)
    experiment = dataclasses.replace(experiment, augment=shown)
    images = np.random.default_rng(0).integers(0, 256, (2, *experiment.size, 3), dtype=np.uint8)
    predict = predictor(experiment, variables)
    found = predict(images)
    for axes in (1, 2, (1, 2)):
        symmetric = np.allclose(np.flip(predict(np.flip(images, axes)), axes), found, atol=1e-5)
        assert symmetric == (axes in mirrors)
    plain = predictor(dataclasses.replace(experiment, test_flips=False), variables)
    back = [np.flip(plain(np.flip(images, axes)), axes) for axes in mirrors]
    np.testing.assert_allclose(found, sum(back) / len(back), atol=1e-5)


def test_sizes_are_averaged_each_from_the_images_own_pixels(finished_run):
    experiment, variables, _ = load(finished_run)
    height, width = experiment.size
    larger = round(1.5 * height), round(1.5 * width)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in (larger, (37, 53))]

    at_training_size = predictor(experiment, variables)(images)
    assert at_training_size.shape == (2, height, width, 1)
    shown = [resize_image(image, experiment.size) for image in images]
    np.testing.assert_array_equal(predictor(experiment, variables)(shown), at_training_size)

    at_larger = predictor(dataclasses.replace(experiment, size=larger), variables)(images)
    back = np.stack([resize_image(maps, experiment.size) for maps in at_larger])
    load_at, _, _ = load(finished_run, scales=(1.0, 1.5))
    found = predictor(load_at, variables)(images)
    np.testing.assert_allclose(found, (at_training_size + back) / 2, atol=1e-6)
    assert np.abs(back - at_training_size).max() > 1e-3


def test_sizes_are_whole_multiples_of_the_stride():
    net = UNet(outputs=40, features=(4, 4, 4), stride=4)
    experiment = Experiment(
        name="pose", model=net, data=Dancers(), task=Pose(stride=4), size=(24, 40)
    )
    variables = net.init(jax.random.key(0), np.zeros((1, 24, 40, 3), np.float32), train=False)
    at = [dataclasses.replace(experiment, test_scales=(scale,)) for scale in (1.25, 28 / 24)]
    images = [np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)]
    first, second = (predictor(each, variables)(images) for each in at)  # 32 × 52 and 28 × 48
    assert first.shape == second.shape == (1, 24, 40, 40)
    assert not np.allclose(first, second)


def test_batches_of_one_shape_give_each_image_its_own_answer(monkeypatch):
    shapes = []

    def mean_of(batch):
        shapes.append(np.shape(batch))
        return np.mean(batch, (1, 2, 3), keepdims=True)

    images = [np.full((2, 2, 1), k, np.uint8) for k in range(5)]
    monkeypatch.setattr(predict, "TOGETHER", 3)
    names, shown, found = zip(*predicted(mean_of, zip("abcde", images, strict=True)), strict=True)
    assert names == tuple("abcde")
    assert all(map(np.array_equal, shown, images))
    np.testing.assert_array_equal(np.stack(found)[:, 0, 0, 0], range(5))
    assert shapes == [(3, 2, 2, 1)] * 2


def test_probabilities_are_resized_bilinearly_and_cut_at_one_half():
    step = np.zeros((4, 4, 1), np.float32)
    step[:, 2:] = 1
    labels = labels_of(resize_image(step, (8, 8)))
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


def test_a_folder_can_hold_what_was_written_there_before(finished_run, tmp_path):
    save_image(tmp_path / "a.png", (8, 8))
    (tmp_path / "._a.png").write_bytes(b"what macOS knows of a.png")
    for _ in range(2):
        assert predict_files(finished_run, [tmp_path], tmp_path) == 1


def test_what_was_found_before_a_broken_file_is_kept(tmp_path, monkeypatch, tiny):
    net = UNet(outputs=9, features=(4,))
    experiment = dataclasses.replace(
        tiny, model=net, data=Dancers(), task=Panoptic(), size=(16, 16)
    )
    variables = net.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32), train=False)
    monkeypatch.setattr(predict, "load", lambda *_: (experiment, variables, 0))
    for k in range(8):  # as many as are predicted at once
        save_image(tmp_path / "in" / f"{k}.png", (16, 16))
    (tmp_path / "in" / "8.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"8\.png"):
        predict_files(tmp_path, [tmp_path / "in"], tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "predictions" / "coco.json").read_text())
    assert len(kept["images"]) == 8


def test_a_video_gives_a_video_and_the_predictions_of_its_frames(finished_run, tmp_path):
    pictures = [save_image(tmp_path / "in" / f"{k}.png", (38, 54), seed=k) for k in range(11)]
    clip = tmp_path / "clip.mp4"
    write_video(clip, 12, pictures)
    out = tmp_path / "out"
    assert predict_files(finished_run, [clip], out) == 11
    names = [f"clip_{k:05}" for k in range(11)]
    assert sorted(path.stem for path in (out / "predictions").iterdir()) == names
    assert [path.name for path in (out / "overlays").iterdir()] == ["clip.mp4"]
    rate, count, frames = read_frames(out / "overlays" / "clip.mp4")
    assert (rate, count) == (12, 11)
    assert all(frame.shape == (38, 54, 3) for frame in frames)

    for name, frame in zip(names, read_frames(clip).frames, strict=True):
        Image.fromarray(frame).save(tmp_path / "in" / f"{name}.png")
    for path in pictures:
        path.unlink()
    again = tmp_path / "again"
    predict_files(finished_run, [tmp_path / "in"], again)
    for name in names:
        one, other = (read_mask(f / "predictions" / f"{name}.png") for f in (out, again))
        np.testing.assert_array_equal(one, other)

    assert predict_files(finished_run, [clip], tmp_path / "few", every=4) == 3
    few = sorted(path.stem for path in (tmp_path / "few" / "predictions").iterdir())
    assert few == names[::4]
    rate, count, _ = read_frames(tmp_path / "few" / "overlays" / "clip.mp4")
    assert (rate, count) == (3, 3)


def test_a_folder_of_frames_becomes_a_video_in_order_of_its_numbers(finished_run, tmp_path):
    (tmp_path / "dance").mkdir()
    for k in range(12):
        shade = np.full((32, 32, 3), 20 * k, np.uint8)
        Image.fromarray(shade).save(tmp_path / "dance" / f"{k}.png")
    assert predict_files(finished_run, [tmp_path / "dance"], tmp_path, video=5) == 12
    rate, _, frames = read_frames(tmp_path / "overlays" / "dance.mp4")
    assert rate == 5
    for k, frame in enumerate(frames):
        drawn = read_image(tmp_path / "overlays" / f"{k}.jpg")
        assert frame.mean() == pytest.approx(drawn.mean(), abs=4)
    assert k == 11
    save_image(tmp_path / "dance" / "12.png", (32, 40))
    with pytest.raises(InputError, match=r"12\.jpg is 40×32, those before it 32×32"):
        predict_files(finished_run, [tmp_path / "dance"], tmp_path / "out", video=5)


def test_a_very_large_image_is_decoded_at_a_smaller_size(finished_run, tmp_path, monkeypatch):
    large = save_image(tmp_path / "large.png", (300, 400))
    predict_files(finished_run, [large], tmp_path / "whole")
    monkeypatch.setattr(predict, "MOST", 300 * 400 // 4)
    predict_files(finished_run, [large], tmp_path / "smaller")
    whole, smaller = (
        read_mask(tmp_path / out / "predictions" / "large.png") for out in ("whole", "smaller")
    )
    assert whole.shape == smaller.shape == (300, 400)
    assert (whole == smaller).mean() > 0.97


def test_what_cannot_become_a_video_is_named_before_anything_is_predicted(tmp_path):
    clip, twin = tmp_path / "clip.mp4", tmp_path / "clip.avi"
    clip.write_bytes(b"")
    twin.write_bytes(b"")
    image = save_image(tmp_path / "frames" / "clip_00003.png", (8, 8))
    for paths, settings, words in (
        ([clip], {"every": 0}, "--every is 0"),
        ([clip, image], {"video": 25}, "--video joins the images of a folder"),
        ([clip, twin], {}, "two videos are called clip"),
        ([clip, image], {}, "clip_00003 is called like a frame of clip"),
        ([image], {"out": clip}, r"--out: .*clip\.mp4 is a file; name a folder"),
    ):
        with pytest.raises(InputError, match=words):
            predict_files(tmp_path / "no run", paths, **{"out": tmp_path} | settings)


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("000000000785", "000000000139"), [785, 139]),
        (("7", "07"), [1, 2]),
        (("7", "b"), [1, 2]),
        (("1.5", "8"), [1, 2]),
    ],
)
def test_images_that_are_called_by_numbers_have_them_as_ids(tiny, tmp_path, names, ids):
    file = CocoFiles(dataclasses.replace(tiny, data=Dancers(), task=Panoptic()))
    for name in names:
        image = np.zeros((6, 9, 3), np.uint8)
        file.add(name, {"file_name": f"{name}.jpg"}, image, [{"category_id": 3}])
    file.write(tmp_path)
    found = json.loads((tmp_path / "predictions" / "coco.json").read_text())
    assert found["images"] == [
        {"id": id, "file_name": f"{name}.jpg", "height": 6, "width": 9}
        for id, name in zip(ids, names, strict=True)
    ]
    assert [a["image_id"] for a in found["annotations"]] == ids
    assert [a["id"] for a in found["annotations"]] == [1, 2]
