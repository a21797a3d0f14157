from pathlib import Path

import numpy as np
import pytest
from copies.coco import (
    CATEGORIES,
    HEIGHT,
    KINDS,
    SEGMENTS,
    SHAPE,
    WIDTH,
    box,
    instance,
    person,
    runs,
    write,
    write_panoptic,
    write_people,
)
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.cocoeval import Params

from seg_jax.datasets.coco import COCO_SKELETON, CocoInstances, CocoKeypoints, CocoPanoptic
from seg_jax.datasets.coco.annotations import mask_of
from seg_jax.errors import InputError
from seg_jax.labels import Labels
from seg_jax.values import from_json, to_json


def refused(source, part="test"):
    with pytest.raises(InputError) as caught:
        list(source.read(part))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


class TestFiles:
    def test_layout_of_coco(self, tmp_path):
        source = write(tmp_path, "instances", [])
        a, b = source.read("test")
        assert (a.id, b.id) == ("a", "b")
        pixels = np.random.RandomState(11).randint(0, 256, (*SHAPE, 3), np.uint8)
        np.testing.assert_array_equal(b.image, pixels)
        assert source.channels == 3
        assert not b.label.any()
        assert not b.instance.any()
        assert [e.id for e in source.read("train")] == ["a", "b"]
        assert list(source.read("val")) == []

    def test_fields_name_other_files(self, tmp_path):
        write(tmp_path / "coco", "instances", [instance(runs(box(0, 0, 5, 5)))])
        (tmp_path / "coco/val2017").rename(tmp_path / "pictures")
        labels = str(tmp_path / "coco/annotations/instances_val2017.json")
        source = CocoInstances(
            tmp_path,
            *("pictures", labels, None, "coco/annotations/instances_val2017.json"),
            test_images=str(tmp_path / "pictures"),
            test_json=labels,
        )
        kept = from_json(to_json(source))
        for part in ("train", "val", "test"):
            assert [e.instance.max() for e in source.read(part)] == [0, 1]
            assert [e.instance.max() for e in kept.read(part)] == [0, 1]

    def test_paths_below_root_are_text(self):
        message = r"data\.test_json is a Path, .* are text; write 'test\.json'"
        for kind in KINDS.values():
            with pytest.raises(InputError, match=message):
                kind(Path("mine"), test_json=Path("test.json"))

    def test_images_have_their_numbers(self, tmp_path):
        source = write(tmp_path, "instances", [])
        expected = {
            "a": {"id": 12, "file_name": "a.png"},
            "b": {"id": 11, "file_name": "b.png"},
        }
        assert source.image_entries("test") == expected
        assert set(expected) == {example.id for example in source.read("test")}
        assert source.image_entries("val") == {}

    def test_validation_is_a_fraction_that_stays(self, tmp_path):
        names = [f"{n:03d}" for n in range(60)]
        write(tmp_path, "instances", [], names=names)
        source = CocoInstances(tmp_path, val=0.3)
        val, train = ([e.id for e in source.read(part)] for part in ("val", "train"))
        assert sorted(val + train) == names
        assert 8 <= len(val) <= 28
        more = [e.id for e in CocoInstances(tmp_path, val=0.5).read("val")]
        assert set(val) < set(more)
        assert len(list(source.read("test"))) == 60

    def test_is_lazy(self, tmp_path):
        source = write(tmp_path, "instances", [])
        (tmp_path / "val2017/b.png").write_bytes(b"cut")
        examples = source.read("test")
        assert next(examples).id == "a"
        with pytest.raises(InputError, match=r"b\.png: not an image"):
            next(examples)

    def test_images_in_folders_have_ids_of_their_own(self, tmp_path):
        for part in ("train2017", "val2017"):
            (tmp_path / part / "x").mkdir(parents=True)
        source = write(tmp_path, "instances", [], names=("x/a", "a"))
        assert [e.id for e in source.read("test")] == ["a", "x-a"]

    def test_missing_files(self, tmp_path):
        message = refused(CocoInstances(tmp_path))
        assert "instances_val2017.json: no such file" in message
        assert "cocodataset.org" in message
        source = write(tmp_path, "instances", [])
        (tmp_path / "val2017/b.png").unlink()
        assert "val2017: 1 of the 2 images" in refused(source)
        assert refused(source).endswith(
            "b.png; fetch them, or name their folder: --data.test-images"
        )

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "not a readable JSON file"),
            ("[]", "not in COCO's format"),
            ('{"images": [], "annotations": []}', "lacks 'categories', which COCO's format has"),
            ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "lacks 'file_name'"),
            ('{"images": [], "annotations": [], "categories": []}', "lists no images"),
        ],
    )
    def test_broken_json(self, tmp_path, content, message):
        source = write(tmp_path, "instances", [])
        (tmp_path / "annotations/instances_val2017.json").write_text(content)
        assert f"instances_val2017.json: {message}" in refused(source)

    def test_annotation_of_an_unlisted_image(self, tmp_path):
        source = write(tmp_path, "instances", [instance(runs(box(0, 0, 5, 5)), image_id=99)])
        assert "has annotations of images that it doesn't list: 99;" in refused(source)

    def test_categories_that_cannot_be_classes(self, tmp_path):
        many = [{"id": n, "name": f"{n}"} for n in range(255)]
        source = write(tmp_path / "many", "instances", [], many)
        assert "255 categories, but a label holds 254" in refused(source)
        twice = [{"id": n, "name": "dog"} for n in range(2)]
        source = write(tmp_path / "twice", "instances", [], twice)
        assert "several categories named dog; rename them" in refused(source)

    def test_categories_of_test_are_those_of_training(self, tmp_path):
        source = write(tmp_path, "instances", [])
        path = tmp_path / "annotations/instances_val2017.json"
        path.write_text(path.read_text().replace('"id": 3', '"id": 4'))
        assert "instances_train2017.json, as 3 sky, 4 sky; make them the same" in refused(source)

    def test_size_that_is_not_the_images(self, tmp_path):
        source = write(tmp_path, "instances", [])
        Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "val2017/a.png")
        assert "a.png: 20×30 pixels, but 30×20 in" in refused(source)

    def test_fraction_out_of_range(self, tmp_path):
        assert "--data.val: 1; give a fraction" in refused(CocoInstances(tmp_path, val=1))
        write(tmp_path, "instances", [])
        source = CocoInstances(tmp_path, val=0.9999)
        assert "--data.val: 0.9999 leaves no images to train on" in refused(source, "train")


class TestInstances:
    def test_labels(self, tmp_path):
        classes = ("background", "sky", "dog")
        ids = (("sky", 3), ("dog", 7))
        expected = Labels(classes, segments=classes, things=("sky", "dog"), ids=ids)
        assert write(tmp_path, "instances", []).labels == expected

    def test_run_lengths_and_polygons(self, tmp_path):
        masks = [box(0, 0, 4, 6), box(10, 0, 18, 8), box(5, 20, 15, 30)]
        polygon = [20, 5, 30, 5, 30, 15, 20, 15]
        source = write(
            tmp_path,
            "instances",
            [
                instance(runs(masks[0])),
                instance(runs(masks[1], text=False), category_id=3),
                instance([polygon]),
            ],
        )
        example = list(source.read("test"))[1]
        assert example.label.dtype == np.uint8
        assert example.instance.dtype == np.uint16
        np.testing.assert_array_equal(example.label, 2 * masks[0] + masks[1] + 2 * masks[2])
        np.testing.assert_array_equal(example.instance, 3 * masks[0] + 2 * masks[1] + masks[2])

    def test_compressed_run_lengths_are_pycocotools(self):
        random = np.random.RandomState(0)
        for share in (0, 0.001, 0.1, 0.5, 1):
            mask = (random.rand(300, 200) < share).astype(np.uint8)
            coded = run_lengths.encode(np.asfortranarray(mask))
            for counts in (coded["counts"], coded["counts"].decode()):
                drawn = mask_of({"segmentation": {**coded, "counts": counts}}, mask.shape, Path())
                np.testing.assert_array_equal(drawn, mask)

    def test_smaller_is_on_top_and_crowds_are_below(self, tmp_path):
        source = write(
            tmp_path,
            "instances",
            [
                instance([[2, 2, 5, 2, 5, 5, 2, 5]], category_id=3),
                instance(runs(box(0, 0, 10, 10)), id=2),
                instance(runs(box(0, 0, 20, 12)), id=3, iscrowd=1),
            ],
        )
        example = list(source.read("test"))[1]
        expected = np.where(box(0, 0, 20, 12), 255, 0)
        expected[:10, :10] = 2
        expected[2:5, 2:5] = 1
        np.testing.assert_array_equal(example.label, expected)
        expected = box(0, 0, 10, 10) + box(2, 2, 5, 5)
        np.testing.assert_array_equal(example.instance, expected)

    def test_hidden_objects_leave_no_number_out(self, tmp_path):
        a, b = box(0, 0, 10, 10), box(0, 0, 5, 10)
        found = [instance(runs(mask), id=n) for n, mask in enumerate((a, b, a - b))]
        example = list(write(tmp_path, "instances", found).read("test"))[1]
        np.testing.assert_array_equal(example.instance, b + 2 * (a - b))

    @pytest.mark.parametrize(
        ("segmentation", "message"),
        [
            ([], "annotation 1 has no segmentation; add it"),
            (None, "annotation 1 has no segmentation; add it"),
            ([[1, 1, 5, 5]], "can't be drawn (a polygon needs"),
            ([[1, 1, 5, 5, 9, 9, 3]], "can't be drawn (a polygon needs"),
            ([1, 1, 5, 5, 9, 9], "can't be drawn"),
            ({"size": [30, 20], "counts": [600]}, "its size is [30, 20], but its image's [20, 30]"),
            ({"size": [20, 30]}, "can't be drawn ('counts')"),
            ({"size": [20, 30], "counts": [5, 7]}, "its run lengths add up to 12 pixels"),
            ({"size": [20, 30], "counts": "01"}, "its run lengths add up to 1 pixels"),
            ({"size": [20, 30], "counts": [-5, 605]}, "can't be drawn"),
        ],
    )
    def test_broken_segmentations(self, tmp_path, segmentation, message):
        source = write(tmp_path, "instances", [instance(segmentation)])
        assert message in refused(source)

    def test_unknown_category(self, tmp_path):
        source = write(tmp_path, "instances", [instance(runs(box(0, 0, 3, 3)), category_id=5)])
        assert "1 has the category 5, which isn't listed" in refused(source)
        found = instance(runs(box(0, 0, 3, 3)))
        del found["category_id"]
        source = write(tmp_path / "lacks", "instances", [found])
        assert "what it says of b.png lacks 'category_id'" in refused(source)


class TestPanoptic:
    def test_labels(self, tmp_path):
        classes = ("sky", "dog")
        ids = (("sky", 3), ("dog", 7))
        expected = Labels(classes, segments=classes, things=("dog",), ids=ids)
        assert write_panoptic(tmp_path).labels == expected

    def test_labels_and_instances(self, tmp_path):
        a, b = write_panoptic(tmp_path).read("test")
        assert a.label.dtype == np.uint8
        assert a.instance.dtype == np.uint16
        label, numbers = [1, 1, 0, 255, 255], [2, 1, 0, 0, 0]
        np.testing.assert_array_equal(a.label, np.repeat(label, 4)[:, None] * np.ones(WIDTH))
        np.testing.assert_array_equal(a.instance, np.repeat(numbers, 4)[:, None] * np.ones(WIDTH))
        assert not b.label.any()
        assert not b.instance.any()

    def test_folder_of_pngs_may_be_elsewhere(self, tmp_path):
        write_panoptic(tmp_path, png="elsewhere")
        source = CocoPanoptic(tmp_path, test_pngs="elsewhere")
        assert next(source.read("test")).instance.max() == 2

    def test_validation_from_training_takes_its_pngs(self, tmp_path):
        write_panoptic(tmp_path)
        where = "annotations/panoptic_val2017"
        fields = {"train_json": f"{where}.json", "train_images": "val2017"}
        source = CocoPanoptic(tmp_path, **fields, val=0.4)
        renamed = CocoPanoptic(tmp_path, **fields, val=0.4, train_pngs="pngs")
        parts = [[e.id for e in source.read(part)] for part in ("train", "val")]
        assert sorted(parts) == [["a"], ["b"]]
        (tmp_path / where).rename(tmp_path / "pngs")
        assert [[e.id for e in renamed.read(part)] for part in ("train", "val")] == parts

    def test_segment_that_the_json_lacks(self, tmp_path):
        source = write_panoptic(tmp_path, segments_info=[{"id": 200, "category_id": 7}])
        assert f"a.png: has segments that {tmp_path}" in refused(source)
        assert "lacks: 16711680, 197121, 2304; fetch both again" in refused(source)

    def test_missing_or_broken_pngs(self, tmp_path):
        source = write_panoptic(tmp_path)
        path = tmp_path / "annotations/panoptic_val2017/a.png"
        Image.new("RGB", (HEIGHT, WIDTH)).save(path)
        assert f"{path}: 20×30 pixels, but its image has 30×20" in refused(source)
        path.unlink()
        assert f"{path}: no such file" in refused(source)

    def test_images_without_an_annotation(self, tmp_path):
        source = write_panoptic(tmp_path, image_id=11)
        assert "an image has 0 annotations; give each one" in refused(source)

    def test_categories(self, tmp_path):
        categories = [{"id": 7, "name": "dog", "isthing": 1}, {"id": 3, "name": "sky"}]
        source = write_panoptic(tmp_path, categories=categories)
        assert "a category lacks 'isthing'; add it" in refused(source)
        source = write_panoptic(tmp_path / "b", categories=CATEGORIES[:1])
        assert f"{SEGMENTS[2]} has the category 3, which isn't listed" in refused(source)


class TestKeypoints:
    def test_people_with_joints(self, tmp_path):
        source = write_people(
            tmp_path,
            person(box(0, 0, 9, 9), (3, 4, 2), (5, 6, 1)),
            person(box(2, 2, 4, 5), (2.5, 3, 2)),
        )
        assert source.labels == Labels(skeleton=COCO_SKELETON, ids=(("person", 1),))
        a, b = source.read("test")
        assert a.joints.shape == (0, 17, 3)
        assert a.area.shape == (0,)
        assert b.joints.dtype == b.area.dtype == a.area.dtype == np.float32
        assert b.joints.shape == (2, 17, 3)
        assert b.joints[:, :2].tolist() == [[[3, 4, 2], [5, 6, 1]], [[2.5, 3, 2], [0, 0, 0]]]
        assert b.area.tolist() == [81, 6]
        assert b.instance is None
        assert b.label.dtype == np.uint8
        assert not b.label.any()

    def test_ids_are_those_of_the_json_if_there_is_one(self, tmp_path):
        categories = [{"id": 2, "name": "dog"}, {"id": 5, "name": "person"}]
        source = write(tmp_path, "person_keypoints", [], categories)
        assert source.labels.ids == (("dog", 2), ("person", 5))
        source = CocoKeypoints(tmp_path / "nowhere")
        assert source.labels == Labels(skeleton=COCO_SKELETON)

    def test_crowds_and_people_without_joints_are_void(self, tmp_path):
        without, crowd, known = box(0, 0, 5, 5), box(8, 0, 20, 20), box(4, 4, 12, 12)
        source = write_people(
            tmp_path,
            person(known, (5, 5, 2)),
            person(without),
            person(crowd, (9, 9, 2), iscrowd=1),
        )
        _, example = source.read("test")
        assert len(example.joints) == len(example.area) == 1
        expected = np.where((without | crowd) & ~(known > 0), 255, 0)
        np.testing.assert_array_equal(example.label, expected)

    def test_people_with_joints_need_no_mask(self, tmp_path):
        maskless = person(box(0, 0, 5, 5), (5, 5, 2))
        del maskless["segmentation"]
        _, example = write_people(tmp_path, maskless, person(box(0, 0, 9, 9))).read("test")
        assert len(example.joints) == 1

    def test_other_skeletons_and_missing_fields(self, tmp_path):
        whole = person(box(0, 0, 5, 5), (5, 5, 2))
        short = {**whole, "keypoints": whole["keypoints"][:42]}
        source = write_people(tmp_path / "a", short)
        assert "annotation 1 has 42 numbers for keypoints, not x, y and vis" in refused(source)
        source = write(tmp_path / "b", "person_keypoints", [instance(runs(box(0, 0, 5, 5)))])
        assert "what it says of b.png lacks 'keypoints'" in refused(source)


class TestSkeleton:
    def test_sigmas_are_pycocotools(self):
        expected = Params("keypoints").kpt_oks_sigmas
        np.testing.assert_allclose(COCO_SKELETON.sigmas, expected)

    def test_mirror_swaps_left_and_right(self):
        swapped = [
            name.replace("left", "*").replace("right", "left").replace("*", "right")
            for name in COCO_SKELETON.joints
        ]
        assert [COCO_SKELETON.joints[k] for k in COCO_SKELETON.mirrored] == swapped

    def test_limbs_connect_all_and_are_mirrored(self):
        limbs = {frozenset(limb) for limb in COCO_SKELETON.limbs}
        assert len(limbs) == 19
        assert {frozenset(COCO_SKELETON.mirrored[k] for k in limb) for limb in limbs} == limbs
        reached = {0}
        for _ in range(17):
            reached |= set().union(*(limb for limb in limbs if limb & reached))
        assert reached == set(range(17))
