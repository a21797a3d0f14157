from pathlib import Path

import numpy as np
import pytest
import scipy.io
from copies import lsp

from seg_jax.datasets.lsp import IDS, Lsp, part_ids
from seg_jax.datasets.lsp.splits import make_split
from seg_jax.datasets.skeletons import LSP_SKELETON
from seg_jax.errors import InputError
from seg_jax.labels import Labels


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    root = tmp_path_factory.mktemp("extended") / "lspet_dataset"
    return lsp.write(root, lsp.extended_joints(), IDS)


def refused(raw, part="train"):
    with pytest.raises(InputError) as caught:
        list(Lsp(raw=raw).read(part))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("above", [False, True])
def test_reads_the_extended_set(extended, above):
    source = Lsp(raw=extended.parent if above else extended)
    assert source.labels == Labels(skeleton=LSP_SKELETON)
    for part in ("train", "val", "test"):
        examples = list(source.read(part))
        assert [e.id for e in examples] == part_ids(part)
        for e in examples:
            assert e.image.shape == (lsp.HEIGHT, lsp.WIDTH, source.channels)
            assert e.label.dtype == np.uint8
            assert e.label.shape == (lsp.HEIGHT, lsp.WIDTH)
            assert not e.label.any()
            assert e.instance is None
            assert e.joints.dtype == e.area.dtype == np.float32
            assert e.joints.shape == (1, 14, 3)
            assert e.joints[0, 0].tolist() == [1, 2, 2]
            assert e.joints[0, 2].tolist() == [0, 0, 0]
            assert (np.delete(e.joints[0, :, 2], 2) == 2).all()
            assert e.joints[0, 13, 0] == pytest.approx((int(e.id[2:]) - 1) / 100 + 1)
            assert e.area == pytest.approx([0.53 * 4 * 5])


def test_joints_outside_the_image_are_unlabelled(tmp_path):
    joints = lsp.extended_joints()
    # Matlab's 0.5 to 12.5 are the image's edges.
    joints[:4, :2, 0] = [(0.5, 9.5), (12.5, 0.5), (12.6, 5), (5, 0.4)]
    joints[:4, 2, 0] = 1
    example = next(
        e
        for part in ("train", "val", "test")
        for e in Lsp(raw=lsp.write(tmp_path / "lsp", joints, IDS)).read(part)
        if e.id == "im00001"
    )
    assert example.joints[0, :4].tolist() == [[-0.5, 8.5, 2], [11.5, -0.5, 2], [0] * 3, [0] * 3]
    assert example.area == pytest.approx([0.53 * 12 * 9])


def test_one_labelled_joint_has_an_area(tmp_path):
    joints = lsp.extended_joints()
    joints[1:, 2] = 0
    example = next(Lsp(raw=lsp.write(tmp_path / "lsp", joints, IDS)).read("test"))
    assert example.area.tolist() == [1]
    joints[:, 2] = 0
    scipy.io.savemat(tmp_path / "lsp/joints.mat", {"joints": joints})
    example = next(Lsp(raw=tmp_path).read("test"))
    assert example.area.tolist() == [1]
    assert not example.joints.any()


def test_reads_the_original_set(tmp_path):
    joints = np.zeros((3, 14, 2000))
    joints[:2] = 5
    joints[0, :, 1500] = 7
    joints[2, 3, 1500] = 1
    root = lsp.write(tmp_path / "lsp_dataset", joints, [f"im{n:04d}" for n in range(1001, 2001)])
    source = Lsp(raw=tmp_path)
    ids = part_ids("test", extended=False)
    assert (ids[0], ids[-1], len(ids)) == ("im1001", "im2000", 1000)
    assert part_ids("train", extended=False)[::999] == ["im0001", "im1000"]
    assert list(source.read("val")) == []
    example = next(e for e in source.read("test") if e.id == "im1501")
    assert example.joints[0, :, 0].tolist() == [6] * 14
    assert example.joints[0, :, 2].tolist() == [2, 2, 2, 1] + [2] * 10
    assert f"{root}: 1000 of train's 1000 images are missing" in refused(root)


def test_without_data_says_what_to_fetch(tmp_path):
    for message in (refused(None), refused(tmp_path), refused(tmp_path / "nowhere")):
        assert "lspet_dataset.zip" in message
        assert "--data.raw PATH" in message


def test_names_missing_images(tmp_path):
    root = lsp.write(tmp_path / "lsp", lsp.extended_joints(), IDS)
    first, second = part_ids("val")[:2]
    (root / f"images/{second}.jpg").unlink()
    assert f"1 of val's 20 images are missing from images/ or joints.mat: {second}." in refused(
        root, "val"
    )
    last = int(part_ids("val")[-1][2:])
    scipy.io.savemat(root / "joints.mat", {"joints": lsp.extended_joints()[..., : last - 1]})
    assert f"joints.mat: {second}, im{last:05d}." in refused(root, "val")
    (root / f"images/{first}.jpg").write_bytes(b"cut")
    lsp.write(tmp_path / "new", lsp.extended_joints(), IDS)
    (tmp_path / f"new/images/{first}.jpg").write_bytes(b"cut")
    assert f"{first}.jpg: not an image" in refused(tmp_path / "new", "val")


def test_names_a_broken_table(tmp_path):
    root = lsp.write(tmp_path / "lsp", np.zeros((14, 2, 300)), [])
    assert "joints.mat: joints has the shape (14, 2, 300), but" in refused(root)
    scipy.io.savemat(root / "joints.mat", {"points": np.zeros(3)})
    assert "joints.mat: can't be read ('joints')" in refused(root)
    data = (root / "joints.mat").read_bytes()
    (root / "joints.mat").write_bytes(data[:100])
    assert "joints.mat: can't be read" in refused(root)
    (root / "joints.mat").write_bytes(b"no Matlab file at all")
    assert "joints.mat: can't be read" in refused(root)


def test_parts_are_disjoint_and_complete():
    parts = [part_ids(part) for part in ("train", "val", "test")]
    assert [len(ids) for ids in parts] == [200, 20, 80]
    assert sorted(name for ids in parts for name in ids) == list(IDS)


def test_list_is_written_as_committed(tmp_path):
    make_split.main(tmp_path)
    committed = Path(make_split.__file__).parent / "split.csv"
    assert (tmp_path / "split.csv").read_bytes() == committed.read_bytes()
