"""What every data set promises: what `Source`, `Labels` and `Example` say."""

import dataclasses
import inspect
import json
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest
from copies import coco, folder, lsp, mads, nuclei, ph2

import seg_jax.datasets
from seg_jax.datasets import (
    VOID,
    CocoPanoptic,
    Dancers,
    Example,
    Folder,
    Labels,
    Lsp,
    Mads,
    Nevi,
    Nuclei,
    Part,
    Ph2,
    Source,
)
from seg_jax.datasets.lsp import IDS
from seg_jax.values import from_json, to_json

PARTS = get_args(Part)


def _ph2(root):
    return Ph2(split="ordered", raw=ph2.write(root / "raw"), data_dir=root)


def _mads(root):
    return Mads(raw=mads.write(root / "raw", mads.IDS[::40]), data_dir=root, partial=True)


def _lsp(root):
    return Lsp(raw=lsp.write(root / "lsp", lsp.extended_joints(), IDS))


def _folder_of_classes(root):
    masks = {name: [1, 2, 255] for name in "abcdefghij"}
    return Folder(folder.write_folder(root, **masks), classes=("x", "y", "z"))


def _folder_of_objects(root):
    masks = {name: [4, 7, 0, 7, 255] for name in "abcde"}
    return Folder(folder.write_folder(root, **masks), instances=True, void=255, channels=1)


def _instances(root):
    dog, sky, crowd = coco.box(0, 0, 9, 9), coco.box(3, 3, 6, 20), coco.box(0, 0, 20, 12)
    found = [
        coco.instance(coco.runs(dog)),
        coco.instance(coco.runs(sky), category_id=3),
        coco.instance(coco.runs(crowd), iscrowd=1),
    ]
    return coco.write(root, "instances", found)


def _panoptic(root):
    coco.write_panoptic(root)
    file = "annotations/panoptic_val2017.json"
    return CocoPanoptic(root, train_images="val2017", train_json=file, val=0.4)


def _keypoints(root):
    people = (
        coco.person(coco.box(0, 0, 9, 9), (3, 4, 2), (5, 6, 1)),
        coco.person(coco.box(2, 2, 4, 5), (2.5, 3, 2)),
        coco.person(coco.box(10, 10, 20, 20)),
    )
    return coco.write_people(root, *people)


SOURCES = {
    "ph2": _ph2,
    "mads": _mads,
    "nevi": lambda root: Nevi(train=3, val=0, test=2, size=32),
    "dancers": lambda root: Dancers(train=3, val=1, test=2, size=48),
    "nuclei": lambda root: Nuclei(raw=nuclei.write(root / "nuclei")),
    "nuclei_with_borders": lambda root: Nuclei(raw=nuclei.write(root / "nuclei"), borders=True),
    "lsp": _lsp,
    "folder": lambda root: Folder(folder.write_folder(root, a=[1], b=[], c=[1, 1])),
    "folder_of_classes": _folder_of_classes,
    "folder_of_objects": _folder_of_objects,
    "instances": _instances,
    "panoptic": _panoptic,
    "keypoints": _keypoints,
}


@pytest.fixture(scope="module", params=SOURCES)
def source(request, tmp_path_factory) -> Source:
    return SOURCES[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def examples(source) -> dict[Part, list[Example]]:
    return {part: list(source.read(part)) for part in PARTS}


@pytest.fixture(scope="module")
def all_examples(examples) -> list[Example]:
    return [example for found in examples.values() for example in found]


def kept(value):
    """The value as config.json keeps it."""
    return from_json(json.loads(json.dumps(to_json(value))))


def test_every_data_set_is_tested_here(tmp_path):
    exported = [getattr(seg_jax.datasets, name) for name in seg_jax.datasets.__all__]
    sources = {each for each in exported if inspect.isclass(each) and issubclass(each, Source)}
    tested = {type(make(tmp_path / name)) for name, make in SOURCES.items()}
    assert tested == sources - {Source}


def test_is_a_frozen_dataclass(source):
    assert isinstance(source, Source)
    assert "__dataclass_fields__" in vars(type(source))
    assert kept(source) == source
    assert hash(kept(source)) == hash(source)
    for field in dataclasses.fields(source):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(source, field.name, None)


def test_labels_are_a_value(source):
    labels = source.labels
    assert type(labels) is Labels
    for copy in (source.labels, kept(labels)):
        assert copy == labels
        assert hash(copy) == hash(labels)


def test_labels_fit_together(source):
    labels = source.labels
    assert labels.classes or labels.skeleton
    assert len(set(labels.classes)) == len(labels.classes) == len(labels.segments)
    assert set(labels.things) <= set(labels.categories)
    ids = dict(labels.ids)
    assert len(ids) == len(set(ids.values())) == len(labels.ids)
    assert not ids or set(labels.categories) <= set(ids)


def test_images_and_labels(source, all_examples):
    labels = source.labels
    known = {*range(2 if labels.binary else max(1, len(labels.classes))), VOID}
    for example in all_examples:
        height, width, channels = example.image.shape
        assert channels == source.channels
        assert example.image.dtype == example.label.dtype == np.uint8
        assert example.label.shape == (height, width)
        assert set(np.unique(example.label).tolist()) <= known
    assert not labels.classes or any(example.label.any() for example in all_examples)


def test_objects_are_things(source, all_examples):
    labels = source.labels
    if not labels.things:
        assert all(example.instance is None for example in all_examples)
        return
    category_of = np.zeros(VOID + 1, int)
    category_of[: len(labels.category_of_class)] = labels.category_of_class
    for example in all_examples:
        assert example.instance.dtype == np.uint16
        assert example.instance.shape == example.label.shape
        categories = category_of[example.label[example.instance > 0]]
        assert set(categories.tolist()) <= set(labels.thing_categories)
    assert any(example.instance.any() for example in all_examples)


def test_people_have_joints_and_areas(source, all_examples):
    skeleton = source.labels.skeleton
    if skeleton is None:
        assert all(example.joints is example.area is None for example in all_examples)
        return
    for example in all_examples:
        people = len(example.joints)
        assert example.joints.dtype == example.area.dtype == np.float32
        assert example.joints.shape == (people, len(skeleton.joints), 3)
        assert set(np.unique(example.joints[..., 2]).tolist()) <= {0, 1, 2}
        assert example.area.shape == (people,)
        assert (example.area > 0).all()
    assert any(len(example.joints) for example in all_examples)


def test_groups(source, all_examples):
    for example in all_examples:
        assert type(example.group) is str
        assert bool(example.group) == isinstance(source, Ph2 | Mads)


def test_ids_are_unique_in_a_part(examples):
    for part, found in examples.items():
        ids = [example.id for example in found]
        assert all(type(each) is str and each for each in ids)
        assert len(set(ids)) == len(ids)
        assert ids or part == "val"


def test_every_reading_gives_the_same(source, examples):
    for part in PARTS:
        reading = source.read(part)
        assert isinstance(reading, Iterator)
        for again, first in zip(reading, examples[part], strict=True):
            assert (again.id, again.group) == (first.id, first.group)
            for one, other in zip(again[1:6], first[1:6], strict=True):
                np.testing.assert_array_equal(one, other)


def test_image_entries_are_of_images_that_are_read(source, examples):
    for part in PARTS:
        entries = source.image_entries(part)
        assert set(entries) <= {example.id for example in examples[part]}
        assert all(entry.keys() == {"id", "file_name"} for entry in entries.values())
        assert len({entry["id"] for entry in entries.values()}) == len(entries)
