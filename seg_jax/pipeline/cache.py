"""Examples on disk at the training size, read as steps need them: for data that memory can't hold.

A part of a data set is a folder: ids.json, and one .npy file (N, ...) an array. It appears once it
is whole, so a build that was stopped leaves nothing that would be taken for it.
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
      folder: what is to hold them; where another process was quicker, its folder stays.
      of: what the examples are of, a JSON value; kept beside them.
      examples: ids, and arrays whose names, shapes and dtypes are those of the first. Nothing is
        written if there is none.
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
    """This process's place to build a folder; those of this host's that were killed are deleted."""
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
    except PermissionError:  # another user's
        pass
    return True


def _write_arrays(folder: Path, examples: Iterable[tuple[str, Arrays]]) -> list[str]:
    """Writes the .npy files; the ids."""
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
    """What `write` kept: of what, the ids, and arrays (N, ...), read from disk as needed.

    Raises:
      InputError: if a file is missing or torn.
    """
    try:
        kept = json.loads((folder / "ids.json").read_text())
        arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{folder} is no whole cache ({error}); delete it") from error
    return kept["of"], tuple(kept["ids"]), arrays


def _write_header(file, count: int, shape: tuple[int, ...], descr: str) -> None:
    header = {"descr": descr, "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(file, header)
