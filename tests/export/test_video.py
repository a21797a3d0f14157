import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from seg_jax.errors import InputError
from seg_jax.export.video import read_frames, write_video


def save_video(path, frames, rate=10, codec="mp4v"):
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def plain(colour, size=(48, 64)):
    return np.full((*size, 3), colour, np.uint8)


def save_pictures(folder, frames):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return [folder / f"{number}.png" for number in range(len(frames))]


RED, GREEN, BLUE = (200, 20, 20), (20, 200, 20), (20, 20, 200)


def test_frames_come_in_order_and_in_rgb(tmp_path):
    path = save_video(tmp_path / "a.mp4", [plain(c) for c in (RED, GREEN, BLUE)], rate=12.5)
    rate, count, frames = read_frames(path)
    assert (rate, count) == (12.5, 3)
    for frame, colour in zip(frames, (RED, GREEN, BLUE), strict=True):
        assert frame.shape == (48, 64, 3)
        assert frame.dtype == np.uint8
        np.testing.assert_allclose(frame.mean((0, 1)), colour, atol=12)
    (grey,) = read_frames(save_video(tmp_path / "b.mp4", [plain(RED)]), channels=1).frames
    luma = np.asarray(Image.fromarray(plain(RED)).convert("L"))
    np.testing.assert_allclose(grey[..., 0], luma, atol=8)


def test_each_nth_frame(tmp_path):
    path = save_video(tmp_path / "a.mp4", [plain(25 * k) for k in range(8)], rate=30)
    rate, count, frames = read_frames(path, every=3)
    assert (rate, count) == (10, 3)
    found = [frame.mean() for frame in frames]
    np.testing.assert_allclose(found, [0, 75, 150], atol=6)


def test_frames_are_decoded_as_they_are_asked_for(tmp_path, monkeypatch):
    path = save_video(tmp_path / "a.mp4", [plain(25 * k) for k in range(8)])
    taken = []

    class Counting:
        def __init__(self, path):
            self._capture = capture(path)

        def __getattr__(self, name):
            return getattr(self._capture, name)

        def retrieve(self):
            taken.append(1)
            return self._capture.retrieve()

    capture = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Counting)
    frames = read_frames(path).frames
    next(frames)
    assert len(taken) == 1
    assert len(list(frames)) == 7


def test_pictures_become_a_video(tmp_path):
    pictures = save_pictures(tmp_path / "in", [plain(c, (47, 63)) for c in (RED, GREEN, BLUE)])
    write_video(tmp_path / "new" / "a.mp4", 23.976, pictures)
    rate, count, frames = read_frames(tmp_path / "new" / "a.mp4")
    assert rate == pytest.approx(23.976, abs=1e-3)
    assert count == 3
    for frame, colour in zip(frames, (RED, GREEN, BLUE), strict=True):
        assert frame.shape == (48, 64, 3)
        np.testing.assert_allclose(frame[-1].mean(0), colour, atol=12)


@pytest.mark.parametrize("rate", [0.5, 200 / 3, 29.97002997, 119.88])
def test_any_rate_can_be_written(tmp_path, rate):
    write_video(tmp_path / "a.mp4", rate, save_pictures(tmp_path / "in", [plain(RED)]))
    assert read_frames(tmp_path / "a.mp4").rate == pytest.approx(rate, rel=1e-3)


def test_pictures_that_cannot_become_a_video(tmp_path):
    pictures = save_pictures(tmp_path / "in", [plain(RED), plain(RED, (48, 60))])
    with pytest.raises(InputError, match=r"1\.png is 60×48, those before it 64×48"):
        write_video(tmp_path / "a.mp4", 25, pictures)
    for rate in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InputError, match="frames a second; choose up to 1000"):
            write_video(tmp_path / "b.mp4", rate, pictures)
    (tmp_path / "c.mp4").mkdir()
    with pytest.raises(InputError, match=r"c\.mp4: OpenCV can't write 64×48 at 25 frames"):
        write_video(tmp_path / "c.mp4", 25, pictures)


def test_videos_that_cannot_be_read(tmp_path, capfd):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"broken\.mp4: no video that OpenCV can decode"):
        read_frames(broken)
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), dtype=np.uint8)
    whole = save_video(tmp_path / "whole.avi", noise, rate=5, codec="MJPG")
    assert len(list(read_frames(whole).frames)) == 40
    assert "ends after" not in capfd.readouterr().err
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    found = len(list(read_frames(cut).frames))
    assert 0 < found < 40
    assert f"ends after {found} of the 40 frames" in capfd.readouterr().err


def test_opencv_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    for use in (read_frames, lambda path: write_video(path, 25, [])):
        with pytest.raises(InputError, match=r"pip install 'seg_jax\[video\]'"):
            use(tmp_path / "a.mp4")
