"""The command line: `seg-jax predict | evaluate | report | plan`, and an experiment file's.

What a command needs is imported when it runs, so that help and errors come at once.
"""

import contextlib
import dataclasses
import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from seg_jax import parallel
from seg_jax.errors import InputError
from seg_jax.files import read_json, write_json
from seg_jax.pipeline.batches import check_test
from seg_jax.run import config
from seg_jax.run.config import Experiment
from seg_jax.run.environment import environment
from seg_jax.run.evaluate import Parts, Settings, evaluate, one_line
from seg_jax.run.load import Step, abstract_state, load, read_runs
from seg_jax.run.log import read_metrics
from seg_jax.run.train import Preempted, read_part, train
from seg_jax.run.workdir import Workdir
from seg_jax.step import matching_weights

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
    paths: tyro.conf.Positional[tuple[Path, ...]],
    /,
    out: Path = Path("predictions"),
    step: Step = "best",
    scales: tuple[float, ...] | None = None,
    tile: tuple[int, ...] | None = None,
    overlap: float = 0.5,
    probabilities: Literal["npy", "png"] | None = None,
    every: int = 1,
    video: float | None = None,
) -> None:
    """Predicts masks at the images' own sizes, and overlays; of a video, those of its frames.

    Args:
      paths: Folder of a run, or of several whose mean is taken; then image files, folders of them,
        or videos (mp4, avi, mov, mkv, webm).
      out: Folder for predictions/NAME.png and overlays/NAME.jpg; a video's are
        predictions/NAME_00000.png, … and overlays/NAME.mp4.
      step: Which weights: best, latest, or the number of a step that has a checkpoint.
      scales: Multiples of the training size at which predictions are averaged, such as 1 1.5; the
        experiment's if not given.
      tile: See images at their own size, in tiles of this height and width (one number for both).
      overlap: Of neighbouring tiles, as a fraction of the tile.
      probabilities: Also write the probabilities into probabilities/: as float16 .npy (height,
        width, classes), or as 16-bit PNG.
      every: Of a video, take every so many frames, from the first.
      video: Also join a folder's overlays into overlays/FOLDER.mp4, so many a second.
    """
    from seg_jax.run.predict import predict_files

    runs, images = _runs_first(paths)
    if not images:
        raise InputError("no image named; name image files, folders or videos after the workdir")
    predictor = load(runs, step=step, scales=scales, tile=_side(tile), overlap=overlap)
    count = predict_files(
        predictor, images, out, every=every, video=video, probabilities=probabilities
    )
    counted = f"{count} image{'s' * (count != 1)}"
    print(f"{counted}: {out / 'predictions'}, overlays in {out / 'overlays'}")


def evaluate_command(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    part: Parts | None = None,
    data: Path | None = None,
    step: Step = "best",
    scales: tuple[float, ...] | None = None,
    tile: tuple[int, ...] | None = None,
    overlap: float = 0.5,
    probabilities: Literal["npy", "png"] | None = None,
) -> None:
    """Scores what a run has learnt, and writes scores, predictions and the run's report.

    They go to a folder of their own, RUN/evaluations/NAME, which is "test" for the run's test part.

    Args:
      runs: Folder of a run, or of several: then their ensemble is scored, into the first folder.
      part: Part of the data set; test if not given, or all of a folder that --data names.
      data: Other data of the same labels: a folder with images/ and masks/, an experiment file, or
        the folder of a run.
      step: Which weights: best, latest, or the number of a step that has a checkpoint.
      scales: Multiples of the training size at which predictions are averaged, such as 1 1.5; the
        experiment's if not given.
      tile: See images at their own size, in tiles of this height and width (one number for both).
      overlap: Of neighbouring tiles, as a fraction of the tile.
      probabilities: Also write the probabilities: as float16 .npy, or as 16-bit PNG.
    """
    from seg_jax.report.page import write_report

    if not runs:
        raise InputError("no run named; name the folder of one or more")
    runs = tuple(run.expanduser() for run in runs)
    settings = Settings(part, data, step, scales, _side(tile), overlap, probabilities)
    folder, scores = evaluate(runs, settings)
    task = Workdir(runs[0]).read()[0].task
    print(f"{scores['title']}: {one_line(scores, task)} on {scores['n']} images")
    print(f"scores and predictions: {folder}")
    print(f"report: {write_report(runs[0])}")


def report_command(workdir: tyro.conf.Positional[Path], /) -> None:
    """Writes a run's report again.

    Args:
      workdir: Folder of a run.
    """
    from seg_jax.report.page import write_report

    print(f"report: {write_report(workdir)}")


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
    from seg_jax.plan.plan import plan
    from seg_jax.run.read import read_experiment

    if topology is not None:
        jax.config.update("jax_platforms", "cpu")  # the TPU that is planned isn't here
    changes = {"batch_size": batch_size, "size": size}
    changed = dataclasses.replace(
        read_experiment(experiment), **{k: v for k, v in changes.items() if v is not None}
    )
    print(plan(changed, topology=topology, space=space, search=search))


def _runs_first(paths: tuple[Path, ...]) -> tuple[list[Path], list[Path]]:
    """The folders of runs that paths begin with, and the paths after them.

    Raises:
      InputError: if the first isn't the folder of a run.
    """
    paths = tuple(path.expanduser() for path in paths)
    count = next((k for k, p in enumerate(paths) if not Workdir(p).config.exists()), len(paths))
    if paths and not count:
        Workdir(paths[0]).read_config()  # says what is wrong with it
    return list(paths[:count]), list(paths[count:])


def _side(tile: tuple[int, ...] | None) -> tuple[int, int] | None:
    """Height and width of a tile, from one number or two."""
    if tile is None or len(tile) == 2:
        return tile
    if len(tile) != 1:
        raise InputError(
            f"--tile has {len(tile)} numbers; give one for square tiles, or height and width"
        )
    return tile * 2


@contextlib.contextmanager
def plain_errors(*, goes_on: bool = False) -> Iterator[None]:
    """Shows what the user can fix as one message, without a traceback.

    Args:
      goes_on: whether it is an experiment's own command, which goes on where it stopped and has
        the flags of the experiment's data.
    """
    try:
        yield
    except InputError as error:
        whose = ""
        if error.field.startswith("data.") and not goes_on:
            whose = " (a flag of the experiment's own command, which a finished run takes too)"
        sys.exit(f"error: {error}{whose}")
    except KeyboardInterrupt:
        then = "; the same command goes on from the newest checkpoint" if goes_on else ""
        sys.exit(f"interrupted{then}")
    except Preempted as stop:
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
    from seg_jax.report.page import write_report

    folder = Workdir(experiment.folder)
    mesh = parallel.make_mesh(experiment.parallel)
    config.check(experiment, devices=mesh.size, space=parallel.space_of(mesh))
    task, labels = experiment.task, experiment.data.labels
    state = abstract_state(experiment, labels)  # refuses a net that doesn't fit together
    kept = config.kept(experiment, labels)
    _refuse_another(folder, kept)
    first = parallel.is_first_host()
    if folder.finished:
        if first and kept != read_json(folder.config):
            with contextlib.suppress(InputError):
                next(iter(experiment.data.read("test")))  # it may lie elsewhere by now
                write_json(folder.config, kept, indent=2)
        scores = read_json(folder.evaluation("test") / "scores.json")
        print(f"{folder.path} is finished; {scores['part']}: {one_line(scores, task)}")
        print(f"report: {write_report(folder.path)}")
        return
    new = first and not folder.config.exists()  # else it was checked at the first start
    if new and experiment.weights_from is not None:
        matching_weights(state.variables, read_runs([experiment.weights_from])[0].variables)
    examples, validation = (read_part(experiment, labels, part) for part in ("train", "val"))
    if new:
        check_test(experiment.data, task, labels, experiment.size)
    if first:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.config, kept, indent=2)
    parallel.wait_for_all_hosts("workdir")
    _require_shared(folder)
    train(experiment, labels, examples, validation, folder.path, mesh)
    if first:
        _, scores = evaluate([folder.path])
        lines = read_metrics(folder.metrics)
        seconds = lines[-1]["seconds"] if lines else None
        write_json(folder.environment, environment(mesh, seconds), indent=2)
        path = write_report(folder.path)
        print(f"test: {one_line(scores, task)} on {scores['n']} images")
        print(f"report: {path}")
    parallel.wait_for_all_hosts("scores")


def _require_shared(folder: Workdir) -> None:
    """Refuses a workdir that the first host created where this one can't see it."""
    if not folder.config.exists():
        raise InputError(
            f"host {jax.process_index()} doesn't see {folder.config}, which the first host wrote; "
            "name a --workdir on storage that all hosts share"
        )


def _refuse_another(folder: Workdir, kept: dict[str, Any]) -> None:
    """Refuses a workdir that is another experiment's than this one, as a workdir keeps it."""
    if not folder.config.exists():
        return
    # As objects first, so that a field that is new since then has its default.
    changed = config.changed_fields(config.kept(*folder.read()), kept)
    if changed:
        raise InputError(
            f"{folder.path} holds a run of another configuration ({'; '.join(changed)}); "
            "name another --workdir, or delete it"
        )
