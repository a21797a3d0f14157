import re
from pathlib import Path

import numpy as np
import pytest
from copies.folder import SHAPE, write_folder, write_image, write_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seg_jax.datasets.folder import Folder
from seg_jax.datasets.pairs import Pair, split
from seg_jax.errors import InputError

PARTS = ("train", "val", "test")


def _truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _ids(data):
    return {part: [example.id for example in data.read(part)] for part in PARTS}


def _labels(data):
    return {example.id: example.label for part in PARTS for example in data.read(part)}


def _problems(data):
    """The lines of the report, after its title."""
    with pytest.raises(InputError) as caught:
        data.read("train")
    title, *lines = str(caught.value).split("\n  ")
    assert re.fullmatch(r".*: \d+ problems?", title), title
    return lines


class TestReading:
    def test_pixels_of_images_and_masks(self, tmp_path):
        pixels = {name: write_image(tmp_path / f"images/{name}.png", ord(name)) for name in "abc"}
        masks = {
            name: write_mask(tmp_path / f"masks/{name}.png", 0, 1, ord(name) % 2) for name in "abc"
        }
        data = Folder(tmp_path)
        examples = [example for part in PARTS for example in data.read(part)]
        assert sorted(example.id for example in examples) == ["a", "b", "c"]
        for example in examples:
            assert example.image.dtype == example.label.dtype == np.uint8
            np.testing.assert_array_equal(example.image, pixels[example.id])
            np.testing.assert_array_equal(example.label, masks[example.id])

    def test_any_suffixes_pair(self, tmp_path):
        suffixes = ["png", "JPG", "bmp", "tif", "webp", "jpeg", "tiff"]
        for k, suffix in enumerate(suffixes):
            write_image(tmp_path / f"images/a{k}.{suffix}")
            write_mask(tmp_path / f"masks/a{k}.{suffixes[k - 1].replace('webp', 'png')}", 255)
        assert len(_labels(Folder(tmp_path))) == len(suffixes)

    @pytest.mark.parametrize("ending", ["_mask", "_lesion", "_segmentation", "_gt", "_Label"])
    def test_usual_endings_of_masks_pair(self, tmp_path, ending):
        for name in ("a", "b_mask"):
            write_image(tmp_path / f"images/{name}.png")
        write_mask(tmp_path / f"masks/a{ending}.png", 1)
        write_mask(tmp_path / "masks/b_mask.png", 1)
        assert sorted(_labels(Folder(tmp_path))) == ["a", "b_mask"]

    def test_other_files_are_passed_over(self, tmp_path):
        write_folder(tmp_path, a=[1], b=[1])
        (tmp_path / "images/notes.txt").write_text("seen")
        (tmp_path / "images/._a.png").write_bytes(b"left by macOS")
        (tmp_path / "masks/old").mkdir()
        assert sorted(_labels(Folder(tmp_path))) == ["a", "b"]

    def test_one_channel_reads_greyscale(self, tmp_path):
        data = Folder(write_folder(tmp_path, a=[1], b=[1]), channels=1)
        assert next(data.read("train")).image.shape == (*SHAPE, 1)

    def test_parts_that_the_user_made(self, tmp_path):
        for part, names in {"train": "ab", "val": "c", "test": "ad"}.items():
            write_folder(tmp_path / part, **{name: [1] for name in names})
        assert _ids(Folder(tmp_path)) == {"train": ["a", "b"], "val": ["c"], "test": ["a", "d"]}

    def test_validation_may_be_missing(self, tmp_path):
        for part in ("train", "test"):
            write_folder(tmp_path / part, a=[1])
        assert _ids(Folder(tmp_path)) == {"train": ["a"], "val": [], "test": ["a"]}

    def test_the_check_runs_once(self, tmp_path):
        data = Folder(write_folder(tmp_path, a=[1], b=[1], c=[0]))
        ids = _ids(data)
        write_image(tmp_path / "images/d.png")
        assert _ids(Folder(tmp_path)) == ids
        with pytest.raises(InputError):
            Folder(tmp_path, seed=1).check()

    def test_a_fixed_folder_is_checked_again(self, tmp_path):
        data = Folder(write_folder(tmp_path, a=[1], b=[1], c=[7]))
        with pytest.raises(InputError):
            data.check()
        write_mask(tmp_path / "masks/c.png", 1)
        data.check()


class TestTable:
    def _write(self, root, text, encoding="utf-8"):
        path = root / "table.csv"
        path.write_text(text, encoding=encoding)
        return Folder(csv=path)

    def test_paths_are_relative_to_the_table(self, tmp_path):
        for name in ("p1/x", "p1/y", "p2/x"):
            write_image(tmp_path / f"{name}.png")
        write_mask(tmp_path / "truth.png", 1)
        rows = "".join(f"{name}.png,truth.png\n" for name in ("p1/x", "p1/y", "p2/x"))
        data = self._write(tmp_path, "image,mask\n" + rows)
        assert sorted(_labels(data)) == ["p1-x", "p1-y", "p2-x"]

    def test_parts_and_absolute_paths(self, tmp_path):
        write_folder(tmp_path, a=[1], b=[1], c=[1])
        text = f"part,mask,image,note\ntest,masks/a.png,{tmp_path}/images/a.png,\n"
        text += "train,masks/b.png,images/b.png,x\nval,masks/c.png, images/c.png ,\n"
        data = self._write(tmp_path, text, encoding="utf-8-sig")
        assert _ids(data) == {"train": ["b"], "val": ["c"], "test": ["a"]}

    def test_every_bad_row_is_reported(self, tmp_path):
        write_folder(tmp_path, a=[1], b=[7])
        rows = [
            "images/a.png,masks/a.png,train",
            "images/a.png,masks/b.png,test",
            "images/b.png,masks/b.png,valid",
            "images/b.png,,train",
            ",masks/b.png,train",
            "images/b.png",
            "images/c.png,masks/b.png,test",
        ]
        data = self._write(tmp_path, "\n".join(["image,mask,part", *rows]))
        table = f"{tmp_path / 'table.csv'}, line"
        assert _problems(data) == [
            f"{table} 3: images/a.png is on {table} 2 too; keep one",
            f"{table} 4: part 'valid' is none of train, val, test",
            f"{table} 5: no mask named; fill it in",
            f"{table} 6: no image named; fill it in",
            f"{table} 7: no mask named; fill it in",
            f"{tmp_path / 'images/c.png'}: no such file",
            f"{tmp_path / 'masks/b.png'}: label 7 on 1 pixel, but there is 1 class (0 and 1, or 0"
            " and 255); threshold soft edges at 128, name the background and all classes in"
            " --data.classes or set --data.void 7",
        ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "its first line is '', but has to name the columns image,mask"),
            ("image;mask\n", "its first line is 'image;mask', but has to name"),
            ("image,mask\n", "no rows; add some"),
            ("image,mask,part\nimages/a.png,masks/a.png,train\n", "no rows of part test; add some"),
        ],
    )
    def test_unusable_tables(self, tmp_path, text, message):
        write_folder(tmp_path, a=[1])
        with pytest.raises(InputError, match=re.escape(f"table.csv: {message}")):
            self._write(tmp_path, text).check()

    def test_unreadable_tables(self, tmp_path):
        with pytest.raises(InputError, match=r"none\.csv: not a readable table .*set --data\.csv"):
            Folder(csv=tmp_path / "none.csv").check()
        with pytest.raises(InputError, match=r"table\.csv: not a readable table"):
            self._write(tmp_path, "image,mask\nä.png,a.png", encoding="latin-1").check()


class TestLabels:
    @pytest.mark.parametrize("high", [1, 255])
    def test_one_class_of_either_foreground(self, tmp_path, high):
        data = Folder(write_folder(tmp_path, a=[0, high], b=[high], none=[], all=[high] * 54))
        labels = _labels(data)
        sums = {name: label.sum() for name, label in labels.items()}
        assert sums == {"a": 1, "b": 1, "none": 0, "all": 54}
        assert labels["a"].flat[1] == 1

    def test_one_class_with_void(self, tmp_path):
        root = write_folder(tmp_path, a=[0, 1, 255], b=[1])
        np.testing.assert_array_equal(_labels(Folder(root, void=255))["a"].flat[:4], [0, 1, 255, 0])

    def test_one_class_of_high_foreground_with_void(self, tmp_path):
        root = write_folder(tmp_path, a=[0, 255, 128], b=[255])
        np.testing.assert_array_equal(_labels(Folder(root, void=128))["a"].flat[:4], [0, 1, 255, 0])

    def test_several_classes_with_void_255(self, tmp_path):
        data = Folder(write_folder(tmp_path, a=[2, 1, 255], b=[0]), classes=("x", "y", "z"))
        np.testing.assert_array_equal(_labels(data)["a"].flat[:4], [2, 1, 255, 0])

    @pytest.mark.parametrize("void", [11, 0])
    def test_several_classes_with_another_void(self, tmp_path, void):
        data = Folder(
            write_folder(tmp_path, a=[2, void], b=[1]), classes=("x", "y", "z"), void=void
        )
        expected = [2, 255, 0 if void else 255]
        np.testing.assert_array_equal(_labels(data)["a"].flat[:3], expected)

    def test_another_void_makes_255_a_label(self, tmp_path):
        data = Folder(write_folder(tmp_path, a=[1, 255], b=[1]), classes=("x", "y"), void=11)
        (line,) = _problems(data)
        assert "a.png: label 255 on 1 pixel, but there are 2 classes (0 to 1)" in line

    def test_jpeg_masks_of_one_class_are_cut_at_128(self, tmp_path):
        write_folder(tmp_path, a=[255], b=[0])
        rows, columns = np.mgrid[:64, :64]
        disc = (rows - 30) ** 2 + (columns - 33) ** 2 < 400
        write_image(tmp_path / "images/c.png", shape=(64, 64))
        Image.fromarray(np.where(disc, 255, 0).astype(np.uint8)).save(tmp_path / "masks/c.jpg")
        assert len(np.unique(Image.open(tmp_path / "masks/c.jpg"))) > 2
        np.testing.assert_array_equal(_labels(Folder(tmp_path))["c"], disc)

    def test_jpeg_masks_that_are_dark_are_refused(self, tmp_path):
        write_folder(tmp_path, a=[255], b=[0])
        write_image(tmp_path / "images/c.png")
        write_mask(tmp_path / "masks/c.jpg", *[40] * 54)
        (line,) = _problems(Folder(tmp_path))
        assert "c.jpg: brightest value 40, but a JPEG mask is foreground from 128 up" in line

    def test_jpeg_masks_of_several_classes_are_refused(self, tmp_path):
        write_image(tmp_path / "images/a.png")
        write_mask(tmp_path / "masks/a.jpg", *[1] * 54)
        (line,) = _problems(Folder(tmp_path, classes=("x", "y")))
        assert "a.jpg: JPEG blurs values, so it can't hold 2 classes; save the mask as PNG" in line


class TestReport:
    def test_every_kind_at_once(self, tmp_path):
        write_folder(tmp_path, good=[1], cut=[1], small=[1], turned=[1], seven=[7] * 13)
        _truncate(tmp_path / "images/cut.png")
        write_mask(tmp_path / "masks/small.png", 1, shape=(3, 4))
        write_mask(tmp_path / "masks/turned.png", 1, shape=SHAPE[::-1])
        (tmp_path / "masks/seven.png").rename(tmp_path / "masks/seven_gt.png")
        write_image(tmp_path / "images/alone.jpg")
        write_mask(tmp_path / "masks/left_mask.png")
        write_image(tmp_path / "images/good.bmp")
        write_image(tmp_path / "images/text.png")
        (tmp_path / "masks/text.png").write_text("not pixels")

        images, masks = tmp_path / "images", tmp_path / "masks"
        lines = _problems(Folder(tmp_path))
        assert re.fullmatch(rf"{images}/cut\.png: truncated or broken \(.+\); copy .+", lines[3])
        assert lines[:3] + lines[4:] == [
            f"{images}/alone.jpg: no mask of its name in {masks}; add it or remove the image",
            f"{images}/good.bmp and {images}/good.png: have one name; keep one of them",
            f"{masks}/left_mask.png: no image of its name in {images}; add it or remove the mask",
            f"{images}/small.png: 9×6 pixels, but its mask {masks}/small.png has 4×3; make them"
            " equal",
            f"{masks}/text.png: not an image; replace or remove it",
            f"{images}/turned.png: 9×6 pixels, but its mask {masks}/turned.png has 6×9; make them"
            " equal (one may be turned by EXIF alone)",
            f"{masks}/seven_gt.png: label 7 on 13 pixels, but there is 1 class (0 and 1, or 0 and"
            " 255); threshold soft edges at 128, name the background and all classes in"
            " --data.classes or set --data.void 7",
        ]

    def test_two_masks_of_one_name(self, tmp_path):
        write_folder(tmp_path, a=[1], b=[1])
        write_mask(tmp_path / "masks/a_mask.png")
        (line,) = _problems(Folder(tmp_path))
        assert re.search(r"masks/a\.png and .*masks/a_mask\.png: have one name", line)

    def test_labels_outside_several_classes(self, tmp_path):
        root = write_folder(tmp_path, a=[7] * 12, b=[1, 2, 5, 6, 6, 9, 12], c=[0])
        lines = _problems(Folder(root, classes=("x", "y", "z")))
        assert lines == [
            f"{root}/masks/a.png: label 7 on 12 pixels, but there are 3 classes (0 to 2); add its"
            " name to --data.classes or set --data.void 7",
            f"{root}/masks/b.png: labels 5 on 1 pixel, 6 on 2 pixels, 9 on 1 pixel and 1 more, but"
            " there are 3 classes (0 to 2); add their names to --data.classes",
        ]

    @pytest.mark.parametrize("void", [None, 11])
    def test_binary_masks_against_several_classes(self, tmp_path, void):
        root = write_folder(tmp_path, a=[255], b=[0], c=[255] * 54)
        assert _problems(Folder(root, classes=("x", "y", "z"), void=void)) == [
            f"{root}/masks: the masks hold only 0 and 255, but there are 3 classes (0 to 2); give"
            " --data.classes one name or save class numbers as masks"
        ]

    def test_soft_edges(self, tmp_path):
        root = write_folder(tmp_path, a=[255, 128, 128, 3], b=[255])
        (line,) = _problems(Folder(root))
        assert "a.png: labels 3 on 1 pixel, 128 on 2 pixels, but there is 1 class" in line
        assert "threshold soft edges at 128" in line

    @pytest.mark.parametrize(("most", "other"), [(1, 255), (255, 1)])
    def test_foregrounds_that_differ_between_masks(self, tmp_path, most, other):
        root = write_folder(tmp_path, a=[most], b=[other, other], c=[most], d=[0])
        assert _problems(Folder(root)) == [
            f"{root}/masks/b.png: label {other} on 2 pixels, but {most} marks the foreground"
            f" elsewhere; save all masks as 0 and {most}, or set --data.void 255 if it means"
            " unknown"
        ]

    def test_colour_coded_masks(self, tmp_path):
        root = write_folder(tmp_path, a=[1], b=[1])
        write_image(root / "masks/b.png")
        (line,) = _problems(Folder(root))
        assert "masks/b.png: colour-coded masks aren't labels" in line

    def test_twenty_lines_at_most(self, tmp_path):
        for k in range(23):
            write_image(tmp_path / f"images/{k:02}.png")
        write_mask(tmp_path / "masks/00.png")
        lines = _problems(Folder(tmp_path))
        assert len(lines) == 21
        assert lines[-1] == "and 2 more"


class TestNothingToRead:
    def _message(self, data):
        with pytest.raises(InputError) as caught:
            data.check()
        return str(caught.value)

    def test_missing_folders(self, tmp_path):
        fix = "no such folder; set --data.path to the one with your images"
        assert self._message(Folder(tmp_path / "none")) == f"{tmp_path}/none: {fix}"
        fix = "no such folder; put the images into images/ and their masks into masks/"
        assert self._message(Folder(tmp_path)) == f"{tmp_path}/images: {fix}"
        write_image(tmp_path / "images/a.png")
        assert self._message(Folder(tmp_path)) == f"{tmp_path}/masks: {fix}"

    def test_no_images(self, tmp_path):
        for name in ("images", "masks"):
            (tmp_path / name / "deeper").mkdir(parents=True)
        message = self._message(Folder(tmp_path))
        assert message.startswith(f"{tmp_path}/images: no images (.png")
        assert message.endswith("; subfolders aren't searched)")

    def test_one_image(self, tmp_path):
        message = self._message(Folder(write_folder(tmp_path, a=[1])))
        assert message == f"{tmp_path}: one image; add another, to train on one and test on one"

    @pytest.mark.parametrize(("there", "lacking"), [("train", "test"), ("test", "train")])
    def test_a_part_without_its_counterpart(self, tmp_path, there, lacking):
        write_folder(tmp_path / there, a=[1], b=[1])
        message = self._message(Folder(tmp_path))
        assert message.startswith(f"{tmp_path}: {there}/ is there but no {lacking}/; add it, or")

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"classes": ()}, "--data.classes: 0 names; give 1 to 255"),
            ({"classes": tuple(map(str, range(256)))}, "--data.classes: 256 names; give 1 to 255"),
            ({"classes": ("a", "b", "a")}, "--data.classes: a b a has one name twice"),
            ({"channels": 4}, "--data.channels: 4; give 3 for RGB, 1 for greyscale"),
            ({"test": 0.0}, "--data.val 0.1 --data.test 0.0: give fractions that leave some"),
            ({"val": -0.1}, "--data.val -0.1 --data.test 0.2: give fractions"),
            ({"val": 0.8}, "--data.val 0.8 --data.test 0.2: give fractions"),
        ],
    )
    def test_fields_out_of_range(self, tmp_path, fields, message):
        assert self._message(Folder(tmp_path, **fields)).startswith(message)


class TestInstances:
    @staticmethod
    def _numbers(root, **masks):
        """As `write_folder`, but masks are saved as arrays of these types, PNG or TIFF."""
        for name, (numbers, dtype, suffix) in masks.items():
            write_image(root / f"images/{name}.png")
            pixels = np.zeros(SHAPE, dtype)
            pixels.flat[: len(numbers)] = numbers
            (root / "masks").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / f"masks/{name}.{suffix}")
        return root

    def _examples(self, root, **fields):
        data = Folder(root, instances=True, **fields)
        return {e.id: e for part in PARTS for e in data.read(part)}

    def test_reads_all_integers_and_numbers_from_one(self, tmp_path):
        root = self._numbers(
            tmp_path,
            a=([0, 9, 9, 4, 0, 255], np.uint8, "png"),
            b=([65535, 0, 300, 300], np.uint16, "png"),
            c=([65535, 0, 1, 300], np.int32, "tif"),
            d=([7], np.uint16, "tif"),
            e=([], np.uint8, "png"),
        )
        expected = {
            "a": [0, 2, 2, 1, 0, 3],
            "b": [2, 0, 1, 1],
            "c": [3, 0, 1, 2],
            "d": [1],
            "e": [],
        }
        examples = self._examples(root, classes=("cell",))
        assert sorted(examples) == sorted(expected)
        for name, numbers in expected.items():
            example = examples[name]
            assert example.instance.dtype == np.uint16
            assert example.label.dtype == np.uint8
            assert example.instance.shape == example.label.shape == SHAPE
            assert example.instance.flat[: len(numbers)].tolist() == numbers
            assert not example.instance.flat[len(numbers) :].any()
            np.testing.assert_array_equal(example.label, example.instance > 0)

    def test_void_is_no_object(self, tmp_path):
        root = self._numbers(
            tmp_path, a=([1, 255, 3], np.uint8, "png"), b=([255, 2], np.uint8, "png")
        )
        example = self._examples(root, void=255)["a"]
        assert example.label.flat[:4].tolist() == [1, 255, 1, 0]
        assert example.instance.flat[:4].tolist() == [1, 0, 2, 0]

    def test_class_is_a_thing(self):
        assert Folder(classes=("cell",), instances=True).labels.things == ("cell",)
        assert Folder(classes=("cell",)).labels.things == ()
        assert Folder(classes=("sky", "sea")).labels.segments == ("sky", "sea")

    def test_masks_have_no_instances_otherwise(self, tmp_path):
        data = Folder(write_folder(tmp_path, a=[1], b=[1]))
        assert next(data.read("train")).instance is None

    @pytest.mark.parametrize("values", [[0], [1], [255, 255]])
    def test_one_object_at_most(self, tmp_path, values):
        data = Folder(write_folder(tmp_path, a=values, b=values), instances=True)
        assert _problems(data) == [
            f"{tmp_path / 'masks'}: no mask holds two objects; number each object of an image "
            "differently, or set --data.no-instances for masks of foreground and background"
        ]

    def test_void_is_not_counted_as_the_second_object(self, tmp_path):
        data = Folder(write_folder(tmp_path, a=[1, 255], b=[1]), instances=True, void=255)
        assert "no mask holds two objects" in _problems(data)[0]

    def test_numbers_out_of_range(self, tmp_path):
        root = self._numbers(
            tmp_path,
            a=([70000, -1, 1], np.int32, "tif"),
            b=([1, 2], np.uint8, "png"),
            c=([-1, 1], np.int32, "tif"),
        )
        first = f"{tmp_path}/masks/a.tif: labels -1 on 1 pixel, 70000 on 1 pixel, but objects are"
        a, c = _problems(Folder(root, instances=True))
        assert a == f"{first} numbered 1 to 65535; renumber them"
        assert c.startswith(f"{tmp_path}/masks/c.tif: label -1 on 1 pixel, but")
        (a,) = _problems(Folder(root, instances=True, void=-1))
        assert a.startswith(f"{tmp_path}/masks/a.tif: label 70000 on 1 pixel, but")

    def test_jpeg(self, tmp_path):
        root = write_folder(tmp_path, a=[1, 2], b=[1])
        (root / "masks/b.png").unlink()
        write_mask(root / "masks/b.jpg", 1)
        (line,) = _problems(Folder(root, instances=True))
        assert line.startswith(f"{root}/masks/b.jpg: JPEG blurs values, so it can't hold object nu")

    def test_files_are_checked_as_ever(self, tmp_path):
        root = write_folder(tmp_path, a=[1, 2], b=[1], c=[1])
        _truncate(root / "masks/b.png")
        write_mask(root / "masks/c.png", 1, shape=(6, 8))
        broken, size = _problems(Folder(root, instances=True))
        assert "b.png: not an image" in broken
        assert "9×6 pixels, but its mask" in size

    def test_one_broken_mask_hides_that_none_holds_two(self, tmp_path):
        root = write_folder(tmp_path, a=[1], b=[1])
        _truncate(root / "masks/b.png")
        (line,) = _problems(Folder(root, instances=True))
        assert "b.png: not an image" in line

    def test_several_classes(self, tmp_path):
        with pytest.raises(InputError, match=r"^--data\.instances: .* has 2; give one name"):
            Folder(tmp_path, instances=True, classes=("sky", "sea")).check()


names = st.lists(st.text("abcé0_ -", min_size=1), min_size=2, max_size=40, unique=True)


class TestSplit:
    @staticmethod
    def _split(ids, val, test, seed):
        pairs = [Pair(name, Path(name), Path(name)) for name in ids]
        return {part: [p.id for p in ps] for part, ps in split(pairs, val, test, seed).items()}

    @settings(max_examples=60, deadline=None)
    @given(names, st.floats(0, 0.5), st.floats(0.01, 0.49), st.integers(0, 9), st.randoms())
    def test_disjoint_complete_and_the_same_in_any_order(self, ids, val, test, seed, random):
        parts = self._split(ids, val, test, seed)
        assert tuple(parts) == PARTS
        assert sorted(parts["train"] + parts["val"] + parts["test"]) == sorted(ids)
        assert parts["train"]
        assert parts["test"]
        assert bool(parts["val"]) == (val > 0 and len(ids) > 2)
        assert abs(len(parts["test"]) - test * len(ids)) <= 1
        shuffled = random.sample(ids, len(ids))
        again = self._split(shuffled, val, test, seed)
        assert {k: set(v) for k, v in parts.items()} == {k: set(v) for k, v in again.items()}

    @settings(max_examples=30, deadline=None)
    @given(names, st.integers(0, 9))
    def test_one_more_image_moves_two_at_most(self, ids, seed):
        before = self._split(ids, 0.1, 0.2, seed)
        after = self._split([*ids, "new"], 0.1, 0.2, seed)
        part_after = {name: part for part, found in after.items() for name in found}
        moved = [n for part, found in before.items() for n in found if part_after[n] != part]
        assert len(moved) <= 2

    def test_fractions_and_seeds(self):
        ids = [f"{k:03}" for k in range(200)]
        parts = self._split(ids, 0.1, 0.25, 0)
        assert [len(parts[part]) for part in PARTS] == [130, 20, 50]
        assert parts != self._split(ids, 0.1, 0.25, 1)

    def test_it_never_changes(self):
        # From: for i in 0 1 2 3 4 5 6 7; do echo $(printf "0:$i" | sha256sum) $i; done | sort
        assert self._split("01234567", 0.25, 0.25, 0) == {
            "train": ["0", "1", "5", "6"],
            "val": ["2", "3"],
            "test": ["4", "7"],
        }
