"""Frozen dataclasses as JSON and back, and the fields in which two of them differ."""

import dataclasses
import importlib
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

import flax.linen as nn

from seg_jax.errors import InputError


def to_json(value: Any) -> Any:
    """A dataclass, such as an experiment, or a value of one of its fields as a JSON value.

    A dataclass becomes the import path of its class and its fields, a tuple a list, and a path its
    absolute path.

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
        return str(value.expanduser().absolute())
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


def differences(old: Any, new: Any, name: str = "") -> dict[str, tuple[Any, Any]]:
    """The fields in which two `to_json` values differ, by dotted name: old and new."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        names = {key: f"{name}.{key}" if name else key for key in old}
        if "class" in old:
            names["fields"] = name
        found = [differences(old[key], new[key], names[key]) for key in old]
        return {field: values for part in found for field, values in part.items()}
    return {} if old == new else {name: (old, new)}


def changes(old: Any, new: Any, *, irrelevant: Collection[str] = ()) -> list[str]:
    """The `differences` in words, such as "seed: 0, now 1".

    Args:
      old: a `to_json` value.
      new: another one.
      irrelevant: dotted names of fields that may differ, with all that is in them.
    """
    return [
        f"{name}: {was}, now {now}"
        for name, (was, now) in differences(old, new).items()
        if not any(name == field or name.startswith(f"{field}.") for field in irrelevant)
    ]


def _fields(cls: type) -> list[str]:
    """Names of a dataclass's own fields; linen adds two that aren't the user's."""
    linen = ("parent", "name") if issubclass(cls, nn.Module) else ()
    return [f.name for f in dataclasses.fields(cls) if f.init and f.name not in linen]


def _takes_path(kind: Any) -> bool:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return Path in options
