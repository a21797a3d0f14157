"""What a run was made with: command, versions, machine. Nothing here can end a run."""

import os
import platform
import shlex
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
from jax.sharding import Mesh

PACKAGES = ("seg_jax", "jax", "flax", "optax", "orbax-checkpoint")


def environment(mesh: Mesh, seconds: float | None) -> dict[str, Any]:
    """What environment.json holds; None stands for what can't be found out.

    Args:
      mesh: the devices of the run.
      seconds: that it trained.
    """
    hosts = jax.process_count()
    return {
        "command": shlex.join(["python", *sys.argv]),
        "seconds": seconds,
        "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
        "git commit": _commit(),
        "devices": f"{mesh.size} × {mesh.devices.flat[0].device_kind}"
        + (f" of {hosts} hosts" if hosts > 1 else ""),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    } | {name: _version(name) for name in PACKAGES}


def _commit() -> str | None:
    """The commit of the current folder; None without git or outside a repository."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # git isn't installed, or can't be started
        return None
    return found.stdout.strip() or None


def _version(package: str) -> str | None:
    """The installed version; None where a package is on the path without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
