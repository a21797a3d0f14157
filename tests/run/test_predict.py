import json

import jax
import numpy as np
import pytest
from PIL import Image

from seg_jax.datasets import Dancers
from seg_jax.datasets.images import read_image, read_mask
from seg_jax.errors import InputError
from seg_jax.export.video import read_frames, write_video
from seg_jax.inference.predictor import of_network
from seg_jax.models import UNet
from seg_jax.run.load import load
from seg_jax.run.predict import predict_files
from seg_jax.tasks import Panoptic


@pytest.fixture(scope="module")
def predict(finished_run):
    """What the tiny run has learnt."""
    return load(finished_run)


def save_image(path, size, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_masks_have_the_images_own_sizes(predict, tmp_path):
    odd = save_image(tmp_path / "in" / "odd.png", (37, 53))
    save_image(tmp_path / "in" / "deeper" / "grey.jpg", (20, 90))
    out = tmp_path / "out"
    assert predict_files(predict, [tmp_path / "in"], out) == 2
    for name, size in (("odd", (37, 53)), ("grey", (20, 90))):
        mask = read_mask(out / "predictions" / f"{name}.png")
        assert mask.shape == size
        assert set(np.unique(mask)) <= {0, 255}
        assert read_image(out / "overlays" / f"{name}.jpg").shape[:2] == size
    again = tmp_path / "again"
    predict_files(predict, [odd], again)
    first, second = (read_mask(folder / "predictions" / "odd.png") for folder in (out, again))
    np.testing.assert_array_equal(first, second)


def test_what_cannot_be_predicted_is_named(predict, tmp_path):
    with pytest.raises(InputError, match=r"nowhere doesn't exist"):
        predict_files(predict, [tmp_path / "nowhere"], tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no image"):
        predict_files(predict, [tmp_path / "empty"], tmp_path)
    with pytest.raises(InputError, match=r"is no workdir: it has no config\.json"):
        load(tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.png"):
        predict_files(predict, [broken], tmp_path / "out")
    twins = [save_image(tmp_path / k / "a.png", (8, 8)) for k in "xy"]
    with pytest.raises(InputError, match="two images are called a"):
        predict_files(predict, twins, tmp_path)


def test_a_folder_can_hold_what_was_written_there_before(predict, tmp_path):
    save_image(tmp_path / "a.png", (8, 8))
    (tmp_path / "._a.png").write_bytes(b"what macOS knows of a.png")
    for _ in range(2):
        assert predict_files(predict, [tmp_path], tmp_path) == 1


def test_what_was_found_before_a_broken_file_is_kept(tmp_path):
    labels = Dancers().labels
    net = UNet(outputs=9, features=(4,))
    variables = net.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32), train=False)
    predict = of_network(net, variables, Panoptic(), labels, channels=3)
    for k in range(10):  # two groups are predicted at once
        save_image(tmp_path / "in" / f"{k}.png", (16, 16))
    (tmp_path / "in" / "10.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"10\.png"):
        predict_files(predict, [tmp_path / "in"], tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "predictions" / "coco.json").read_text())
    assert len(kept["images"]) == 10


def test_a_video_gives_a_video_and_the_predictions_of_its_frames(predict, tmp_path):
    pictures = [save_image(tmp_path / "in" / f"{k}.png", (38, 54), seed=k) for k in range(11)]
    clip = tmp_path / "clip.mp4"
    write_video(clip, 12, pictures)
    out = tmp_path / "out"
    assert predict_files(predict, [clip], out) == 11
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
    predict_files(predict, [tmp_path / "in"], again)
    for name in names:
        one, other = (read_mask(f / "predictions" / f"{name}.png") for f in (out, again))
        np.testing.assert_array_equal(one, other)

    assert predict_files(predict, [clip], tmp_path / "few", every=4) == 3
    few = sorted(path.stem for path in (tmp_path / "few" / "predictions").iterdir())
    assert few == names[::4]
    rate, count, _ = read_frames(tmp_path / "few" / "overlays" / "clip.mp4")
    assert (rate, count) == (3, 3)


def test_a_folder_of_frames_becomes_a_video_in_order_of_its_numbers(predict, tmp_path):
    (tmp_path / "dance").mkdir()
    for k in range(12):
        shade = np.full((32, 32, 3), 20 * k, np.uint8)
        Image.fromarray(shade).save(tmp_path / "dance" / f"{k}.png")
    assert predict_files(predict, [tmp_path / "dance"], tmp_path, video=5) == 12
    rate, _, frames = read_frames(tmp_path / "overlays" / "dance.mp4")
    assert rate == 5
    for k, frame in enumerate(frames):
        drawn = read_image(tmp_path / "overlays" / f"{k}.jpg")
        assert frame.mean() == pytest.approx(drawn.mean(), abs=4)
    assert k == 11
    save_image(tmp_path / "dance" / "12.png", (32, 40))
    with pytest.raises(InputError, match=r"12\.jpg is 40×32, those before it 32×32"):
        predict_files(predict, [tmp_path / "dance"], tmp_path / "out", video=5)


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
            predict_files(None, paths, **{"out": tmp_path} | settings)


def test_probabilities_are_written_where_they_are_asked_for(predict, tmp_path):
    image = save_image(tmp_path / "a.png", (20, 30))
    expected = predict(image).probabilities
    for kind in ("npy", "png"):
        predict_files(predict, [image], tmp_path / kind, probabilities=kind)
    kept = np.load(tmp_path / "npy" / "probabilities" / "a.npy")
    assert kept.dtype == np.float16
    np.testing.assert_allclose(kept, expected, atol=1e-3)
    with Image.open(tmp_path / "png" / "probabilities" / "a.png") as picture:
        levels = np.asarray(picture, np.float64)
    np.testing.assert_allclose(levels / 65535, expected[..., 0], atol=1e-5)
