"""Lists of names: those that are committed as files, and those that messages show."""

import csv
from collections.abc import Collection, Mapping
from pathlib import Path


def read_list(path: Path) -> list[dict[str, str]]:
    """Reads a committed list: CSV with a header row, after comment lines that begin with #."""
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def write_list(
    path: Path, source: str, columns: tuple[str, str], values: Mapping[str, str]
) -> None:
    """Writes a list for `read_list`, sorted by name, with its source in the comment lines."""
    comments = [f"# {line}" for line in source.splitlines()]
    rows = [f"{name},{value}" for name, value in sorted(values.items())]
    path.write_text("\n".join([*comments, ",".join(columns), *rows, ""]), encoding="utf-8")


def first_few(names: Collection[str]) -> str:
    """The first three names in sorted order and how many more there are: "a, b, c and 2 more"."""
    first = ", ".join(sorted(names)[:3])
    return f"{first} and {len(names) - 3} more" if len(names) > 3 else first
