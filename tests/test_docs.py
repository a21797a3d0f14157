"""The examples of the documentation run as they stand, outside the package."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
FEW = ("--data.train", "8", "--data.val", "4", "--data.test", "3", "--epochs", "1")
"""Flags that make an example short."""
SMALL = ("--model.features", "4", "8", "--size", "32", "32")
"""Flags that make its network quick to compile."""


def run(folder, *command):
    """Runs a command in a folder, on one CPU device; gives what it printed."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_blocks(page, folder):
    """Writes the Python blocks of a page that it calls "`NAME.py`", each to its file."""
    text = (ROOT / page).read_text("utf-8")
    for block in BLOCK.finditer(text):
        names = re.findall(r"`(\w+\.py)`", text[: block.start()].rpartition("```")[2])
        if names:
            (folder / names[-1]).write_text(block[1], "utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """The folder of a run with a data set and a task from outside the package."""
    folder = tmp_path_factory.mktemp("extended")
    write_blocks("docs/extend.md", folder)
    assert {p.name for p in folder.iterdir()} == {"discs.py", "distance.py", "mine.py", "parts.py"}
    run(folder, "mine.py", *FEW, *SMALL)
    return folder


def test_a_task_and_a_data_set_from_outside_are_trained_scored_and_reported(extended):
    workdir = extended / "runs" / "mine"
    config = json.loads((workdir / "config.json").read_text())
    assert config["fields"]["task"]["class"] == "distance.Distance"
    assert config["labels"]["fields"]["classes"] == ["disc"]
    scores = json.loads((workdir / "evaluations" / "test" / "scores.json").read_text())
    assert scores["best"] == "dice"
    assert scores["n"] == 3
    page = (workdir / "report.html").read_text("utf-8")
    assert "Dice" in page
    assert page.count("<img") == 3


def test_what_it_has_learnt_predicts_where_its_modules_are(extended):
    image = next((extended / "runs" / "mine" / "evaluations" / "test" / "overlays").glob("*.jpg"))
    code = "from seg_jax.cli import main; main()"
    run(extended, "-c", code, "predict", "runs/mine", str(image), "--out", "found")
    assert (extended / "found" / "predictions" / f"{image.stem}.png").exists()


def test_a_network_and_an_optimiser_from_outside_are_used(extended):
    changed = (extended / "mine.py").read_text().replace("UNet(features=(8, 16, 32))", "Plain()")
    changed = changed.replace("Muon()", "Sgd()").replace('"mine"', '"plain"')
    imports = "from parts import Plain, Sgd\n"
    (extended / "plain.py").write_text(changed.replace("from discs", imports + "from discs"))
    run(extended, "plain.py", *FEW)
    assert (extended / "runs" / "plain" / "report.html").exists()


def test_the_readmes_example_runs(tmp_path):
    write_blocks("README.md", tmp_path)
    assert "test: Dice" in run(tmp_path, "mine.py", *FEW, *SMALL)
