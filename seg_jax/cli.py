"""The command line: `seg-jax predict | evaluate | report | plan`, and an experiment file's."""

import contextlib
import dataclasses
import errno
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import tyro
from jax.sharding import Mesh

from seg_jax import parallel
from seg_jax.datasets.source import Part
from seg_jax.errors import InputError
from seg_jax.files import read_json, write_json
from seg_jax.inference import evaluate, predict
from seg_jax.pipeline import batches as input
from seg_jax.plan import plan
from seg_jax.report import page as report
from seg_jax.run import config, train
from seg_jax.run.config import Experiment
from seg_jax.run.log import read_metrics
from seg_jax.step import fitting

PREEMPTED = 75
"""Exit code of a run that saved and stopped at SIGTERM: to be started again (EX_TEMPFAIL)."""


def run(default: Experiment) -> None:
    """Runs an experiment file: reads its flags, trains, evaluates, predicts and reports.

    A run that was stopped goes on from its newest checkpoint; a finished one says so. Several hosts
    run the same command.
    """
    with plain_errors(goes_on=True):
        description = sys.modules["__main__"].__doc__
        experiment = tyro.cli(Experiment, default=default, description=description)
        parallel.connect(experiment.parallel)
        run_experiment(experiment)


def main() -> None:
    """The console script `seg-jax`."""
    commands = {
        "predict": predict_command,
        "evaluate": evaluate_command,
        "report": report_command,
        "plan": plan_command,
    }
    with plain_errors():
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="seg-jax",
            description="Uses the network of a finished run, or plans one.",
        )


def predict_command(
    workdir: tyro.conf.Positional[Path],
    images: tyro.conf.Positional[tuple[Path, ...]],
    /,
    out: Path = Path("predictions"),
    every: int = 1,
    video: float | None = None,
    scales: tuple[float, ...] | None = None,
) -> None:
    """Predicts masks at the images' own sizes, and overlays; of a video, those of its frames.

    Args:
      workdir: Folder of a run.
      images: Image files, folders of them, or videos (mp4, avi, mov, mkv, webm).
      out: Folder for predictions/NAME.png and overlays/NAME.jpg; a video's are
        predictions/NAME_00000.png, … and overlays/NAME.mp4.
      every: Of a video, take only the first frame and each that comes so many later.
      video: Also join a folder's overlays into overlays/FOLDER.mp4, so many a second.
      scales: Magnifications of the training size at which predictions are averaged, such as 1 1.5;
        the experiment's if not given.
    """
    if not images:
        raise InputError("no image named; name image files, folders or videos after the workdir")
    count = predict.predict_files(workdir, images, out, every=every, video=video, scales=scales)
    images = f"{count} image{'s' * (count != 1)}"
    print(f"{images}: {out / 'predictions'}, overlays in {out / 'overlays'}")


def evaluate_command(
    workdir: tyro.conf.Positional[Path],
    /,
    part: Part = "test",
    scales: tuple[float, ...] | None = None,
) -> None:
    """Scores a run's network again and writes its scores, predictions and report.

    Args:
      workdir: Folder of a run.
      part: Part of the run's data set.
      scales: Magnifications of the training size at which predictions are averaged, such as 1 1.5;
        the experiment's if not given.
    """
    print(evaluate.in_words(evaluate.evaluate(workdir, part, scales=scales)))
    print(f"report: {report.write_report(workdir)}")


def report_command(workdir: tyro.conf.Positional[Path], /) -> None:
    """Writes a run's report again.

    Args:
      workdir: Folder of a run.
    """
    print(f"report: {report.write_report(workdir)}")


def plan_command(
    experiment: tyro.conf.Positional[Path],
    /,
    topology: str | None = None,
    batch_size: int | None = None,
    size: tuple[int, int] | None = None,
    space: int = 1,
    search: bool = True,
) -> None:
    """Compiles a training step for devices that needn't be here, and prints what it takes.

    Args:
      experiment: Experiment file, or folder of a run.
      topology: TPU slice, such as v5e:4x4; the devices of this machine if not given.
      batch_size: Images an update, over all devices; the experiment's if not given.
      size: Height and width of the images; the experiment's if not given.
      space: Devices that share each image.
      search: Look for the largest batch that fits, which takes a few more compilations.
    """
    if topology is not None:
        jax.config.update("jax_platforms", "cpu")  # the TPU that is planned isn't here
    changes = {"batch_size": batch_size, "size": size}
    changed = dataclasses.replace(
        plan.read(experiment), **{k: v for k, v in changes.items() if v is not None}
    )
    print(plan.plan(changed, topology=topology, space=space, search=search))


@contextlib.contextmanager
def plain_errors(*, goes_on: bool = False) -> Iterator[None]:
    """Shows what the user can mend as one message, without a traceback.

    Args:
      goes_on: whether it is an experiment's own command, which goes on where it stopped and has
        the flags of the experiment's data.
    """
    try:
        yield
    except InputError as error:
        whose = ""
        if "--data." in str(error) and not goes_on:
            whose = " (a flag of the experiment's own command, which a finished run takes too)"
        sys.exit(f"error: {error}{whose}")
    except KeyboardInterrupt:
        then = "; the same command goes on from the newest checkpoint" if goes_on else ""
        sys.exit(f"interrupted{then}")
    except train.Preempted as stop:
        print(f"{stop}; the same command goes on", file=sys.stderr)
        sys.exit(PREEMPTED)
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() > 1:
            error.add_note(
                f"If another host died, JAX names it below within {parallel.HEARTBEAT_SECONDS} s. "
                "Started on all hosts again, the same command goes on from the newest checkpoint."
            )
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        then = ", and the same command goes on" if goes_on else ""
        sys.exit(f"error: {error}; free some space{then}")


def run_experiment(experiment: Experiment) -> None:
    """Trains, evaluates, predicts and reports, or goes on where that stopped.

    Several hosts train together; then the first one does the rest.
    """
    workdir = experiment.folder
    mesh = parallel.make_mesh(experiment.parallel)
    config.check(experiment, devices=mesh.size, space=parallel.space_of(mesh))
    shapes = predict.shapes_of_state(experiment)  # refuses a net that doesn't fit together
    kept = config.to_json(experiment)
    _refuse_another(workdir, kept)
    first = parallel.is_first_host()
    # Not by its scores alone, which `seg-jax evaluate` gives a stopped run too.
    if all((workdir / name).exists() for name in ("environment.json", "scores.json")):
        if first and kept != read_json(workdir / "config.json"):
            with contextlib.suppress(InputError):
                next(iter(experiment.data.read("test")))  # it may lie elsewhere by now
                write_json(workdir / "config.json", kept, indent=2)
        scores = read_json(workdir / "scores.json")
        print(f"{workdir} is finished; {scores['part']}: {evaluate.in_words(scores)}")
        print(f"report: {report.write_report(workdir)}")
        return
    new = first and not (workdir / "config.json").exists()  # else it was checked at the first start
    if new and experiment.weights_from is not None:
        fitting(shapes.variables, predict.load(experiment.weights_from)[1])
    examples, validation = (input.load(experiment, part) for part in ("train", "val"))
    if new:
        input.check_test(experiment)
    if first:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", kept, indent=2)
    parallel.wait_for_all_hosts("workdir")
    _require_shared(workdir)
    train.train(experiment, examples, validation, workdir, mesh)
    if first:
        scores = evaluate.evaluate(workdir)
        _write_environment(workdir, mesh)
        path = report.write_report(workdir)
        print(f"test: {evaluate.in_words(scores)} on {scores['n']} images")
        print(f"report: {path}")
    parallel.wait_for_all_hosts("scores")


def _require_shared(workdir: Path) -> None:
    """Refuses a workdir that the first host created where this one can't see it."""
    if not (workdir / "config.json").exists():
        raise InputError(
            f"host {jax.process_index()} doesn't see {workdir / 'config.json'}, which the first "
            "host wrote; name a --workdir on storage that all hosts share"
        )


def _refuse_another(workdir: Path, kept: dict[str, Any]) -> None:
    """Refuses a workdir that is another experiment's than this one, as a workdir keeps it."""
    if not (workdir / "config.json").exists():
        return
    # As objects first, so that a field that is new since then has its default.
    old = config.to_json(predict.read_experiment(workdir))
    changed = config.changes(old, kept)
    if changed:
        raise InputError(
            f"{workdir} holds a run of another configuration ({'; '.join(changed)}); "
            "name another --workdir, or delete it"
        )


def _write_environment(workdir: Path, mesh: Mesh) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    hosts = jax.process_count()
    environment = {
        "command": shlex.join(["python", *sys.argv]),
        "seconds": read_metrics(workdir / "metrics.jsonl")[-1]["seconds"],
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
        "git commit": commit.stdout.strip() or None,
        "devices": f"{mesh.size} × {mesh.devices.flat[0].device_kind}"
        + (f" of {hosts} hosts" if hosts > 1 else ""),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    } | {name: version(name) for name in ("seg_jax", "jax", "flax", "optax", "orbax-checkpoint")}
    write_json(workdir / "environment.json", environment, indent=2)
