import shutil
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from copies import ph2
from PIL import Image

import seg_jax.datasets.builders  # noqa: F401 (registers "ph2" with TFDS)
from seg_jax.datasets import Ph2, tfds_source
from seg_jax.datasets.ph2 import IDS, part_ids
from seg_jax.datasets.ph2.splits import make_splits
from seg_jax.errors import InputError


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return ph2.write(tmp_path_factory.mktemp("ph2"))


@pytest.fixture
def copy(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "copy"))


DIAGNOSES = ("common nevus", "atypical nevus", "melanoma")


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def check_whole(raw, data_dir):
    source = Ph2(split="ordered", raw=raw, data_dir=data_dir)
    examples = [e for part in ("train", "val", "test") for e in source.read(part)]
    assert [e.id for e in examples] == sorted(IDS)
    for index, example in enumerate(examples):
        image, mask = ph2.pixels(index)
        np.testing.assert_array_equal(example.image, image)
        np.testing.assert_array_equal(example.label, mask)
        assert example.group == DIAGNOSES[ph2.diagnosis(index)]
        assert example.label.dtype == example.image.dtype == np.uint8


def refused(raw, data_dir):
    with pytest.raises(InputError) as caught:
        Ph2(raw=raw, data_dir=data_dir).read("train")
    assert not list(data_dir.rglob("*.array_record*"))
    return str(caught.value)


@pytest.mark.parametrize("root", [".", "PH2Dataset", "PH2Dataset/PH2 Dataset images"])
def test_reads_any_root(original, tmp_path, root):
    check_whole(original / root, tmp_path)


def test_reads_renamed_images_folder_with_table_inside(copy, tmp_path):
    images = copy / "PH2Dataset" / "PH2 Dataset images"
    renamed = images.rename(tmp_path / "PH2_Dataset_images")
    (copy / "PH2Dataset" / "PH2_dataset.txt").rename(renamed / "PH2_dataset.txt")
    check_whole(renamed, tmp_path / "out")


def test_reads_zip_and_folder_with_zip_among_others(original, tmp_path):
    folder = tmp_path / "manual"
    folder.mkdir()
    with zipfile.ZipFile(folder / "another.zip", "w") as other:
        other.writestr("else.txt", "")
    archive = zipped(original, folder / "ph2.zip")
    check_whole(archive, tmp_path / "a")
    check_whole(folder, tmp_path / "b")


def test_prepares_once_and_quietly(original, tmp_path, capfd):
    list(Ph2(raw=original, data_dir=tmp_path).read("test"))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [f"Preparing ph2 in {tmp_path}/ph2/1.0.0 (once)"]
    again = Ph2(data_dir=tmp_path)
    assert [e.id for e in again.read("test")] == part_ids("lesson", "test")
    assert list(again.read("val")) == []
    assert capfd.readouterr() == ("", "")


def test_tfds_finds_it_and_has_all_features(original, tmp_path):
    config = tfds.download.DownloadConfig(manual_dir=original)
    records = tfds.data_source(
        "ph2",
        split="full",
        data_dir=tmp_path,
        download_and_prepare_kwargs={"download_config": config},
    )
    assert len(records) == 200
    record = records[199]
    info = tfds.builder("ph2", data_dir=tmp_path).info
    assert info.citation.startswith("@inproceedings{mendonca2013ph2")
    assert info.description.startswith("# PH²")
    named = {
        key: feature.int2str(record[key])
        if isinstance(feature, tfds.features.ClassLabel)
        else record[key]
        for key, feature in info.features.items()
    }
    np.testing.assert_array_equal(named.pop("image"), ph2.pixels(199)[0])
    np.testing.assert_array_equal(named.pop("mask")[..., 0], ph2.pixels(199)[1])
    assert named.pop("colours").tolist() == [False, False, True, True, False, False]
    assert named == {
        "id": IDS[199].encode(),
        "histology": b"Melanoma",
        "clinical_diagnosis": "melanoma",
        "asymmetry": 199 % 3,
        "pigment_network": "AT",
        "dots_globules": "A",
        "streaks": "P",
        "regression_areas": "A",
        "blue_whitish_veil": "P",
    }
    assert records[0]["histology"] == b""
    assert "tensorflow" not in sys.modules


def test_without_data_says_what_to_fetch(tmp_path):
    message = refused(None, tmp_path)
    assert "PH2Dataset.rar" in message
    assert "https://www.fc.up.pt/addi/ph2%20database.html" in message
    assert "--data.raw" in message
    assert len(message.splitlines()) <= 3
    (tmp_path / "manual").mkdir()
    config = tfds.download.DownloadConfig(manual_dir=tmp_path / "manual")
    with pytest.raises(AssertionError, match=r"PH2Dataset\.rar"):
        tfds.data_source(
            "ph2", data_dir=tmp_path, download_and_prepare_kwargs={"download_config": config}
        )


def test_refuses_place_without_data(tmp_path):
    assert "nowhere: no such file" in refused(tmp_path / "nowhere", tmp_path)
    assert "no file IMD*.bmp" in refused(tmp_path, tmp_path)


def test_names_missing_images_and_masks(copy, tmp_path):
    root = copy / "PH2Dataset" / "PH2 Dataset images"
    ph2.mask_file(root, IDS[7]).unlink()
    assert f"1 of them lack the lesion mask here: {IDS[7]};" in refused(copy, tmp_path / "out")
    for name in IDS[10:15]:
        shutil.rmtree(root / name)
    message = refused(copy, tmp_path / "out")
    assert f"5 of them lack the image here: {', '.join(IDS[10:13])} and 2 more;" in message


def test_names_truncated_file_inside_archive(copy, tmp_path):
    file = ph2.image_file(copy / "PH2Dataset" / "PH2 Dataset images", IDS[3])
    file.write_bytes(file.read_bytes()[:-40])
    assert f"{file}: truncated" in refused(copy, tmp_path / "out")
    archive = zipped(copy, tmp_path / "ph2.zip")
    expected = f"{archive}/{file.relative_to(copy)}: truncated"
    assert refused(archive, tmp_path / "out").startswith(expected)


def test_names_masks_that_do_not_fit(copy, tmp_path):
    file = ph2.mask_file(copy / "PH2Dataset" / "PH2 Dataset images", IDS[3])
    Image.new("1", (6, 8)).save(file)
    message = refused(copy, tmp_path / "out")
    assert f"{file}: the mask is 6×8 but its image 8×6" in message
    Image.new("L", (8, 6), 1).save(file)
    assert f"{file}: the mask's highest value is 1;" in refused(copy, tmp_path / "out")


def test_names_broken_table(copy, tmp_path):
    table = copy / "PH2Dataset" / "PH2_dataset.txt"
    text = table.read_text("latin-1")
    table.write_text(text.replace("||       2 ||", "||       7 ||", 1), "latin-1")
    assert f"{table}, line 2: can't be read" in refused(copy, tmp_path / "out")
    table.write_text(text.replace(f"|| {IDS[0]} ||", "|| ||"), "latin-1")
    assert f"{table}: lacks {IDS[0]};" in refused(copy, tmp_path / "out")
    table.unlink()
    assert "PH2_dataset.txt is neither below nor beside" in refused(copy, tmp_path / "out")


def test_rar_is_unpacked_by_the_first_tool_that_can(original, tmp_path, monkeypatch):
    tar = shutil.make_archive(str(tmp_path / "ph2"), "tar", original)
    rar = Path(tar).rename(tmp_path / "PH2Dataset.rar")
    monkeypatch.setattr(tfds_source, "RAR_TOOLS", {})
    assert "needs one of" in refused(rar, tmp_path / "out")
    tools = {"false": lambda rar, out: ["false"]}
    monkeypatch.setattr(tfds_source, "RAR_TOOLS", tools)
    assert f"{rar}: can't be unpacked by false" in refused(rar, tmp_path / "out")
    tools["tar"] = lambda rar, out: ["tar", "-xf", rar, "-C", out]
    check_whole(rar, tmp_path / "out")


def test_rar_error_names_the_tools(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "PH2Dataset.rar").write_bytes(b"Rar!")
    message = refused(tmp_path, tmp_path / "out")
    assert "unrar, unar, 7z, bsdtar" in message


def test_refuses_broken_archive(tmp_path):
    archive = tmp_path / "ph2.zip"
    archive.write_bytes(b"PK\3\4 cut short")
    assert f"{archive}: not a whole" in refused(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("split", "sizes"),
    [("lesson", (180, 0, 20)), ("ordered", (80, 20, 100))]
    + [(f"fold{k}", (160, 0, 40)) for k in range(5)],
)
def test_parts_are_disjoint_and_complete(split, sizes):
    parts = [part_ids(split, part) for part in ("train", "val", "test")]
    assert tuple(map(len, parts)) == sizes
    assert sorted(name for part in parts for name in part) == list(IDS)


def test_lesson_is_what_numpy_gives():
    np.random.seed(42)  # noqa: NPY002 (the lesson's own generator)
    indices = np.random.permutation(range(200))  # noqa: NPY002
    assert part_ids("lesson", "train") == sorted(IDS[i] for i in indices[:180])


def test_ordered_is_by_name():
    assert part_ids("ordered", "train") == sorted(IDS)[:80]
    assert part_ids("ordered", "val") == sorted(IDS)[80:100]


def test_folds_share_no_test_image():
    tests = [name for k in range(5) for name in part_ids(f"fold{k}", "test")]
    assert sorted(tests) == list(IDS)


def test_folds_are_stratified():
    diagnoses = {name: ph2.diagnosis(index) for index, name in enumerate(IDS)}
    folds = make_splits.stratified_folds(diagnoses)
    counts = Counter((fold, diagnoses[name]) for name, fold in folds.items())
    assert counts == {(str(f), d): n for f in range(5) for d, n in enumerate((16, 16, 8))}


def test_lists_are_written_as_committed(original, tmp_path):
    make_splits.main(original / "PH2Dataset" / "PH2_dataset.txt", tmp_path)
    committed = Path(make_splits.__file__).parent
    for name in ("lesson.csv", "ordered.csv"):
        assert (tmp_path / name).read_bytes() == (committed / name).read_bytes()
    folds = committed / "folds.csv"
    assert folds.read_text().startswith("# 5 folds stratified by clinical diagnosis")
