import shutil
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from copies import mads
from PIL import Image

import seg_jax.datasets.builders  # noqa: F401 (registers "mads" with TFDS)
from seg_jax.datasets import Mads
from seg_jax.datasets.mads import IDS, part_ids
from seg_jax.datasets.mads.splits import make_splits
from seg_jax.errors import InputError

DOUBLED = "segmentation_full_body_mads_dataset_1192_img"
SOME = IDS[::40]
PARTS = ("train", "val", "test")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """All frames, doubled as in the archive."""
    top = tmp_path_factory.mktemp("mads")
    mads.write(top / DOUBLED / DOUBLED, IDS)
    (top / "df.csv").write_text(",images,masks,collages\n")
    return top


@pytest.fixture
def flattened(tmp_path):
    """A partial copy without the doubled folder."""
    return mads.write(tmp_path / "flattened", SOME)


def read(source, parts=PARTS):
    return [example for part in parts for example in source.read(part)]


def refused(source):
    with pytest.raises(InputError) as caught:
        source.read("train")
    assert not list(source.data_dir.rglob("*.array_record*"))
    return str(caught.value)


def check(examples, names):
    assert sorted(e.id for e in examples) == sorted(names)
    for example in examples:
        image, mask = mads.pixels(example.id)
        np.testing.assert_array_equal(example.image, image)
        np.testing.assert_array_equal(example.label, mask >= 128)
        assert example.group == example.id.split("_")[0]
        assert example.label.dtype == example.image.dtype == np.uint8


def test_reads_the_doubled_archive_once(original, tmp_path, capfd):
    examples = read(Mads(raw=original, data_dir=tmp_path))
    check(examples, IDS)
    assert {e.group for e in examples} == {"HipHop", "Jazz", "Kata", "Sports", "Taichi"}
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [f"Preparing mads in {tmp_path}/mads/complete/1.0.0 (once)"]
    again = [e.id for e in Mads(split="random_leaky", data_dir=tmp_path).read("test")]
    assert again == part_ids("random_leaky", "test") == sorted(again)
    assert capfd.readouterr() == ("", "")


def test_reads_flattened_folder_and_zip(flattened, tmp_path):
    check(read(Mads(raw=flattened, data_dir=tmp_path / "a", partial=True)), SOME)
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as content:
        for file in flattened.rglob("*"):
            content.write(file, Path(DOUBLED) / DOUBLED / file.relative_to(flattened))
    check(read(Mads(raw=archive, data_dir=tmp_path / "b", partial=True)), SOME)


def test_refuses_partial_copy_and_keeps_it_apart(flattened, tmp_path):
    complete = Mads(raw=flattened, data_dir=tmp_path / "out")
    message = refused(complete)
    missing = sorted(set(IDS) - set(SOME))
    assert f"1,192 frames, but {len(missing):,} of them are missing here: {missing[0]}" in message
    assert "--data.partial" in message
    read(Mads(raw=flattened, data_dir=tmp_path / "out", partial=True))
    with pytest.raises(InputError, match=r"mads isn't prepared in .*complete"):
        Mads(data_dir=tmp_path / "out").read("train")


def test_partial_copy_without_test_clips_is_named(tmp_path):
    raw = mads.write(tmp_path / "raw", part_ids("by_clip", "train")[:3])
    source = Mads(raw=raw, data_dir=tmp_path / "out", partial=True)
    assert len(list(source.read("train"))) == 3
    assert list(source.read("val")) == []
    with pytest.raises(InputError, match="no example of test"):
        source.read("test")


@pytest.mark.parametrize(("kind", "lacks"), [("images", "image"), ("masks", "mask")])
def test_names_frames_without_partner(flattened, tmp_path, kind, lacks):
    (flattened / kind / f"{SOME[4]}.png").unlink()
    source = Mads(raw=flattened, data_dir=tmp_path / "out", partial=True)
    assert f"{SOME[4]} without {lacks};" in refused(source)


def test_names_broken_files(flattened, tmp_path):
    source = Mads(raw=flattened, data_dir=tmp_path / "out", partial=True)
    file = flattened / "masks" / f"{SOME[5]}.png"
    Image.new("L", (8, 7)).save(file)
    assert f"{file}: the mask is 8×7 but its image 8×6" in refused(source)
    file = flattened / "images" / f"{SOME[5]}.png"
    file.write_bytes(file.read_bytes()[:80])
    assert f"{file}: truncated" in refused(source)


def test_refuses_folder_without_images_and_masks(flattened, tmp_path):
    source = Mads(raw=flattened / "images", data_dir=tmp_path / "out", partial=True)
    assert "has no folders images and masks" in refused(source)


def test_without_data_says_what_to_fetch(tmp_path):
    message = refused(Mads(data_dir=tmp_path))
    assert (
        "https://www.kaggle.com/datasets/tapakah68/segmentation-full-body-mads-dataset" in message
    )
    assert "--data.raw" in message
    assert len(message.splitlines()) <= 3


def test_tfds_finds_it_and_has_all_features(flattened, tmp_path):
    config = tfds.download.DownloadConfig(manual_dir=flattened)
    records = tfds.data_source(
        "mads/partial",
        split="full",
        data_dir=tmp_path / "out",
        download_and_prepare_kwargs={"download_config": config},
    )
    assert [record["id"].decode() for record in records] == list(SOME)
    record = records[0]
    action, clip, camera, frame = SOME[0].split("_")
    np.testing.assert_array_equal(record.pop("image"), mads.pixels(SOME[0])[0])
    np.testing.assert_array_equal(record.pop("mask")[..., 0], mads.pixels(SOME[0])[1] >= 128)
    assert record == {
        "id": SOME[0].encode(),
        "action": action.encode(),
        "clip": clip.encode(),
        "camera": int(camera[1]),
        "frame": int(frame),
    }
    info = tfds.builder("mads/partial", data_dir=tmp_path / "out").info
    assert info.citation.startswith("@article{zhang2017mads")
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("split", ["by_clip", "random_leaky"])
def test_parts_are_disjoint_and_complete(split):
    parts = [part_ids(split, part) for part in PARTS]
    assert sorted(name for part in parts for name in part) == list(IDS)
    assert [round(100 * len(part) / 1192) for part in parts] == [70, 10, 20]


def test_no_clip_is_in_two_parts():
    clips = [{name.split("_")[1] for name in part_ids("by_clip", part)} for part in PARTS]
    assert [len(c) for c in clips] == [19, 3, 5]
    assert len(set.union(*clips)) == 27
    tested = Counter(name.split("_")[0] for name in part_ids("by_clip", "test"))
    assert set(tested) == {"HipHop", "Jazz", "Kata", "Sports", "Taichi"}


def test_random_split_leaks_as_its_name_says():
    clips = [{name.split("_")[1] for name in part_ids("random_leaky", part)} for part in PARTS]
    assert clips[2] <= clips[0]


def test_lists_are_written_as_committed(tmp_path):
    table = tmp_path / "df.csv"
    rows = [f"{i},images/{name}.png,masks/{name}.png" for i, name in enumerate(IDS)]
    table.write_text("\n".join([",images,masks", *rows, ""]))
    make_splits.main(table, tmp_path)
    for name in ("by_clip.csv", "random_leaky.csv"):
        committed = Path(make_splits.__file__).parent / name
        assert (tmp_path / name).read_bytes() == committed.read_bytes()


def test_frames_of_other_names_are_passed_over(flattened, tmp_path):
    known = flattened / "images" / f"{SOME[0]}.png"
    for kind in ("images", "masks"):
        shutil.copy(known, flattened / kind / "Ballet_B1_C0_00045.png")
    check(read(Mads(raw=flattened, data_dir=tmp_path / "out", partial=True)), SOME)
