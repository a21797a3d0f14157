"""The training loop. It knows no task: the objects of the experiment do."""

from pathlib import Path

from tqdm import tqdm

from seg_jax import config, evaluate
from seg_jax.checkpoint import Checkpoints
from seg_jax.config import Experiment
from seg_jax.errors import InputError
from seg_jax.input import Examples, training_batch, training_steps
from seg_jax.log import Log, NotFinite
from seg_jax.parallel import local_devices, on_devices
from seg_jax.step import init_state, make_eval_step, make_train_step


def train(
    experiment: Experiment, examples: Examples, validation: Examples | None, workdir: Path
) -> int:
    """Trains from the newest checkpoint, or from the start, to the end.

    Args:
      experiment: what to do.
      examples: the training part.
      validation: the validation part, by which the best checkpoint is kept; None if there is none.
      workdir: where checkpoints and logs go.

    Returns:
      The last step.

    Raises:
      InputError: if the experiment can't be run, or its loss stopped being finite.
    """
    devices = local_devices(experiment.devices)
    config.check(experiment, devices=len(devices))
    batch_size, seed = experiment.batch_size, experiment.seed
    steps = training_steps(len(examples), epochs=experiment.epochs, batch_size=batch_size)
    evaluate_every = max(1, round(experiment.evaluate_every * len(examples) / batch_size))

    optimiser, learning_rate = experiment.optimiser.chain(steps)
    state = init_state(experiment.model, optimiser, seed=seed, shape=examples.image.shape[1:])
    train_step = make_train_step(
        experiment.model,
        optimiser,
        experiment.loss,
        augmentation=experiment.augment,
        seed=seed,
        average=experiment.average,
        accumulate=experiment.accumulate,
    )
    eval_step = make_eval_step(
        experiment.model, experiment.loss, classes=len(experiment.data.classes)
    )
    train_step = on_devices(train_step, devices, donate=True)
    eval_step = on_devices(eval_step, devices, split_out=True)

    checkpoints = Checkpoints(workdir)
    if checkpoints.latest_step is not None:
        state = checkpoints.restore(state)
    first = int(state.step)
    log = Log(workdir, batch_size=batch_size, examples=len(examples), resume_at=first)

    with tqdm(total=steps, initial=first, unit="step", desc=experiment.name) as bar:
        for step in range(first + 1, steps + 1):
            with log.waiting_for_data():
                batch = training_batch(examples, step - 1, batch_size=batch_size, seed=seed)
            state, scalars = train_step(state, batch)
            log.add(step, scalars)
            bar.update()

            due = step % evaluate_every == 0 or step == steps
            if step % experiment.log_every == 0 or due:
                try:
                    line = log.write(learning_rate=float(learning_rate(step - 1)))
                except NotFinite as error:
                    raise InputError(_stopped(error, checkpoints.latest_step)) from error
                bar.set_postfix_str(f"loss {line['loss']:.4f}", refresh=False)
            if due:
                with log.paused():
                    if validation is not None:
                        scores = evaluate.validate(
                            eval_step, state.average, validation, batch_size=batch_size
                        )
                        bar.write(f"epoch {line['epoch']:g}: " + evaluate.in_words(scores))
                        if log.write_scores(step, scores):
                            checkpoints.save_best(step, state.average)
                    checkpoints.save(state)
    log.close()
    checkpoints.close()
    return steps


def _stopped(error: NotFinite, last_good: int | None) -> str:
    kept = "there is no checkpoint yet" if last_good is None else f"step {last_good} is kept"
    return (
        f"stopped: {error}; {kept}. Try a lower --optimiser.learning-rate, --optimiser.clip 1, "
        "or float32 in place of bfloat16"
    )
