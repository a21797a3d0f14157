import errno
import json
import os
import platform
import subprocess

import numpy as np
import pytest

from seg_jax.errors import InputError
from seg_jax.pipeline import cache


def examples(n: int):
    rng = np.random.default_rng(0)
    for k in range(n):
        image = rng.integers(0, 256, (4, 6, 3), np.uint8)
        yield f"e{k}", {"image": image, "area": np.float32([k, 0.5]), "mirrored": np.array(False)}


@pytest.mark.parametrize("n", [1, 13])
def test_gives_back_what_was_written(tmp_path, n):
    cache.write(tmp_path / "train", {"size": [4, 6]}, examples(n))
    of, ids, arrays = cache.read(tmp_path / "train")
    assert of == {"size": [4, 6]}
    assert ids == tuple(f"e{k}" for k in range(n))
    for name in ("image", "area", "mirrored"):
        expected = np.stack([found[name] for _, found in examples(n)])
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)
    assert isinstance(arrays["image"], np.memmap)


def test_nothing_is_written_where_there_is_no_example(tmp_path):
    cache.write(tmp_path / "val", {}, examples(0))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")])
def test_a_build_that_was_stopped_leaves_nothing(tmp_path, error):
    def stopped():
        yield from examples(3)
        raise error

    with pytest.raises(type(error)):
        cache.write(tmp_path / "train", {}, stopped())
    assert not any(tmp_path.iterdir())


def test_a_build_that_was_killed_is_done_anew(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    for process in (gone.pid, os.getpid()):
        left = tmp_path / f".train-{process}@{platform.node()}"
        left.mkdir()
        (left / "old.npy").write_bytes(b"torn")
    cache.write(tmp_path / "train", {}, examples(5))
    _, ids, arrays = cache.read(tmp_path / "train")
    assert len(ids) == 5
    assert "old" not in arrays
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_a_build_that_is_going_on_stays(tmp_path):
    theirs = [tmp_path / f".train-{os.getppid()}@{platform.node()}", tmp_path / ".train-1@another"]
    for folder in theirs:
        folder.mkdir()
    cache.write(tmp_path / "train", {}, examples(5))
    assert set(tmp_path.iterdir()) == {tmp_path / "train", *theirs}


def test_another_hosts_cache_stays(tmp_path):
    def meanwhile():
        yield from examples(2)
        (tmp_path / "train").mkdir()
        (tmp_path / "train" / "ids.json").write_text(json.dumps({"of": 1, "ids": ["theirs"]}))

    cache.write(tmp_path / "train", {}, meanwhile())
    assert cache.read(tmp_path / "train") == (1, ("theirs",), {})
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


@pytest.mark.parametrize("name", ["ids.json", "image.npy"])
@pytest.mark.parametrize("left", [-5, 0])
def test_an_incomplete_file_is_refused_with_the_fix(tmp_path, name, left):
    cache.write(tmp_path / "train", {}, examples(3))
    torn = tmp_path / "train" / name
    torn.write_bytes(torn.read_bytes()[:left])
    with pytest.raises(InputError, match=r"train is an incomplete cache .*; delete it"):
        cache.read(tmp_path / "train")
