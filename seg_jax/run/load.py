"""From the folders of runs to a predictor."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import jax

from seg_jax.errors import InputError
from seg_jax.inference.predictor import Predictor, averaged, mirrored, of_network, resized
from seg_jax.inference.tiles import tiled
from seg_jax.labels import Labels
from seg_jax.run.checkpoint import Checkpoints
from seg_jax.run.config import Experiment, check_scales, network
from seg_jax.run.workdir import Workdir
from seg_jax.step import TrainState, Variables, init_state

Step = int | Literal["best", "latest"]
"""Which weights of a run: those of a step, the best on its validation part, or the latest."""


def load(
    runs: str | Path | Sequence[str | Path],
    *,
    step: Step = "best",
    scales: tuple[float, ...] | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: float = 0.5,
) -> Predictor:
    """What a run has learnt, or what several runs have learnt together, as a value.

        predict = seg_jax.load("runs/ph2_unet")
        found = predict(image)  # uint8 (height, width, 3) of any size, or a path, or a list

    Args:
      runs: the folder of a run; of several, the mean of their maps is taken.
      step: "best" for the weights that scored best on the validation part, where there is one, else
        the latest; "latest"; or the number of a step whose checkpoint is there.
      scales: multiples of the training size at which predictions are averaged; the experiment's if
        not given.
      tile: height and width of tiles, or one number for both: then an image is seen at its own
        size, tile by tile.
      overlap: of neighbouring tiles, as a fraction of the tile.

    Raises:
      InputError: if a folder isn't a run's, has no such weights, or the runs don't fit together.
    """
    folders = [runs] if isinstance(runs, str | Path) else list(runs)
    tile = (tile, tile) if isinstance(tile, int) else tile
    return compose(read_runs(folders, step), scales=scales, tile=tile, overlap=overlap)


class Learnt(NamedTuple):
    """What a run has learnt."""

    experiment: Experiment
    labels: Labels
    variables: Variables
    step: int
    """Updates done."""


def read_runs(folders: Sequence[str | Path], step: Step = "best") -> list[Learnt]:
    """What each of several runs has learnt.

    Raises:
      InputError: if a folder isn't a run's, or has no such weights.
    """
    learnt = []
    for folder in folders:
        workdir = Workdir(Path(folder).expanduser())
        experiment, labels = workdir.read()
        with Checkpoints(workdir.path, read_only=True) as checkpoints:
            state = abstract_state(experiment, labels)
            variables, number = checkpoints.restore_for_prediction(state, step)
        learnt.append(Learnt(experiment, labels, variables, number))
    return learnt


def compose(
    learnt: Sequence[Learnt],
    *,
    scales: tuple[float, ...] | None = None,
    tile: tuple[int, int] | None = None,
    overlap: float = 0.5,
) -> Predictor:
    """The predictor of one run or, as the mean of their maps, of several; arguments as in `load`.

    Raises:
      InputError: if there is no run, or they don't fit together.
    """
    if not learnt:
        raise InputError("no run named; name the folder of one or more")
    if tile is not None and scales is not None:
        raise InputError(
            "--tile sees images at their own size, so --scales has no meaning; leave one out"
        )
    if scales is not None:
        check_scales(scales)
    members = []
    for experiment, labels, variables, _ in learnt:
        net = network_predictor(experiment, labels, variables)
        members.append(net if tile else at_sizes(net, experiment, scales))
    together = averaged(members)
    return tiled(together, tile, overlap=overlap) if tile else together


def network_predictor(experiment: Experiment, labels: Labels, variables: Variables) -> Predictor:
    """An experiment's network, averaged over mirror images as the experiment says.

    It sees images at their own size, which must be a multiple of the network's stride.
    """
    net = of_network(
        network(experiment, labels),
        variables,
        experiment.task,
        labels,
        channels=experiment.data.channels,
        standardise=experiment.standardise,
    )
    mirrors = experiment.augment.mirrors if experiment.test_flips else ((),)
    return averaged([mirrored(net, axes) for axes in mirrors])


def at_sizes(
    predictor: Predictor, experiment: Experiment, scales: tuple[float, ...] | None = None
) -> Predictor:
    """Sees whole images at the training size, or at multiples of it, whose mean is taken."""
    multiple = predictor.multiple
    sizes = (
        tuple(multiple * max(1, round(scale * side / multiple)) for side in experiment.size)
        for scale in scales or experiment.test_scales
    )
    return averaged([resized(predictor, size, experiment.size) for size in sizes])


def abstract_state(experiment: Experiment, labels: Labels) -> TrainState:
    """The state that an experiment trains, as shapes and dtypes alone.

    Raises:
      InputError: if the network doesn't fit together.
    """
    optimiser, _ = experiment.optimiser.chain(1)
    shape = (*experiment.size, experiment.data.channels)
    init = partial(
        init_state, network(experiment, labels), optimiser, seed=experiment.seed, shape=shape
    )
    return jax.eval_shape(init)
