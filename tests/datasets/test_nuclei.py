import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from copies import nuclei
from copies.nuclei import NUMBERS
from PIL import Image

from seg_jax.datasets.instances import borders, renumbered
from seg_jax.datasets.nuclei import IDS, Nuclei, part_ids
from seg_jax.datasets.nuclei.splits import make_split
from seg_jax.errors import InputError
from seg_jax.labels import Labels

FULL = {name: name + "f" * 48 for name in IDS}


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    return nuclei.write(tmp_path_factory.mktemp("maps") / "nuclei")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """BBBC038's own layout: names of 64 letters, RGBA, a mask for each nucleus."""
    root = tmp_path_factory.mktemp("original") / "stage1_train"
    for index, name in enumerate(FULL.values()):
        for folder in ("images", "masks"):
            (root / name / folder).mkdir(parents=True)
        Image.fromarray(nuclei.image(index)).convert("RGBA").save(
            root / name / f"images/{name}.png"
        )
        for number in (3, 7, 900):
            mask = np.equal(NUMBERS, number).astype(np.uint8) * 255
            Image.fromarray(mask).save(root / name / f"masks/{number:03d}.png")
    (root / FULL[IDS[0]] / "masks/._003.png").write_bytes(b"macOS")
    (root / "README.txt").write_text("not an image")
    extra = root / ("f" * 64)
    shutil.copytree(root / FULL[IDS[0]], extra)
    return root


@pytest.fixture
def copy(maps, tmp_path):
    return Path(shutil.copytree(maps, tmp_path / "nuclei"))


def refused(raw):
    with pytest.raises(InputError) as caught:
        list(Nuclei(raw=raw).read("train"))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("layout", ["maps", "original"])
@pytest.mark.parametrize("above", [False, True])
def test_reads_both_layouts(request, layout, above):
    root = request.getfixturevalue(layout)
    source = Nuclei(raw=root.parent if above else root)
    assert source.labels == Labels(*3 * (("nucleus",),))
    assert source.labels.category_of_class == (0, 1)
    for part in ("train", "val", "test"):
        examples = list(source.read(part))
        assert [e.id for e in examples] == part_ids(part)
        for e in examples:
            assert e.image.shape == (5, 8, source.channels)
            assert (e.image == nuclei.image(IDS.index(e.id))[..., None]).all()
            assert e.label.dtype == np.uint8
            assert e.instance.dtype == np.uint16
            np.testing.assert_array_equal(e.label, NUMBERS > 0)
            np.testing.assert_array_equal(e.instance, np.searchsorted([0, 3, 7, 900], NUMBERS))


def test_borders_are_labels_of_their_own(maps):
    source = Nuclei(raw=maps, borders=True)
    assert source.labels == Labels(
        classes=("background", "inside", "border"),
        segments=("background", "nucleus", "nucleus"),
        things=("nucleus",),
    )
    assert source.labels.category_of_class == (0, 1, 1)
    example = next(source.read("test"))
    expected = np.where(NUMBERS > 0, 2, 0)
    expected[2, [2, 5]] = 1
    np.testing.assert_array_equal(example.label, expected)
    np.testing.assert_array_equal(example.instance > 0, example.label > 0)


def test_borders_are_scikit_images_inner_boundaries():
    segmentation = pytest.importorskip("skimage.segmentation")
    random = np.random.RandomState(0)
    objects = np.repeat(np.repeat(random.randint(0, 4, (6, 7)), 3, 0), 4, 1)
    expected = segmentation.find_boundaries(objects, connectivity=1, mode="inner")
    np.testing.assert_array_equal(borders(objects), expected)


def test_renumbers_in_order():
    numbers = np.array([[9, 65535, 0], [4, 9, 0]], np.int32)
    assert renumbered(numbers).tolist() == [[2, 3, 0], [1, 2, 0]]
    assert renumbered(numbers[:, :1]).tolist() == [[2], [1]]
    assert renumbered(np.zeros((2, 2), np.uint8)).tolist() == [[0, 0], [0, 0]]


def test_later_mask_wins_where_two_overlap(original, tmp_path):
    root = Path(shutil.copytree(original, tmp_path / "copy"))
    name = part_ids("test")[0]
    Image.new("L", (8, 5), 255).save(root / FULL[name] / "masks/998.png")
    example = next(Nuclei(raw=root).read("test"))
    assert set(np.unique(example.instance)) == {1}


def test_without_data_says_what_to_fetch(tmp_path):
    for message in (refused(None), refused(tmp_path), refused(tmp_path / "nowhere")):
        assert "BBBC038" in message
        assert "CC0" in message
        assert "--data.raw PATH" in message
    assert "neither ID/images/ID.png" in message


def test_names_missing_images_and_masks(copy):
    (copy / f"instances/{IDS[3]}.png").unlink()
    (copy / f"images/{IDS[9]}.png").unlink()
    assert f"2 of 200 images are missing or lack their masks: {IDS[3]}, {IDS[9]}" in refused(copy)


def test_names_masks_of_another_size_and_broken_files(copy):
    name = part_ids("train")[0]
    Image.new("L", (5, 8)).save(copy / f"instances/{name}.png")
    assert f"{name}.png: 5×8 pixels, but its image" in refused(copy)
    (copy / f"images/{name}.png").write_bytes(b"cut")
    assert f"{name}.png: not an image" in refused(copy)


def test_parts_are_disjoint_and_complete():
    parts = [part_ids(part) for part in ("train", "val", "test")]
    assert [len(ids) for ids in parts] == [140, 20, 40]
    assert sorted(name for ids in parts for name in ids) == list(IDS)


def test_each_part_has_each_kind_in_proportion():
    kinds = {f"{index:03d}": kind for index, kind in enumerate("abc" * 20 + "d" * 40)}
    parts = make_split.stratified(kinds)
    counts = Counter((kinds[name], part) for name, part in parts.items())
    assert counts["a", "test"] == counts["b", "test"] == counts["c", "test"] == 4
    assert counts["d", "test"] == 8
    assert [counts[kind, "val"] for kind in "abcd"] == [2, 2, 2, 4]


@pytest.mark.parametrize(
    ("black", "size", "count", "kind"),
    [
        (9, 10, 5, "light, small"),
        (9, 12, 5, "light, large"),
        (1, 10, 5, "dark, sparse"),
        (1, 10, 60, "dark, crowded"),
        (1, 15, 60, "dark, clumped"),
    ],
)
def test_kinds(black, size, count, kind):
    numbers = np.zeros((160, 160), np.uint16)
    for i in range(count):
        y, x = divmod(i, 10)
        numbers[16 * y : 16 * y + size, 16 * x : 16 * x + size] = i + 1
    assert make_split.kind(np.full((160, 160, 3), black, np.uint8), numbers) == kind


def test_list_is_written_with_its_source(maps, tmp_path):
    make_split.main(maps, tmp_path)
    written = (tmp_path / "split.csv").read_text()
    committed = (Path(make_split.__file__).parent / "split.csv").read_text()
    assert written.splitlines()[:7] == committed.splitlines()[:7]
    assert len(written.splitlines()) == len(committed.splitlines())
