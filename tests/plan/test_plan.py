import dataclasses
import importlib.util
import json
import sys

import jax
import pytest
from jax.sharding import Mesh

from seg_jax import cli
from seg_jax.datasets import Dancers
from seg_jax.errors import InputError
from seg_jax.models import UNet
from seg_jax.plan import cost, plan
from seg_jax.plan.cost import Cost, TooLarge
from seg_jax.plan.plan import Chip
from seg_jax.run.config import Experiment
from seg_jax.tasks import Pose

EIGHT = {"batch_size": 8}


def cells(table, name):
    """What stands in a row of a plan."""
    line = next(line for line in table.splitlines() if line.strip().startswith(name))
    return line.split(name)[1].split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture(scope="module")
def table(tiny, folder):
    return plan.plan(dataclasses.replace(tiny, **EIGHT), folder=folder)


def test_the_step_of_eight_devices_is_sized(tiny, table):
    variables = jax.eval_shape(
        lambda: tiny.model.init(jax.random.key(0), jax.numpy.zeros((1, 16, 24, 3)), train=False)
    )
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert f"UNet in float32, {count:,} parameters" in table
    assert "16×24, batch 8 on 8 × cpu (this machine)" in table
    # Gradients, BatchNorm's sums and some scalars: a little more than 4 bytes a parameter.
    amount, unit = cells(table, "summed over devices a step")[:2]
    assert unit == "kB"
    assert 1 <= float(amount) * 1e3 / (4 * count) < 2
    assert float(cells(table, "operations an image")[0]) > 0
    assert "roofline" not in table  # nobody publishes a peak of these
    assert "largest batch" not in table


def test_what_was_compiled_is_not_compiled_again(tiny, table, folder, monkeypatch, capfd):
    monkeypatch.setattr(cost, "_compile", None)
    assert plan.plan(dataclasses.replace(tiny, **EIGHT), folder=folder) == table
    assert "compiling" not in capfd.readouterr().err


def test_images_cut_over_devices_pass_on_their_edges(tiny, folder, capfd):
    table = plan.plan(dataclasses.replace(tiny, **EIGHT), space=2, folder=folder)
    assert float(cells(table, "passed between devices a step")[0]) > 0
    assert "8 × cpu (this machine), 2 an image" in table
    assert "compiling for 8 × cpu, batch 8, rematerialised …" in capfd.readouterr().err


def test_a_batch_that_the_devices_do_not_divide_is_refused(tiny, folder):
    with pytest.raises(InputError, match="batch_size is 4, which 8 devices"):
        plan.plan(tiny, folder=folder)


KIND = jax.devices()[0].device_kind


def costs_of(needed, limit):
    """Stands in for the compiler: a step needs a fixed part and a part an image."""

    def cost_of(experiment, mesh, *, topology, folder):
        bytes_needed = needed(experiment.batch_size // mesh.shape["data"])
        if bytes_needed > limit:
            raise TooLarge(f"needs {bytes_needed}")
        return Cost(1e9, 1e9, 10, int(bytes_needed), int(bytes_needed), 4, 0)

    return cost_of


LINES = {"straight": (500, 150), "bent": (3000, 110)}
"""Bytes at first, and bytes an image; the bent one grows faster up to ten images."""


@pytest.mark.parametrize("start", [8, 64, 800])
@pytest.mark.parametrize("line", LINES)
def test_the_largest_batch_that_fits_is_found(tiny, folder, monkeypatch, start, line):
    fixed, each = LINES[line]

    def needed(images):
        return fixed + each * images - (line == "bent") * 250 * max(0, 10 - images)

    limit = 9_600
    monkeypatch.setitem(plan.CHIPS, KIND, Chip(1e12, 1e11, 10_000))
    monkeypatch.setattr(plan, "cost_of", costs_of(needed, limit))
    mesh = plan.mesh_of(None, 1)
    experiment = dataclasses.replace(tiny, batch_size=start)
    best = plan.largest_batch(experiment, mesh, topology=None, folder=folder)
    assert best % 8 == 0
    largest = (limit - fixed) // each  # 60
    assert largest * 7 / 8 <= best // 8 <= largest


def test_where_one_image_or_none_fits_that_is_the_answer(tiny, folder, monkeypatch):
    monkeypatch.setitem(plan.CHIPS, KIND, Chip(1e12, 1e11, 10_000))
    mesh = plan.mesh_of(None, 1)
    for limit, wanted in ((700, 8), (600, None)):
        monkeypatch.setattr(plan, "cost_of", costs_of(lambda images: 500 + 150 * images, limit))
        for start in (8, 64):
            experiment = dataclasses.replace(tiny, batch_size=start)
            assert plan.largest_batch(experiment, mesh, topology=None, folder=folder) == wanted


def test_what_does_not_fit_is_said_in_words(tiny, folder, monkeypatch):
    monkeypatch.setitem(plan.CHIPS, KIND, Chip(1e12, 1e11, 10_000))
    monkeypatch.setattr(plan, "cost_of", costs_of(lambda images: 600 * images, 500))
    table = plan.plan(dataclasses.replace(tiny, **EIGHT), folder=folder)
    assert "doesn't fit" in table
    assert "needs 600" in table
    assert table.count("none") == 2


def test_a_published_peak_gives_a_roofline(tiny, folder, table, monkeypatch):
    monkeypatch.setitem(plan.CHIPS, KIND, Chip(1e12, 1e30, 2**40))
    found = plan.plan(dataclasses.replace(tiny, **EIGHT), folder=folder, search=False)
    assert "(arithmetic)" in found
    operations, unit = cells(found, "operations an image")[:2]
    assert unit == "MFLOP"
    seconds = 8 * float(operations) * 1e6 / 8 / 1e12
    images = float(cells(found, "images a second at most")[0].replace(",", ""))
    assert images == pytest.approx(8 / seconds, rel=0.01)


def test_the_command(finished_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = ["seg-jax", "plan", str(finished_run), "--batch-size", "16", "--size", "8", "8"]
    monkeypatch.setattr(sys, "argv", command)
    cli.main()
    assert "8×8, batch 16 on 8 × cpu" in capsys.readouterr().out
    kept = list((tmp_path / "seg_jax").iterdir())
    assert len(kept) == 2
    assert json.loads(kept[0].read_text())["flops"] > 0


def test_a_slice_needs_the_compiler(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'seg_jax\[tpu\]'"):
        plan.mesh_of("v5e:2x2", 1)


def test_a_slice_that_is_not_there_is_refused(monkeypatch):
    def described(platform, topology_name):
        if topology_name != "v5e:4x2":
            raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: Invalid TPU external name: TPU v9")
        return type("Topology", (), {"devices": jax.devices()})

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(plan.topologies, "get_topology_desc", described)
    with pytest.raises(InputError, match=r"--topology v9:1: Invalid TPU .*; write it as v5e:2x2"):
        plan.mesh_of("v9:1", 1)
    with pytest.raises(InputError, match="--space 3 doesn't divide the 8 devices"):
        plan.mesh_of("v5e:4x2", 3)
    mesh = plan.mesh_of("v5e:4x2", 2)
    assert isinstance(mesh, Mesh)
    assert mesh.shape == {"data": 4, "space": 2}


def test_a_step_about_few_people_is_sized(folder):
    data = Dancers(train=1, val=0, test=1, size=32)
    experiment = Experiment(
        name="few",
        model=UNet(features=(4,)),
        data=data,
        task=Pose(max_people=1),
        size=(16, 16),
        batch_size=8,
    )
    assert "UNet in float32" in plan.plan(experiment, folder=folder)
