"""The layers of the package: what lies lower imports nothing from what lies higher."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "seg_jax"

LAYERS = (
    ("errors",),
    ("files", "labels", "found", "resize"),
    ("values", "metrics"),
    ("models", "losses", "datasets", "optimiser"),
    ("pipeline", "export"),
    ("step",),
    ("tasks",),
    ("parallel",),
    ("inference",),
    ("run",),
    ("report", "plan"),
    ("cli",),
)
"""From the ground up: modules and packages; those of one layer don't import each other."""

LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}


def imports_of(path):
    """Names directly below seg_jax that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            parts = node.module.split(".")
            if parts == ["seg_jax"]:
                names |= {alias.name for alias in node.names}
            elif parts[0] == "seg_jax":
                names.add(parts[1])
        elif isinstance(node, ast.Import):
            of_ours = (alias.name.split(".") for alias in node.names)
            names |= {parts[1] for parts in of_ours if parts[0] == "seg_jax" and len(parts) > 1}
    return names


def test_every_module_has_its_layer():
    names = {p.stem for p in PACKAGE.glob("*.py")} | {p.parent.name for p in PACKAGE.glob("*/*.py")}
    assert names - {"__init__", "seg_jax"} == set(LAYER_OF)


@pytest.mark.parametrize("name", [name for names in LAYERS for name in names])
def test_a_module_imports_only_what_lies_below_it(name):
    folder = PACKAGE / name
    files = folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]
    for path in files:
        for other in imports_of(path) - {name}:
            assert LAYER_OF[other] < LAYER_OF[name], f"{path} imports seg_jax.{other}"


def loaded_by(statement):
    """Names of the modules that a statement loads in a process of its own."""
    code = f"{statement}\nimport sys\nprint(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


HEAVY = {"matplotlib", "tensorflow_datasets", "tensorboardX", "torch", "cv2"}


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import seg_jax", HEAVY | {"jax", "flax", "orbax.checkpoint", "scipy", "PIL"}),
        ("import seg_jax.labels, seg_jax.found", HEAVY | {"flax", "orbax.checkpoint"}),
        ("import seg_jax.losses, seg_jax.models", HEAVY | {"orbax.checkpoint", "seg_jax.datasets"}),
        ("import seg_jax.tasks, seg_jax.inference.predictor", HEAVY | {"orbax.checkpoint"}),
        ("import seg_jax; seg_jax.load", HEAVY),
        ("import seg_jax.cli", HEAVY),
    ],
)
def test_imports_are_light(statement, heavy):
    assert not loaded_by(statement) & heavy
