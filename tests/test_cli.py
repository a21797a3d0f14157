import dataclasses
import errno
import json
import shutil
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from seg_jax import cli
from seg_jax import load as load_run
from seg_jax.datasets import CocoInstances, Dancers, Folder, Nuclei
from seg_jax.datasets.coco.annotations import read_annotations
from seg_jax.datasets.images import read_mask
from seg_jax.errors import InputError
from seg_jax.models import UNet
from seg_jax.run import config
from seg_jax.run.workdir import Workdir
from seg_jax.tasks import Panoptic


def seg_jax(monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["seg-jax", *map(str, args)])
    cli.main()


def test_a_finished_run_holds_all_that_was_promised(finished_run):
    names = {path.name for path in finished_run.iterdir()}
    assert names >= {
        "checkpoints",
        "config.json",
        "environment.json",
        "evaluations",
        "metrics.jsonl",
        "report.html",
        "tensorboard",
    }
    names = {path.name for path in (finished_run / "evaluations" / "test").iterdir()}
    assert names == {"overlays", "per_image.csv", "predictions", "scores.json"}
    environment = json.loads((finished_run / "environment.json").read_text())
    assert environment["jax"]
    assert environment["seconds"] > 0


def test_running_again_says_that_it_is_finished(finished_run, tiny, capsys):
    before = (finished_run / "metrics.jsonl").read_bytes()
    cli.run_experiment(dataclasses.replace(tiny, workdir=finished_run))
    assert "is finished; test: Dice" in capsys.readouterr().out
    assert (finished_run / "metrics.jsonl").read_bytes() == before


def test_scores_alone_finish_no_run(finished_run, tiny, tmp_path, monkeypatch, capsys):
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    # As a kill before the evaluation leaves it.
    (workdir / "environment.json").unlink()
    shutil.rmtree(workdir / "evaluations")
    seg_jax(monkeypatch, "evaluate", workdir, "--part", "val")
    assert (workdir / "evaluations" / "val" / "scores.json").exists()
    assert "not finished, last heard of at step" in (workdir / "report.html").read_text()
    capsys.readouterr()
    cli.run_experiment(dataclasses.replace(tiny, workdir=workdir))
    assert "is finished" not in capsys.readouterr().out
    scores = workdir / "evaluations" / "test" / "scores.json"
    assert json.loads(scores.read_text())["part"] == "test"
    assert "finished in" in (workdir / "report.html").read_text()


def test_a_field_that_is_new_since_a_run_began_does_not_refuse_it(
    finished_run, tiny, tmp_path, capsys
):
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    kept = json.loads((workdir / "config.json").read_text())
    del kept["fields"]["cache"]
    (workdir / "config.json").write_text(json.dumps(kept))
    cli.run_experiment(dataclasses.replace(tiny, workdir=workdir))
    assert "is finished" in capsys.readouterr().out


def test_a_finished_run_takes_another_place_of_its_data(finished_run, tiny, tmp_path, monkeypatch):
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    moved = dataclasses.replace(tiny, workdir=workdir, cache=tmp_path / "elsewhere")
    cli.run_experiment(moved)
    assert Workdir(workdir).read()[0].cache == tmp_path / "elsewhere"

    nuclei = dataclasses.replace(tiny, data=Nuclei(raw=tmp_path), workdir=workdir)
    kept = json.dumps(config.kept(nuclei, nuclei.data.labels))
    (workdir / "config.json").write_text(kept)
    cli.run_experiment(dataclasses.replace(nuclei, data=Nuclei()))
    assert (workdir / "config.json").read_text() == kept  # there is nothing to read

    kept = config.kept(dataclasses.replace(tiny, data=Nuclei()), Nuclei().labels)
    (workdir / "config.json").write_text(json.dumps(kept))
    whose = r"--data\.raw isn't set\. .* \(a flag of the experiment's own command"
    with pytest.raises(SystemExit, match=whose):
        seg_jax(monkeypatch, "evaluate", workdir)


def test_a_broken_configuration_is_named(finished_run, tmp_path, monkeypatch):
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    (workdir / "config.json").write_text('{"class": ')
    with pytest.raises(SystemExit, match=r"error: .*config\.json isn't valid JSON"):
        seg_jax(monkeypatch, "evaluate", workdir)


@pytest.mark.parametrize("goes_on", [True, False])
def test_only_what_goes_on_says_so(goes_on):
    for stop in (KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")):
        with pytest.raises(SystemExit) as stopped, cli.plain_errors(goes_on=goes_on):
            raise stop
        assert ("same command goes on" in stopped.value.code) == goes_on


def test_a_workdir_of_another_configuration_is_refused(finished_run, tiny, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tiny.py", "--seed", "3", "--workdir", str(finished_run)])
    with pytest.raises(SystemExit, match=r"error: .* another configuration \(seed: 0, now 3\)"):
        cli.run(tiny)


def test_an_unknown_flag_is_named(tiny, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tiny.py", "--model.featurs", "3"])
    with pytest.raises(SystemExit) as stopped:
        cli.run(tiny)
    assert stopped.value.code == 2
    assert "--model.features" in capsys.readouterr().err


def test_errors_come_before_the_workdir(tiny, monkeypatch, tmp_path):
    workdir = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["tiny.py", "--batch-size", "0", "--workdir", str(workdir)])
    with pytest.raises(SystemExit, match="error: batch_size is 0"):
        cli.run(tiny)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": UNet(features=(4, 8), convs=(1, 2, 3))}, "model.convs has 3 entries"),
        ({"weights_from": Path("nowhere")}, "nowhere is no workdir"),
    ],
)
def test_a_net_that_cannot_begin_is_refused_before_data_are_read(changes, message, tiny, tmp_path):
    unread = Folder(path=tmp_path / "unread")
    experiment = dataclasses.replace(tiny, data=unread, workdir=tmp_path / "run", **changes)
    with pytest.raises(InputError, match=message):
        cli.run_experiment(experiment)
    assert not (tmp_path / "run").exists()


def test_predict(finished_run, tmp_path, monkeypatch, capsys):
    image = tmp_path / "a.png"
    Image.fromarray(np.zeros((9, 11, 3), np.uint8)).save(image)
    seg_jax(monkeypatch, "predict", finished_run, image, "--out", tmp_path / "out")
    assert "1 image" in capsys.readouterr().out
    assert read_mask(tmp_path / "out" / "predictions" / "a.png").shape == (9, 11)
    with pytest.raises(SystemExit, match="error: no image named"):
        seg_jax(monkeypatch, "predict", finished_run)


def test_predict_videos(finished_run, tmp_path, monkeypatch, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    for k in range(3):
        Image.fromarray(np.full((8, 10, 3), 90 * k, np.uint8)).save(frames / f"{k}.png")
    seg_jax(monkeypatch, "predict", finished_run, frames, "--video", 25, "--out", tmp_path)
    assert "3 image" in capsys.readouterr().out
    joined = tmp_path / "overlays" / "frames.mp4"
    seg_jax(monkeypatch, "predict", finished_run, joined, "--every", 2, "--out", tmp_path / "out")
    assert "2 image" in capsys.readouterr().out
    assert (tmp_path / "out" / "overlays" / "frames.mp4").exists()


def test_evaluate_and_report(finished_run, tmp_path, monkeypatch, capsys):
    seg_jax(monkeypatch, "evaluate", finished_run, "--scales", 1, 1.5)
    page = (finished_run / "report.html").read_text()
    assert "at 1 and 1.5 times the training size" in page
    with pytest.raises(SystemExit, match=r"error: test_scales is .*; name multiples .* above 0"):
        seg_jax(monkeypatch, "evaluate", finished_run, "--scales", 1, "nan")
    seg_jax(monkeypatch, "evaluate", finished_run)
    assert "Dice" in capsys.readouterr().out
    (finished_run / "report.html").unlink()
    seg_jax(monkeypatch, "report", finished_run)
    assert (finished_run / "report.html").exists()
    with pytest.raises(SystemExit, match="error: "):
        seg_jax(monkeypatch, "report", tmp_path / "nowhere")


def test_several_runs_are_an_ensemble(finished_run, tmp_path, monkeypatch, capsys):
    other = shutil.copytree(finished_run, tmp_path / "other")
    image = tmp_path / "a.png"
    Image.fromarray(np.zeros((9, 11, 3), np.uint8)).save(image)
    flags = ("--out", tmp_path / "out", "--probabilities", "npy")
    seg_jax(monkeypatch, "predict", finished_run, other, image, *flags)
    assert "1 image" in capsys.readouterr().out
    assert np.load(tmp_path / "out" / "probabilities" / "a.npy").shape == (9, 11, 1)
    seg_jax(monkeypatch, "evaluate", other, finished_run)
    assert "test, ensemble of other, tiny: Dice" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"error: .*a\.png is no workdir"):
        seg_jax(monkeypatch, "predict", image, finished_run)


def test_the_weights_of_a_step_are_chosen(finished_run, tmp_path, monkeypatch, capsys):
    kept = sorted(int(p.name) for p in (finished_run / "checkpoints" / "latest").iterdir())
    seg_jax(monkeypatch, "evaluate", finished_run, "--step", kept[0], "--part", "val")
    assert f"val, step {kept[0]}: Dice" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"no checkpoint of step 3 .*; --step can be .*, best or"):
        seg_jax(monkeypatch, "evaluate", finished_run, "--step", 3)


def test_tiles_are_square_where_one_number_is_given(finished_run, tmp_path, monkeypatch):
    image = tmp_path / "a.png"
    Image.fromarray(np.zeros((50, 70, 3), np.uint8)).save(image)
    for tile in ((16,), (16, 16)):
        seg_jax(monkeypatch, "predict", finished_run, image, "--tile", *tile, "--out", tmp_path)
        assert read_mask(tmp_path / "predictions" / "a.png").shape == (50, 70)
    for flags, message in (
        (("--tile", 1, 2, 3), "--tile has 3 numbers"),
        (("--tile", 16, "--scales", 2), ".*--scales has no meaning"),
        (("--tile", 16, "--overlap", 1), r"--overlap is 1\.0"),
    ):
        with pytest.raises(SystemExit, match=f"^error: {message}"):
            seg_jax(monkeypatch, "predict", finished_run, image, *flags)


def test_a_run_predicts_with_its_data_gone(tiny, tmp_path, monkeypatch):
    """COCO's classes stand in a file of the user's; a run keeps them."""
    coco = coco_folder(tmp_path / "coco")
    experiment = dataclasses.replace(
        tiny, data=CocoInstances(root=coco), epochs=1, workdir=tmp_path / "run"
    )
    cli.run_experiment(experiment)
    image = shutil.copy(coco / "train2017" / "a.png", tmp_path / "a.png")
    shutil.rmtree(coco)
    read_annotations.cache_clear()
    seg_jax(monkeypatch, "predict", tmp_path / "run", image, "--out", tmp_path / "out")
    assert read_mask(tmp_path / "out" / "predictions" / "a.png").shape == (24, 24)
    labels = load_run(tmp_path / "run").labels
    assert labels.classes == ("background", "cat", "dog")
    assert dict(labels.ids) == {"cat": 7, "dog": 9}


def coco_folder(root):
    """A tiny data set in COCO's format: a square of each of two categories in each image."""
    rng = np.random.default_rng(0)
    for part in ("train2017", "val2017"):
        images, annotations = [], []
        for number, name in enumerate("abcd", start=1):
            path = root / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)
            images.append({"id": number, "file_name": path.name, "height": 24, "width": 24})
            for category, left in ((7, 2), (9, 14)):
                square = [left, 4, left + 8, 4, left + 8, 12, left, 12]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category,
                        "segmentation": [square],
                        "area": 64,
                        "bbox": [left, 4, 8, 8],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        file = root / "annotations" / f"instances_{part}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    return root


def test_a_run_ends_well_without_git_and_without_an_installed_package(
    finished_run, tiny, tmp_path, monkeypatch
):
    def missing(*_):
        raise PackageNotFoundError

    monkeypatch.setenv("PATH", str(tmp_path))  # where no git is
    monkeypatch.setattr("seg_jax.run.environment.version", missing)
    workdir = shutil.copytree(finished_run, tmp_path / "run")
    (workdir / "environment.json").unlink()
    cli.run_experiment(dataclasses.replace(tiny, workdir=workdir))
    environment = json.loads((workdir / "environment.json").read_text())
    assert environment["git commit"] is None
    assert environment["jax"] is None
    assert environment["python"]
    assert "finished in" in (workdir / "report.html").read_text()


def test_an_error_among_several_hosts_says_where_to_look(monkeypatch):
    def fail():
        with cli.plain_errors():
            raise jax.errors.JaxRuntimeError("UNKNOWN: Gloo all-reduce failed")

    with pytest.raises(jax.errors.JaxRuntimeError) as alone:
        fail()
    assert not hasattr(alone.value, "__notes__")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(jax.errors.JaxRuntimeError) as among_several:
        fail()
    assert "If another host died, JAX names it below" in among_several.value.__notes__[0]


def test_weights_that_fit_nowhere_are_refused_before_data_are_read(finished_run, tiny, tmp_path):
    unlike = dataclasses.replace(
        tiny,
        data=Folder(path=tmp_path / "unread"),
        model=UNet(features=(3, 5)),  # of one output, too: the head's bias fits
        weights_from=finished_run,
        workdir=tmp_path / "run",
    )
    with pytest.raises(InputError, match=r"weights_from: .* name a run of a similar net"):
        cli.run_experiment(unlike)
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_be_read_leaves_no_workdir_behind(tiny, tmp_path):
    workdir = tmp_path / "run"
    nowhere = dataclasses.replace(tiny, data=Folder(path=tmp_path / "nowhere"), workdir=workdir)
    with pytest.raises(InputError, match="nowhere"):
        cli.run_experiment(nowhere)
    assert not workdir.exists()


def test_how_often_a_line_is_logged_is_no_other_configuration(finished_run, tiny, capsys):
    path = finished_run / "config.json"
    before = path.read_text()
    changed = json.loads(before)
    changed["fields"]["log_every"] = 77
    try:
        path.write_text(json.dumps(changed))
        cli.run_experiment(dataclasses.replace(tiny, workdir=finished_run))
    finally:
        path.write_text(before)
    assert "is finished" in capsys.readouterr().out


@dataclasses.dataclass(frozen=True)
class Crowded(Dancers):
    """Three people in a test picture, one in the others."""

    def read(self, part):
        people = (3, 3) if part == "test" else (1, 1)
        return Dancers(train=4, val=0, test=2, size=48, people=people).read(part)


def test_a_test_part_that_cannot_be_scored_is_refused_before_training(tiny, tmp_path):
    experiment = dataclasses.replace(
        tiny,
        data=Crowded(),
        task=Panoptic(max_objects=2),
        workdir=tmp_path / "run",
    )
    with pytest.raises(InputError, match=r"has 3 objects, but task\.max_objects is 2"):
        cli.run_experiment(experiment)
    assert not (tmp_path / "run").exists()
