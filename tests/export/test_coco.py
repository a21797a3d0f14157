import collections
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from quality import quality_by_sets

from seg_jax.datasets.coco import CocoPanoptic
from seg_jax.datasets.coco.annotations import mask_of
from seg_jax.datasets.skeletons import LSP_SKELETON
from seg_jax.export.coco import CocoFiles, annotations, categories
from seg_jax.export.predictions import save
from seg_jax.found import Found, Segments
from seg_jax.labels import VOID, Labels
from seg_jax.tasks import Panoptic
from seg_jax.tasks.task import Decoded

CELLS = Labels(("cell",), things=("cell",))
PEOPLE = Labels(skeleton=LSP_SKELETON)
DANCERS = Labels(
    ("wall", "floor", "head", "body"),
    ("wall", "floor", "person", "person"),
    ("person",),
    LSP_SKELETON,
)
SEGMENTS, SKELETONS = ("label", "segments"), ("skeletons",)
SIZE = 48, 60


def draw(rng, labels, void=False):
    """Discs that overlap, on the stuff: label and instance."""
    label, instance = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint16)
    stuff = [k for k, name in enumerate(labels.segments) if name not in labels.things] or [0]
    for position, k in enumerate(stuff):
        label[:, position * SIZE[1] // len(stuff) :] = k
    parts = [k for k, name in enumerate(labels.segments) if name in labels.things]
    row, column = np.mgrid[: SIZE[0], : SIZE[1]]
    for number in range(1, 11):
        y, x = rng.uniform((4, 4), (SIZE[0] - 4, SIZE[1] - 4))
        inside = (row - y) ** 2 + (column - x) ** 2 < rng.uniform(4, 9) ** 2
        instance[inside] = number
        label[inside] = 1 if labels.binary else rng.choice(parts)
    if void:
        label[24:36, 24:36] = label[2::9] = VOID
    return label, instance


def segments_of(labels, label, instance, max_objects=24):
    """Segments as a task numbers them: the objects, then stuff after `max_objects`."""
    of_label = np.zeros(256, np.int32)
    of_label[: len(labels.category_of_class)] = labels.category_of_class
    category = of_label[label]
    is_thing = np.isin(category, labels.thing_categories)
    number = np.where(is_thing, instance, np.where(category > 0, max_objects + category, 0))
    of_number = np.zeros(max_objects + len(labels.categories) + 1, np.int32)
    of_number[number.ravel()] = np.where(number > 0, category, 0).ravel()
    score = np.linspace(0, 1, len(of_number), dtype=np.float32)
    return Segments(number.astype(np.uint16), of_number, score)


def segmented(rng, labels):
    label, instance = draw(rng, labels)
    return Found(label=label, segments=segments_of(labels, label, instance))


def people_in(rng, count):
    """Found people, the surest first, in an image of `SIZE`."""
    places = rng.uniform(0, (SIZE[1], SIZE[0]), (count, 14, 2))
    joints = np.concatenate([places, rng.uniform(0.1, 1, (count, 14, 1))], -1)
    scores = np.linspace(1, 0.5, count, dtype=np.float32)
    return Found(skeletons=joints.astype(np.float32), skeleton_scores=scores)


class TestCategories:
    def test_skeletons_have_a_category_that_is_free(self):
        ids = ("wall", 118), ("floor", 92), ("person", 1)
        numbered = dataclasses.replace(DANCERS, ids=ids)
        for labels, numbers in ((DANCERS, [1, 2, 3, 4]), (numbered, [118, 92, 1, 119])):
            entries = categories(labels, (*SEGMENTS, *SKELETONS))
            assert [c["name"] for c in entries] == ["wall", "floor", "person", "skeleton"]
            assert [c["id"] for c in entries] == numbers
            assert [c.get("isthing") for c in entries] == [0, 0, 1, None]

    def test_skeletons_alone_are_persons_by_their_own_number(self):
        numbered = dataclasses.replace(PEOPLE, ids=(("dog", 2), ("person", 5)))
        # Without segments, those of the labels have no category.
        for labels, number in ((PEOPLE, 1), (numbered, 5), (DANCERS, 1)):
            (person,) = categories(labels, SKELETONS)
            assert (person["id"], person["name"]) == (number, "person")
            assert person["keypoints"] == list(LSP_SKELETON.joints)
            assert person["skeleton"][:2] == [[1, 2], [2, 3]]
            (found,) = annotations(people_in(np.random.default_rng(0), 1), [person])
            assert found["category_id"] == number

    def test_regions_have_none(self):
        assert categories(DANCERS, ("label",)) == []


class TestAnnotations:
    @pytest.mark.parametrize("labels", [CELLS, DANCERS], ids=["cells", "dancers"])
    def test_segments_are_those_of_the_label(self, labels):
        found = segmented(np.random.default_rng(0), labels)
        number, entries = found.segments.number, categories(labels, SEGMENTS)
        inside = annotations(found, entries)
        assert {each["segment"]: each["area"] for each in inside} == {
            n: (number == n).sum() for n in np.unique(number[number > 0])
        }
        names = {each["id"]: each["name"] for each in entries}
        segments = labels.segments if not labels.binary else (None, *labels.segments)
        for each in inside:
            pixels = number == each["segment"]
            np.testing.assert_array_equal(mask_of(each, SIZE, Path("coco.json")), pixels)
            assert {segments[k] for k in found.label[pixels]} == {names[each["category_id"]]}
            row, column = np.nonzero(pixels)
            extent = np.ptp(column) + 1, np.ptp(row) + 1
            assert each["bbox"] == [column.min(), row.min(), *extent]
            assert each["score"] == pytest.approx(found.segments.score[each["segment"]], abs=1e-4)

    def test_joints_are_cocos_keypoints(self):
        found = people_in(np.random.default_rng(0), 3)
        inside = annotations(found, categories(PEOPLE, SKELETONS))
        assert [each["score"] for each in inside] == [1, 0.75, 0.5]
        for each, joints in zip(inside, found.skeletons, strict=True):
            assert each["num_keypoints"] == 14
            np.testing.assert_allclose(np.reshape(each["keypoints"], (14, 3)), joints, atol=0.006)

    def test_a_box_holds_the_joints_that_were_found(self):
        joints = np.zeros((1, 14, 3), np.float32)
        joints[0, 3:6] = [(20, 8, 1), (14, 30, 0.5), (15, 9, 0.1)]
        found = Found(skeletons=joints, skeleton_scores=np.ones(1, np.float32))
        (person,) = annotations(found, categories(PEOPLE, SKELETONS))
        assert person["bbox"] == [14, 8, 6, 22]
        assert person["area"] == 6 * 22
        assert person["num_keypoints"] == 3


def write(folder, labels, finds, images):
    """Saves what is found in named images, and gives the JSON files of it by name."""
    files = CocoFiles(labels, finds)
    for name, found in images.items():
        save(folder, name, labels, found)
        files.add(name, {"file_name": f"{name}.jpg"}, np.zeros((*SIZE, 3), np.uint8), found)
    files.write(folder)
    return {path.stem: json.loads(path.read_text()) for path in folder.rglob("*.json")}


class TestCocoFiles:
    @pytest.mark.parametrize(
        ("names", "ids"),
        [
            (("000000000785", "000000000139"), [785, 139]),
            (("7", "07"), [1, 2]),
            (("7", "b"), [1, 2]),
            (("1.5", "8"), [1, 2]),
        ],
    )
    def test_images_that_are_called_by_numbers_have_them_as_ids(self, tmp_path, names, ids):
        file = CocoFiles(DANCERS, SEGMENTS)
        number = np.zeros((6, 9), np.uint16)
        number[2, 3] = 1
        segments = Segments(number, np.array([0, 3]), np.array([0, 0.5]))
        for name in names:
            image = np.zeros((6, 9, 3), np.uint8)
            file.add(name, {"file_name": f"{name}.jpg"}, image, Found(segments=segments))
        file.write(tmp_path)
        found = json.loads((tmp_path / "predictions" / "coco.json").read_text())
        assert found["images"] == [
            {"id": id, "file_name": f"{name}.jpg", "height": 6, "width": 9}
            for id, name in zip(ids, names, strict=True)
        ]
        assert [a["image_id"] for a in found["annotations"]] == ids
        assert [a["id"] for a in found["annotations"]] == [1, 2]

    def test_an_id_that_the_data_give_is_kept(self, tmp_path):
        file, people = CocoFiles(PEOPLE, SKELETONS), people_in(np.random.default_rng(0), 2)
        file.add("7", {"id": 3, "file_name": "7.jpg"}, np.zeros((*SIZE, 1), np.uint8), people)
        file.write(tmp_path)
        found = json.loads((tmp_path / "predictions" / "coco.json").read_text())
        (image,) = found["images"]
        assert image == {"id": 3, "file_name": "7.jpg", "height": SIZE[0], "width": SIZE[1]}
        assert [a["image_id"] for a in found["annotations"]] == [3, 3]

    def test_regions_have_no_json(self, tmp_path):
        label = np.zeros(SIZE, np.uint8)
        assert write(tmp_path, DANCERS, ("label",), {"a": Found(label=label)}) == {}

    def test_things_alone_are_not_written_in_the_panoptic_format(self, tmp_path):
        write(tmp_path, CELLS, SEGMENTS, {"a": segmented(np.random.default_rng(0), CELLS)})
        written = [path.name for path in (tmp_path / "predictions").iterdir()]
        assert sorted(written) == ["a.png", "coco.json"]

    def test_objects_and_skeletons_are_in_one_file(self, tmp_path):
        rng = np.random.default_rng(0)
        images = {}
        for name, count in (("a", 2), ("b", 0)):
            people = people_in(rng, count)
            images[name] = dataclasses.replace(people, segments=segmented(rng, DANCERS).segments)
        found = write(tmp_path, DANCERS, (*SEGMENTS, *SKELETONS), images)
        coco, panoptic = found["coco"], found["panoptic"]
        assert [c["name"] for c in coco["categories"]] == ["person", "skeleton"]
        assert [c["name"] for c in panoptic["categories"]] == ["wall", "floor", "person"]
        assert [image["id"] for image in panoptic["images"]] == [1, 2]
        assert [a["file_name"] for a in panoptic["annotations"]] == ["a.png", "b.png"]
        skeletons = [a for a in coco["annotations"] if a["category_id"] == 4]
        assert [a["image_id"] for a in skeletons] == [1, 1]
        assert all("keypoints" in a for a in skeletons)
        objects = [a for a in coco["annotations"] if a["category_id"] == 3]
        assert all("segmentation" in a for a in objects)
        assert len(objects) + 2 == len(coco["annotations"])
        for name, annotation in zip("ab", panoptic["annotations"], strict=True):
            number = images[name].segments.number
            ids = [info["id"] for info in annotation["segments_info"]]
            assert ids == np.unique(number[number > 0]).tolist()

    def test_pycocotools_loads_the_file(self, tmp_path):
        rng, counts = np.random.default_rng(0), [3, 0, 2]
        names = ["one", "two", "three"]
        images = {n: people_in(rng, count) for n, count in zip(names, counts, strict=True)}
        write(tmp_path, PEOPLE, SKELETONS, images)
        coco = COCO(str(tmp_path / "predictions" / "coco.json"))
        assert [(i["file_name"], i["height"], i["width"]) for i in coco.imgs.values()] == [
            (f"{name}.jpg", *SIZE) for name in names
        ]
        assert [len(coco.getAnnIds(imgIds=[image])) for image in coco.imgs] == counts
        assert len(coco.anns) == sum(counts)
        assert {len(found["keypoints"]) for found in coco.anns.values()} == {3 * 14}
        (category,) = coco.loadCats(coco.getCatIds(catNms=["person"]))
        names = category["keypoints"]
        assert names == list(LSP_SKELETON.joints)
        limbs = [(names[a - 1], names[b - 1]) for a, b in category["skeleton"]]
        assert limbs[0] == ("right_ankle", "right_knee")
        assert limbs[-1] == ("neck", "head_top")
        evaluation = COCOeval(coco, coco.loadRes(list(coco.anns.values())), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(LSP_SKELETON.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == 1  # of what was found, if that were the truth


IDS = {"car": 3, "road": 149, "sky": 187}
NAMES = "000000000139", "000000000785", "000000001000"
STREET = Labels(tuple(IDS), things=("car",), ids=tuple(IDS.items()))
MAX_OBJECTS = 255  # stuff comes after, and needs a second byte


def write_truth(root, pictures):
    """COCO's panoptic format; images have no suffix, as evaluation names them by their ids."""
    entries = []
    (root / "val2017").mkdir()
    (root / "annotations/panoptic_val2017").mkdir(parents=True)
    for name, (label, instance) in zip(NAMES, pictures, strict=True):
        ids = np.where(instance > 0, 70000 + instance.astype(int), 1 + label)
        ids[label == VOID] = 0
        infos = [
            {
                "id": int(one),
                "category_id": IDS[STREET.classes[label[ids == one][0]]],
                "area": int((ids == one).sum()),
                "iscrowd": 0,
            }
            for one in np.unique(ids[ids > 0])
        ]
        png = f"{name}.png"
        entries.append({"image_id": int(name), "file_name": png, "segments_info": infos})
        pixels = np.stack([ids >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)
        Image.fromarray(pixels).save(root / "annotations/panoptic_val2017" / png)
        Image.fromarray(pixels).save(root / "val2017" / name, format="PNG")
    height, width = SIZE
    content = {
        "images": [
            {"id": int(name), "file_name": name, "height": height, "width": width} for name in NAMES
        ],
        "annotations": entries,
        "categories": [
            {"id": id, "name": name, "isthing": int(name == "car")} for name, id in IDS.items()
        ],
    }
    truth = "annotations/panoptic_val2017.json"
    (root / truth).write_text(json.dumps(content))
    return CocoPanoptic(root, train_json=truth, train_images="val2017")


def found_near(rng, label, instance):
    """The truth with objects moved, missing and invented, and none where it is unknown."""
    label, instance = label.copy(), instance.copy()
    missing = np.isin(instance, rng.choice(np.unique(instance[instance > 0]), 2, replace=False))
    label[missing], instance[missing] = 1, 0
    unknown = label == VOID
    shift = rng.integers(1, 3, 2)
    label, instance = (np.roll(x, shift, (0, 1)) for x in (label, instance))
    label[unknown | (label == VOID)], instance[unknown] = 2, 0
    label[instance > 0] = 0
    label[:5, :5], instance[:5, :5] = 0, 40
    segments = segments_of(STREET, label, instance, MAX_OBJECTS)
    segments.number[-3:] = 0
    return Found(label=label, segments=segments)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A data set in COCO's format, and the folder of what was found in its images."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("coco")
    source = write_truth(root, [draw(rng, STREET, void=k > 0) for k in range(3)])
    entries, files = source.image_entries("test"), CocoFiles(STREET, SEGMENTS)
    examples = list(source.read("test"))
    every = [found_near(rng, each.label, each.instance) for each in examples]
    for example, found in zip(examples, every, strict=True):
        save(root / "run", example.id, STREET, found)
        files.add(example.id, entries[example.id], example.image, found)
    files.write(root / "run")
    return source, root / "run" / "predictions", examples, every


class TestCocosPanopticFormat:
    @staticmethod
    def segments(path):
        """Ids and categories of each image's segments, as panopticapi reads them."""
        for each in json.loads(path.read_text())["annotations"]:
            with Image.open(path.with_suffix("") / each["file_name"]) as picture:
                number = np.asarray(picture, int) @ [1, 256, 65536]
            category = {info["id"]: info["category_id"] for info in each["segments_info"]}
            assert set(category) == set(np.unique(number[number > 0]).tolist())
            yield Segments(number, category, None)

    def test_is_read_as_what_was_found(self, written):
        source, predictions, _, _ = written
        source = dataclasses.replace(source, test_json=str(predictions / "panoptic.json"))
        for name, example in zip(NAMES, source.read("test"), strict=True):
            with Image.open(predictions / f"{name}.png") as picture:
                number = np.asarray(picture).astype(int)
            of_stuff = number - MAX_OBJECTS - 1
            label = np.where(number == 0, VOID, np.where(of_stuff < 0, 0, of_stuff))
            np.testing.assert_array_equal(example.label, label)
            objects = np.where(of_stuff < 0, number, 0)
            pairs = np.unique(np.stack([example.instance.ravel(), objects.ravel()]), axis=1)
            assert len(pairs[0]) == len(np.unique(example.instance)) == len(np.unique(objects))
            np.testing.assert_array_equal(pairs[0] == 0, pairs[1] == 0)
            assert objects.any()

    def test_panopticapi_gives_the_same_scores(self, written):
        source, predictions, examples, every = written
        found = self.segments(predictions / "panoptic.json")
        true = self.segments(source.root / source.test_json)
        images = [(f, t, t.number > 0) for f, t in zip(found, true, strict=True)]
        counts, expected = quality_by_sets(images, IDS.values())
        total = sum(counts.values(), collections.Counter())
        assert min(total[name] for name in ("tp", "fp", "fn")) > 0
        task, records = Panoptic(max_objects=MAX_OBJECTS), []
        for example, of_image in zip(examples, every, strict=True):
            batch = task.arrays(STREET, example, SIZE)
            batch |= {"label": batch["label"].astype(int), "valid": batch["label"] != VOID}
            number = of_image.segments.number.astype(np.int32)
            decoded = Decoded(of_image.label, of_image.segments._replace(number=number))
            one = jax.tree.map(lambda x: np.asarray(x)[None], (decoded, batch))
            measured = jax.tree.map(lambda x: np.asarray(x)[0], task.measure(STREET, *one))
            records.append(task.record(STREET, measured))
        scores = task.scores(STREET, records)
        for name, values in expected.items():
            assert scores[name] == pytest.approx(np.nanmean(values))

    def test_numbers_are_those_of_the_data(self, written):
        source, predictions, _, _ = written
        found, objects = (
            json.loads((predictions / f"{name}.json").read_text()) for name in ("panoptic", "coco")
        )
        true = json.loads((source.root / source.test_json).read_text())
        assert found["images"] == objects["images"] == true["images"]
        assert found["categories"] == true["categories"]
        assert objects["categories"] == true["categories"][:1]
        assert [a["image_id"] for a in found["annotations"]] == [139, 785, 1000]
        things = {
            (a["image_id"], info["id"], info["area"], *info["bbox"])
            for a in found["annotations"]
            for info in a["segments_info"]
            if info["category_id"] == 3
        }
        assert things == {
            (a["image_id"], a["segment"], a["area"], *a["bbox"]) for a in objects["annotations"]
        }
        assert {a["category_id"] for a in objects["annotations"]} == {3}
