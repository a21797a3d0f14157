"""Examples on disk at the training size, for data sets that are too large for memory.

A part of a data set is a folder with ids.json and, for each array, one .npy file (N, ...). It is
written under another name and renamed at the end, so a folder of this name is always complete.
"""

import contextlib
import json
import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from seg_jax.errors import InputError

Arrays = dict[str, np.ndarray]


def write(folder: Path, of: Any, examples: Iterable[tuple[str, Arrays]]) -> None:
    """Writes examples, one at a time.

    Args:
      folder: to be made; if another process has made it meanwhile, its folder stays.
      of: a JSON value that says what they are examples of; it is kept beside them.
      examples: ids and arrays; names, shapes and dtypes are the same for all examples. Nothing is
        written if there are no examples.
    """
    building = _building(folder)
    building.mkdir(parents=True)
    try:
        ids = _write_arrays(building, examples)
        (building / "ids.json").write_text(json.dumps({"of": of, "ids": ids}))
        if ids:
            building.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _building(folder: Path) -> Path:
    """Where this process builds the folder. What killed processes of this host left is deleted."""
    before, after = f".{folder.name}-", f"@{platform.node()}"
    for other in folder.parent.glob(f"{before}*{after}"):
        process = int(other.name.removeprefix(before).removesuffix(after))
        if process == os.getpid() or not _runs(process):
            shutil.rmtree(other, ignore_errors=True)
    return folder.with_name(f"{before}{os.getpid()}{after}")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, but is another user's
        pass
    return True


def _write_arrays(folder: Path, examples: Iterable[tuple[str, Arrays]]) -> list[str]:
    """Writes the .npy files and returns the ids."""
    ids, files, shapes = [], {}, {}
    with contextlib.ExitStack() as stack:
        for name, arrays in examples:
            for key, array in arrays.items():
                if key not in files:
                    files[key] = stack.enter_context((folder / f"{key}.npy").open("wb"))
                    shapes[key] = array.shape, np.lib.format.dtype_to_descr(array.dtype)
                    _write_header(files[key], 0, *shapes[key])
                files[key].write(np.ascontiguousarray(array).data)
            ids.append(name)
        # NumPy's headers have room for the first axis to grow.
        for key, file in files.items():
            file.seek(0)
            _write_header(file, len(ids), *shapes[key])
    return ids


def read(folder: Path) -> tuple[Any, tuple[str, ...], Arrays]:
    """What `write` wrote.

    Returns:
      `of`, the ids, and arrays (N, ...), each part of which is read from disk when it is used.

    Raises:
      InputError: if a file is missing or incomplete.
    """
    try:
        kept = json.loads((folder / "ids.json").read_text())
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{folder} is an incomplete cache ({error}); delete it") from error
    return kept["of"], tuple(kept["ids"]), arrays


def _write_header(file, count: int, shape: tuple[int, ...], descr: str) -> None:
    header = {"descr": descr, "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)
