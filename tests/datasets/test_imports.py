import subprocess
import sys

import pytest

HEAVY = ("tensorflow_datasets", "matplotlib", "orbax", "tensorboardX", "scipy", "jax")


def run(code):
    """Runs code in a fresh interpreter; returns what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("seg_jax.datasets", HEAVY),
        ("seg_jax.losses", ("tensorflow_datasets",)),
        ("seg_jax.models", ("tensorflow_datasets",)),
    ],
)
def test_nothing_heavy_is_imported(module, heavy):
    loaded = run(f"import {module}, sys; print(*sys.modules)").split()
    assert module in loaded
    assert not set(loaded) & set(heavy)


def test_importing_the_builders_makes_tfds_know_them():
    code = """
import sys
import seg_jax.datasets.builders
import tensorflow_datasets as tfds
print(*(tfds.builder_cls(name).__module__ for name in ("ph2", "mads", "nevi")))
assert "tensorflow" not in sys.modules
"""
    names = ("ph2", "mads", "nevi")
    expected = [f"seg_jax.datasets.{name}.{name}_dataset_builder" for name in names]
    assert run(code).split() == expected
