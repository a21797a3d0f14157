"""An experiment: a frozen dataclass of objects, checked before anything is compiled.

What a file in `experiments/` writes, what the command line changes and what a workdir keeps is the
same thing. `to_json` and `from_json` carry it: every object becomes its class's import path and its
fields, so a workdir rebuilds the network without the experiment file.
"""

import dataclasses
import importlib
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn

from seg_jax.errors import InputError
from seg_jax.optimiser import AdamW
from seg_jax.parallel import Parallel
from seg_jax.pipeline.augment import Augment
from seg_jax.tasks import Semantic


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the numbers of a run, and where it is kept."""

    name: str
    """What the run is called, and its folder below runs/."""
    model: nn.Module
    """The network."""
    data: Any
    """The data set and its protocol."""
    task: Any = field(default_factory=Semantic)
    """What the network's maps mean: how they are learnt, scored and drawn."""
    workdir: Path | None = None
    """Where the run is kept: checkpoints, logs, scores, pictures; runs/NAME if not given."""
    cache: Path | None = None
    """Folder for the resized images, read from there as needed; in memory if not given."""
    size: tuple[int, int] = (256, 256)
    """Height and width to which images are resized for the network."""
    standardise: bool = False
    """Take each image by its own mean and deviation, as where brightness means nothing."""
    epochs: float = 30.0
    """How often every training image is seen."""
    batch_size: int = 16
    """Images an update, over all devices of all hosts."""
    accumulate: int = 1
    """Parts in which a batch is run one after another, where it doesn't fit at once."""
    optimiser: Any = field(default_factory=AdamW)
    """How the weights move."""
    augment: Augment = field(default_factory=Augment)
    """What happens to training images."""
    average: float = 0.0
    """Decay of the moving average of the weights, which is what is evaluated; 0 for none."""
    test_flips: bool = True
    """Average the predictions of an image and of those mirror images that training showed."""
    test_scales: tuple[float, ...] = (1.0,)
    """Average the predictions at these magnifications of the training size, too."""
    seed: int = 0
    """Of weights, order, augmentation and dropout."""
    weights_from: Path | None = None
    """Folder of a run whose best weights training begins with, where names and shapes agree."""
    evaluate_every: float = 5.0
    """Epochs between evaluations on the validation part, each followed by a checkpoint."""
    log_every: int = 10
    """Steps between log lines."""
    parallel: Parallel = field(default_factory=Parallel)
    """Where it computes."""

    def __post_init__(self):
        if not self.test_scales or not all(0 < scale < math.inf for scale in self.test_scales):
            raise InputError(
                f"test_scales is {self.test_scales}; name magnifications above 0, such as 1 1.5"
            )

    @property
    def folder(self) -> Path:
        """The workdir."""
        return self.workdir or Path("runs") / self.name


def check(experiment: Experiment, *, devices: int, space: int = 1) -> None:
    """Refuses an experiment that could only fail later, or silently do something else.

    Args:
      experiment: what is to be run.
      devices: how many it is to run on.
      space: how many of them share an image.

    Raises:
      InputError: naming the field and the mend.
    """
    experiment.task.check(experiment.data)
    maps = experiment.task.maps(experiment.data)
    if experiment.model.outputs != len(maps):
        named = ", ".join(maps) if len(maps) <= 8 else f"{maps[0]} … {maps[-1]}"
        raise InputError(
            f"model.outputs is {experiment.model.outputs}, but task and data need {len(maps)} "
            f"map{'s' * (len(maps) > 1)} ({named}); set --model.outputs {len(maps)}"
        )
    of_model, of_task = (getattr(x, "stride", 1) for x in (experiment.model, experiment.task))
    if of_model != of_task:
        flag = f"--model.stride {of_task}"
        if not hasattr(experiment.model, "stride"):
            flag = f"--task.stride {of_model}, as {type(experiment.model).__name__} has no other"
        raise InputError(
            f"model.stride is {of_model}, but task wants maps of stride {of_task}; set {flag}"
        )
    positive = ("epochs", "batch_size", "accumulate", "evaluate_every", "log_every")
    for name in positive:
        if getattr(experiment, name) <= 0:
            raise InputError(f"{name} is {getattr(experiment, name)}; it must be above 0")
    if min(experiment.size) < 1:
        raise InputError(f"size is {experiment.size}; height and width must be above 0")
    if not 0 <= experiment.average < 1:
        raise InputError(f"average is {experiment.average}; it must be at least 0 and below 1")
    if experiment.size[0] % space:
        raise InputError(
            f"size is {experiment.size}, whose {experiment.size[0]} rows don't split over "
            f"{space} devices; set --size {-(-experiment.size[0] // space) * space} "
            f"{experiment.size[1]}, or another --parallel.space"
        )
    shares = devices // space
    parts = shares * experiment.accumulate
    if experiment.batch_size % parts:
        fitting = max(1, round(experiment.batch_size / parts)) * parts
        raise InputError(
            f"batch_size is {experiment.batch_size}, which {shares} device{'s' * (shares > 1)} × "
            f"{experiment.accumulate} part{'s' * (experiment.accumulate > 1)} don't divide; "
            f"set --batch-size {fitting}"
        )


def to_json(value: Any) -> Any:
    """An experiment, or any of its values, as what `json` writes.

    Raises:
      InputError: if a class can't be imported again, because it is defined in a script.
    """
    if dataclasses.is_dataclass(value):
        if type(value).__module__ == "__main__":
            raise InputError(
                f"{type(value).__name__} is defined in the script that runs, so the workdir "
                "couldn't rebuild it; move the class to a module of its own and import it"
            )
        path = f"{type(value).__module__}.{type(value).__qualname__}"
        values = {name: getattr(value, name) for name in _fields(type(value))}
        return {"class": path, "fields": {name: to_json(v) for name, v in values.items()}}
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, tuple):
        return [to_json(v) for v in value]
    return value


def from_json(value: Any, kind: Any = Any) -> Any:
    """What `to_json` wrote, as objects again.

    Args:
      value: a JSON value.
      kind: the annotated type of the field that it fills.

    Raises:
      InputError: if a class or field isn't there any more.
    """
    if isinstance(value, dict):
        module, _, name = value["class"].rpartition(".")
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InputError(f"config.json: there is no {value['class']} here: {error}") from error
        kinds = typing.get_type_hints(cls)
        unknown = value["fields"].keys() - _fields(cls)
        if unknown:
            raise InputError(f"config.json: {value['class']} has no field {', '.join(unknown)}")
        return cls(**{k: from_json(v, kinds[k]) for k, v in value["fields"].items()})
    if isinstance(value, list):
        return tuple(from_json(v) for v in value)
    if isinstance(value, str) and _takes_path(kind):
        return Path(value)
    return value


IRRELEVANT = ("workdir", "cache", "parallel", "log_every", "data.raw", "data.root", "data.data_dir")
"""Fields that change no number, with what is in them."""


def changes(old: Any, new: Any) -> list[str]:
    """The fields that matter in which two `to_json` values differ: "seed: 0, now 1"."""
    return [
        f"{name}: {was}, now {now}"
        for name, (was, now) in differences(old, new).items()
        if not any(name == free or name.startswith(f"{free}.") for free in IRRELEVANT)
    ]


def differences(old: Any, new: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """The fields in which two `to_json` values differ, by dotted name: old and new."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        names = {key: f"{name}.{key}" if name else key for key in old}
        if "class" in old:
            names["fields"] = name
        found = [differences(old[key], new[key], names[key]) for key in old]
        return {field: values for part in found for field, values in part.items()}
    return {} if old == new else {name: (old, new)}


def _fields(cls: type) -> list[str]:
    """Names of a dataclass's own fields; linen adds two that aren't the user's."""
    linen = ("parent", "name") if issubclass(cls, nn.Module) else ()
    return [f.name for f in dataclasses.fields(cls) if f.init and f.name not in linen]


def _takes_path(kind: Any) -> bool:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return Path in options
