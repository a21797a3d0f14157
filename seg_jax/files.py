"""Writes files that are whole at every moment, and reads JSON."""

import json
import math
import os
from pathlib import Path
from typing import Any

from seg_jax.errors import InputError


def write_whole(path: Path, text: str) -> None:
    """Writes a text file at once: a kill or a full disk leaves the file that was there before."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_json(path: Path, value: Any, *, indent: int | None = None) -> None:
    """`write_whole` of `as_json`."""
    write_whole(path, as_json(value, indent=indent))


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
      FileNotFoundError: if there is none.
      InputError: if it is broken.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path} isn't valid JSON ({error}); restore it or run again") from error


def as_json(value: Any, *, indent: int | None = None) -> str:
    """A line of JSON; a NaN or an infinity, which JSON doesn't have, is null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
