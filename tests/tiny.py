"""The smallest experiment that goes all the way; also run as a process: python tests/tiny.py …"""

import os
import subprocess
import sys
from pathlib import Path

from seg_jax import cli
from seg_jax.datasets import Nevi
from seg_jax.losses import Loss
from seg_jax.models import UNet
from seg_jax.optimiser import AdamW
from seg_jax.parallel import Parallel
from seg_jax.run.checkpoint import Checkpoints
from seg_jax.run.config import Experiment
from seg_jax.run.load import abstract_state
from seg_jax.run.log import read_metrics
from seg_jax.step import TrainState
from seg_jax.tasks import Semantic

TINY = Experiment(
    name="tiny",
    model=UNet(features=(4, 8)),
    data=Nevi(train=8, val=4, test=3, size=40),
    size=(16, 24),
    epochs=4,
    batch_size=4,
    task=Semantic(Loss(cross_entropy=1.0, dice=1.0)),
    optimiser=AdamW(learning_rate=1e-2),
    ema_decay=0.5,
    evaluate_every=2,
    log_every=1,
    parallel=Parallel(devices=1),
)


def start(workdir: Path, *flags: str, devices: int = 1) -> subprocess.Popen:
    """Runs TINY in a process that sees so many CPU devices; its output goes to WORKDIR.log."""
    many = f"--xla_force_host_platform_device_count={devices}"
    others = [f for f in os.environ.get("XLA_FLAGS", "").split() if "device_count" not in f]
    command = [sys.executable, __file__, "--workdir", str(workdir), *flags]
    with open(f"{workdir}.log", "ab") as log:
        return subprocess.Popen(
            command,
            env=os.environ | {"XLA_FLAGS": " ".join([many, *others])},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


MEASURED = ("images_per_second", "data_wait", "seconds")
"""What differs between two runs of one experiment."""


def state_of(experiment: Experiment, workdir: Path) -> TrainState:
    """The newest state that a run saved."""
    checkpoints = Checkpoints(workdir)
    state = checkpoints.resume(abstract_state(experiment, experiment.data.labels))
    checkpoints.close()
    return state


def lines_of(workdir: Path) -> list[dict]:
    """A run's log, without what is measured."""
    return [
        {name: value for name, value in line.items() if name not in MEASURED}
        for line in read_metrics(workdir / "metrics.jsonl")
    ]


if __name__ == "__main__":
    cli.run(TINY)
