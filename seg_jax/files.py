"""Writes files that are whole at every moment."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes a text file at once: a kill or a full disk leaves the file that was there before."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
