"""The training loop. It knows no task: the objects of the experiment do."""

import math
from contextlib import closing
from functools import partial
from pathlib import Path

import optax
from jax.sharding import Mesh
from tqdm import tqdm

from seg_jax.errors import InputError
from seg_jax.inference.evaluate import measurement, validate
from seg_jax.labels import Labels, Part
from seg_jax.parallel import (
    compiled,
    is_first_host,
    on_devices,
    own_rows,
    place,
    preemption,
    replicate,
)
from seg_jax.pipeline.batches import Examples, load, prefetch, training_batch, training_steps
from seg_jax.run.checkpoint import Checkpoints
from seg_jax.run.config import Experiment, network
from seg_jax.run.evaluate import one_line
from seg_jax.run.load import read_runs
from seg_jax.run.log import Log, NotFinite
from seg_jax.step import (
    Step,
    TrainState,
    init_state,
    make_eval_step,
    make_train_step,
    take_weights,
)


class Preempted(Exception):
    """Training stopped because the machine will be taken; all that was done is saved."""


def train(
    experiment: Experiment,
    labels: Labels,
    examples: Examples,
    validation: Examples | None,
    workdir: Path,
    mesh: Mesh,
) -> int:
    """Trains from the newest checkpoint, or from the start, to the end.

    Args:
      experiment: what to do.
      labels: what the labels of the examples mean.
      examples: the training part.
      validation: the validation part, by which the best checkpoint is kept; None if there is none.
      workdir: where checkpoints and logs go; of several hosts, one that all of them see.
      mesh: the devices, from `parallel.make_mesh`.

    Returns:
      The last step.

    Raises:
      InputError: if the loss stopped being finite, a checkpoint couldn't be written, or no weights
        of `weights_from` fit.
      Preempted: after SIGTERM, once the state is saved.
    """
    task, batch_size = experiment.task, experiment.batch_size
    steps = training_steps(len(examples), epochs=experiment.epochs, batch_size=batch_size)
    evaluate_every = max(1, round(experiment.evaluate_every * len(examples) / batch_size))
    rows = own_rows(batch_size)
    validated = _validated_at_once(experiment, devices=mesh.size)

    optimiser, learning_rate = experiment.optimiser.chain(steps)
    train_step = compiled(training_step(experiment, labels, optimiser), mesh, donate=True)
    eval_step = on_devices(
        validation_step(experiment, labels), mesh, kinds=task.kinds, per_example=True
    )
    state = init_state(
        network(experiment, labels),
        optimiser,
        seed=experiment.seed,
        shape=examples.arrays["image"].shape[1:],
    )

    checkpoints = Checkpoints(workdir)
    if experiment.weights_from is not None and checkpoints.latest_step is None:
        state = _with_weights_from(experiment.weights_from, state)
    state = replicate(checkpoints.resume(state), mesh)
    first = int(state.step)
    log = Log(
        workdir,
        batch_size=batch_size,
        examples=len(examples),
        resume_at=first,
        best=task.best(labels),
        writes=is_first_host(),
    )

    def batch_of(step: int):
        batch = training_batch(
            examples, step - 1, batch_size=batch_size, seed=experiment.seed, rows=rows
        )
        return place(batch, mesh, task.kinds)

    bar = tqdm(
        total=steps, initial=first, unit="step", desc=experiment.name, disable=not is_first_host()
    )
    batches = prefetch(batch_of, range(first + 1, steps + 1))
    with bar, preemption() as preempted, closing(batches):
        for step in range(first + 1, steps + 1):
            with log.waiting_for_data():
                batch = next(batches)
            state, scalars = train_step(state, batch)
            log.add(step, scalars)
            bar.update()

            due = step % evaluate_every == 0 or step == steps
            try:
                if step % experiment.log_every == 0 or due:
                    line = log.write(learning_rate=float(learning_rate(step - 1)))
                    bar.set_postfix_str(f"loss {line['loss']:.4f}", refresh=False)
                if due and validation is not None:
                    with log.paused():
                        scores = validate(
                            task,
                            labels,
                            eval_step,
                            state.average,
                            validation,
                            batch_size=validated,
                            rows=own_rows(validated),
                        )
                    if is_first_host():
                        bar.write(f"epoch {line['epoch']:g}: {one_line(scores, task)}")
                    if log.write_scores(step, scores):
                        checkpoints.save_best(step, state.average)
                stopping = preempted(step) and step < steps
                if stopping:
                    log.suspend()
                if due or stopping:
                    with log.paused():
                        checkpoints.save(state)
            except NotFinite as error:
                raise InputError(_stopped(error, checkpoints.latest_step)) from error
            if stopping:
                log.close()
                raise Preempted(f"SIGTERM: saved and stopped at step {step} of {steps}")
    log.close()
    checkpoints.close()
    return steps


def read_part(experiment: Experiment, labels: Labels, part: Part) -> Examples | None:
    """A part of an experiment's data at the training size; None where there is no such part.

    Raises:
      InputError: as `pipeline.batches.load` does.
    """
    return load(
        experiment.data, experiment.task, labels, experiment.size, part, cache=experiment.cache
    )


def _validated_at_once(experiment: Experiment, *, devices: int) -> int:
    """Images of a batch of validation, over all devices of all hosts.

    Validation sees whole images. Where training sees crops, there are so many that they have about
    as many pixels as a batch of crops, but at least one on each device.
    """
    crop = experiment.augment.crop
    if crop is None:
        return experiment.batch_size
    pixels = experiment.batch_size * math.prod(crop)
    return max(1, pixels // (math.prod(experiment.size) * devices)) * devices


def training_step(
    experiment: Experiment, labels: Labels, optimiser: optax.GradientTransformation
) -> Step:
    """The training step of an experiment, not compiled yet: see `step.make_train_step`."""
    return make_train_step(
        network(experiment, labels),
        optimiser,
        partial(experiment.task.objective, labels),
        kinds=experiment.task.kinds,
        augmentation=experiment.augment,
        seed=experiment.seed,
        ema_decay=experiment.ema_decay,
        accumulate=experiment.accumulate,
        standardise=experiment.standardise,
    )


def validation_step(experiment: Experiment, labels: Labels) -> Step:
    """The evaluation step of an experiment, not compiled yet: see `step.make_eval_step`."""
    task = experiment.task
    return make_eval_step(
        network(experiment, labels),
        partial(task.objective, labels),
        measurement(task, labels),
        standardise=experiment.standardise,
    )


def _with_weights_from(run: Path, state: TrainState) -> TrainState:
    """The state with another run's weights, where names and shapes agree; says which stay."""
    (other,) = read_runs([run])
    state, own = take_weights(state, other.variables)
    if own and is_first_host():
        print(f"not taken from {run}: {', '.join(own)}")
    return state


def _stopped(error: NotFinite, last_good: int | None) -> str:
    kept = "there is no checkpoint yet" if last_good is None else f"step {last_good} is kept"
    return (
        f"stopped: {error}; {kept}. Try a lower --optimiser.learning-rate, --optimiser.clip 1, "
        "or float32 in place of bfloat16"
    )
