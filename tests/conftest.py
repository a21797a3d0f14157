"""Tests see eight virtual CPU devices and keep compiled programs between runs."""

import dataclasses
import os
import pathlib

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    # Nets this small take longer to compile than to run.
    + " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".jax_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ["MPLBACKEND"] = "agg"

import numpy as np
import pytest
from tiny import TINY

from seg_jax import cli
from seg_jax.pipeline.batches import Examples
from seg_jax.run.config import Experiment


@pytest.fixture(scope="session")
def tiny() -> Experiment:
    """An experiment of seconds."""
    return TINY


@pytest.fixture(scope="session")
def blobs() -> Examples:
    """Eight 16×16 images whose bright rectangle is the foreground."""
    rng = np.random.default_rng(0)
    label = np.zeros((8, 16, 16), np.uint8)
    for k in range(8):
        top, left = rng.integers(1, 6, 2)
        label[k, top : top + 8, left : left + 5 + k % 3] = 1
    noise = rng.integers(0, 60, (8, 16, 16, 3))
    image = np.clip(label[..., None] * 120 + 40 + noise, 0, 255).astype(np.uint8)
    return Examples(tuple("abcdefgh"), {"image": image, "label": label})


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> pathlib.Path:
    """The workdir of a tiny run that trained, evaluated and reported; not to be changed."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    cli.run_experiment(dataclasses.replace(TINY, workdir=workdir))
    return workdir
