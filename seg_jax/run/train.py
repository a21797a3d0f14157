"""The training loop. It knows no task: the objects of the experiment do."""

from functools import partial
from pathlib import Path

from jax.sharding import Mesh
from tqdm import tqdm

from seg_jax.errors import InputError
from seg_jax.inference import evaluate
from seg_jax.inference.predict import load
from seg_jax.parallel import is_first_host, on_devices, own_rows, preemption, replicate
from seg_jax.pipeline.batches import Examples, training_batch, training_steps
from seg_jax.run.checkpoint import Checkpoints
from seg_jax.run.config import Experiment
from seg_jax.run.log import Log, NotFinite
from seg_jax.step import begin_with, init_state, make_eval_step, make_train_step


class Preempted(Exception):
    """Training stopped because the machine will be taken; all that was done is saved."""


def train(
    experiment: Experiment,
    examples: Examples,
    validation: Examples | None,
    workdir: Path,
    mesh: Mesh,
) -> int:
    """Trains from the newest checkpoint, or from the start, to the end.

    Args:
      experiment: what to do.
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
    batch_size, seed = experiment.batch_size, experiment.seed
    steps = training_steps(len(examples), epochs=experiment.epochs, batch_size=batch_size)
    evaluate_every = max(1, round(experiment.evaluate_every * len(examples) / batch_size))
    rows = own_rows(batch_size)

    optimiser, learning_rate = experiment.optimiser.chain(steps)
    objective = partial(experiment.task.objective, experiment.data)
    train_step = make_train_step(
        experiment.model,
        optimiser,
        objective,
        augmentation=experiment.augment,
        seed=seed,
        average=experiment.average,
        accumulate=experiment.accumulate,
        standardise=experiment.standardise,
    )
    eval_step = make_eval_step(
        experiment.model,
        objective,
        evaluate.measurement(experiment),
        standardise=experiment.standardise,
    )
    train_step = on_devices(train_step, mesh, donate=True)
    eval_step = on_devices(eval_step, mesh, per_example=True)

    checkpoints = Checkpoints(workdir)
    state = init_state(
        experiment.model, optimiser, seed=seed, shape=examples.arrays["image"].shape[1:]
    )
    if experiment.weights_from is not None and checkpoints.latest_step is None:
        state, own = begin_with(state, load(experiment.weights_from)[1])
        if is_first_host() and own:
            print(f"not taken from {experiment.weights_from}: {', '.join(own)}")
    state = replicate(checkpoints.resume(state), mesh)
    first = int(state.step)
    log = Log(
        workdir,
        batch_size=batch_size,
        examples=len(examples),
        resume_at=first,
        best=experiment.task.best,
        writes=is_first_host(),
    )
    bar = tqdm(
        total=steps, initial=first, unit="step", desc=experiment.name, disable=not is_first_host()
    )
    with bar, preemption() as preempted:
        for step in range(first + 1, steps + 1):
            with log.waiting_for_data():
                batch = training_batch(
                    examples, step - 1, batch_size=batch_size, seed=seed, rows=rows
                )
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
                        scores = evaluate.validate(
                            experiment, eval_step, state.average, validation, rows=rows
                        )
                    if is_first_host():
                        bar.write(f"epoch {line['epoch']:g}: " + evaluate.in_words(scores))
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


def _stopped(error: NotFinite, last_good: int | None) -> str:
    kept = "there is no checkpoint yet" if last_good is None else f"step {last_good} is kept"
    return (
        f"stopped: {error}; {kept}. Try a lower --optimiser.learning-rate, --optimiser.clip 1, "
        "or float32 in place of bfloat16"
    )
