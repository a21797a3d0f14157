"""The command line: `seg-jax predict | evaluate | report`, and what an experiment file runs."""

import contextlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import jax
import tyro

from seg_jax import config, evaluate, input, predict, report, train
from seg_jax.config import Experiment
from seg_jax.datasets.source import Part
from seg_jax.errors import InputError
from seg_jax.parallel import local_devices

IRRELEVANT = ("workdir", "devices", "log_every", "data.raw", "data.data_dir")
"""Fields that may change between a run and its resumption."""


def run(default: Experiment) -> None:
    """Runs an experiment file: reads its flags, trains, evaluates, predicts and reports.

    A run that was stopped goes on from its newest checkpoint; a finished one says so.
    """
    with plain_errors():
        description = sys.modules["__main__"].__doc__
        experiment = tyro.cli(Experiment, default=default, description=description)
        run_experiment(experiment)


def main() -> None:
    """The console script `seg-jax`."""
    commands = {"predict": predict_command, "evaluate": evaluate_command, "report": report_command}
    with plain_errors():
        tyro.extras.subcommand_cli_from_dict(
            commands, prog="seg-jax", description="Uses the network of a finished run."
        )


def predict_command(
    workdir: tyro.conf.Positional[Path],
    images: tyro.conf.Positional[tuple[Path, ...]],
    /,
    out: Path = Path("predictions"),
) -> None:
    """Predicts masks at the images' own sizes, and overlays.

    Args:
      workdir: Folder of a run.
      images: Image files, or folders of them.
      out: Folder for predictions/NAME.png and overlays/NAME.jpg.
    """
    if not images:
        raise InputError("no image named; name image files or folders after the workdir")
    count = predict.predict_files(workdir, images, out)
    print(f"{count} masks in {out / 'predictions'}, overlays in {out / 'overlays'}")


def evaluate_command(workdir: tyro.conf.Positional[Path], /, part: Part = "test") -> None:
    """Scores a run's network again and writes its scores, predictions and report.

    Args:
      workdir: Folder of a run.
      part: Part of the run's data set.
    """
    print(evaluate.in_words(evaluate.evaluate(workdir, part)))
    print(f"report: {report.write_report(workdir)}")


def report_command(workdir: tyro.conf.Positional[Path], /) -> None:
    """Writes a run's report again.

    Args:
      workdir: Folder of a run.
    """
    print(f"report: {report.write_report(workdir)}")


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Shows what the user can mend as one message, without a traceback."""
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from the newest checkpoint")


def run_experiment(experiment: Experiment) -> None:
    """Trains, evaluates, predicts and reports, or goes on where that stopped."""
    workdir, data = experiment.folder, experiment.data
    config.check(experiment, devices=len(local_devices(experiment.devices)))
    _refuse_another(workdir, experiment)
    if (workdir / "scores.json").exists():
        scores = json.loads((workdir / "scores.json").read_text())
        print(f"{workdir} is finished: {evaluate.in_words(scores)}")
        print(f"report: {workdir / 'report.html'}")
        return
    boundary = experiment.loss.boundary > 0
    examples, validation = (
        input.load(data, part, experiment.size, boundary_weights=boundary)
        for part in ("train", "val")
    )
    workdir.mkdir(parents=True, exist_ok=True)
    kept = json.dumps(config.to_json(experiment), indent=2)
    (workdir / "config.json").write_text(kept + "\n")
    start = time.time()
    train.train(experiment, examples, validation, workdir)
    _write_environment(workdir, seconds=time.time() - start)
    scores = evaluate.evaluate(workdir)
    path = report.write_report(workdir)
    print(f"test: {evaluate.in_words(scores)} on {scores['n']} images")
    print(f"report: {path}")


def _refuse_another(workdir: Path, experiment: Experiment) -> None:
    """Refuses a workdir that is another experiment's."""
    path = workdir / "config.json"
    if not path.exists():
        return
    found = config.differences(json.loads(path.read_text()), config.to_json(experiment))
    changed = [f"{k}: {old}, now {new}" for k, (old, new) in found.items() if k not in IRRELEVANT]
    if changed:
        raise InputError(
            f"{workdir} holds a run of another configuration ({'; '.join(changed)}); "
            "name another --workdir, or delete it"
        )


def _write_environment(workdir: Path, *, seconds: float) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    devices = jax.local_devices()
    environment = {
        "command": shlex.join(["python", *sys.argv]),
        "seconds": round(seconds, 1),
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
        "git commit": commit.stdout.strip() or None,
        "device": f"{len(devices)} × {devices[0].device_kind}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    } | {name: version(name) for name in ("seg_jax", "jax", "flax", "optax", "orbax-checkpoint")}
    (workdir / "environment.json").write_text(json.dumps(environment, indent=2) + "\n")
