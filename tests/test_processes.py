"""Runs in processes of their own: killed at any moment, stopped by SIGTERM, spread over hosts."""

import json
import random
import re
import signal
import socket
import time

import jax
import numpy as np
import pytest
from tiny import TINY, lines_of, state_of
from tiny import start as start_process

from seg_jax.cli import PREEMPTED
from seg_jax.parallel import HEARTBEAT_SECONDS
from seg_jax.run.log import read_metrics

SCORES = "evaluations/test/scores.json"
LONG = ("--epochs", "30", "--evaluate-every", "1", "--log-every", "3")
"""Sixty steps, a checkpoint every two."""
HOSTS = ("--parallel.devices", "None", "--data.train", "7", "--data.val", "3")
"""Parts that the hosts can't share evenly."""


_started = []


def start(workdir, *flags, devices=1):
    _started.append(start_process(workdir, *flags, devices=devices))
    return _started[-1]


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test():
    yield
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()


def finish(workdir, *flags):
    process = start(workdir, *flags)
    assert process.wait(300) == 0, log_of(workdir)


def log_of(workdir):
    return workdir.with_name(f"{workdir.name}.log").read_text(errors="replace")


def wait_for(happened, *processes, seconds=120):
    """Looks a thousand times a second whether it has happened, as long as the processes run."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        assert all(process.poll() is None for process in processes), "a process ended before"
        time.sleep(0.001)


def steps_logged(workdir):
    lines = read_metrics(workdir / "metrics.jsonl")
    return lines[-1]["step"] if lines else 0


def saving(workdir):
    """Whether a checkpoint is being written: Orbax gives it another name until it is whole."""
    latest = workdir / "checkpoints" / "latest"
    return latest.exists() and any(not path.name.isdigit() for path in latest.iterdir())


def assert_same_run(found, expected):
    """Weights, optimiser and average bit for bit, and the same log and scores."""
    jax.tree.map(np.testing.assert_array_equal, state_of(TINY, found), state_of(TINY, expected))
    assert lines_of(found) == lines_of(expected)
    for name in ("scores.json", "per_image.csv"):
        one, other = (path / "evaluations" / "test" / name for path in (found, expected))
        assert one.read_bytes() == other.read_bytes()


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    finish(workdir, *LONG)
    return workdir


def test_a_run_killed_again_and_again_ends_as_the_one_that_never_was(unbroken, tmp_path):
    """At a random step, while a checkpoint is written, and somewhere between."""
    workdir, rng = tmp_path / "killed", random.Random(0)
    early = rng.randint(3, 20)
    moments = [
        lambda: steps_logged(workdir) >= early,
        lambda: saving(workdir) and steps_logged(workdir) >= 25,
        lambda: saving(workdir) and steps_logged(workdir) >= 40,
    ]
    for happened in moments:
        process = start(workdir, *LONG)
        wait_for(happened, process)
        time.sleep(rng.uniform(0, 0.005))
        process.kill()
        process.wait()
    assert not (workdir / "evaluations").exists()
    finish(workdir, *LONG)
    assert_same_run(workdir, unbroken)


def test_sigterm_saves_and_the_run_goes_on_from_there(unbroken, tmp_path):
    workdir = tmp_path / "stopped"
    process = start(workdir, *LONG)
    wait_for(lambda: steps_logged(workdir) >= 4, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == PREEMPTED
    saved = max(int(path.name) for path in (workdir / "checkpoints" / "latest").iterdir())
    assert f"SIGTERM: saved and stopped at step {saved} of 60" in log_of(workdir)
    finish(workdir, *LONG)
    assert_same_run(workdir, unbroken)


def start_hosts(workdir, *flags):
    """Two hosts of two devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    workdir.parent.mkdir(exist_ok=True)
    address = ("--parallel.coordinator", f"localhost:{port}", "--parallel.hosts", "2")
    return [
        start(workdir, *flags, *HOSTS, *address, "--parallel.host", str(host), devices=2)
        for host in (0, 1)
    ]


@pytest.fixture(scope="module")
def one_host(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "one"
    finish(workdir, *HOSTS[2:])
    return workdir


@pytest.mark.parametrize(
    "way",
    [(), ("--parallel.mesh",), ("--parallel.space", "2")],
    ids=["pmap", "mesh 4×1", "mesh 2×2"],
)
def test_two_hosts_give_what_one_device_gives(way, one_host, tmp_path):
    workdir = tmp_path / "two"
    assert [process.wait(300) for process in start_hosts(workdir, *way)] == [0, 0], log_of(workdir)
    found, expected = (state_of(TINY, path).variables for path in (workdir, one_host))
    jax.tree.map(  # Adam makes more of rounding than there is
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3), found, expected
    )
    for found, expected in zip(lines_of(workdir), lines_of(one_host), strict=True):
        assert found == pytest.approx(expected, rel=1e-3)
    scores = [json.loads((path / SCORES).read_text()) for path in (workdir, one_host)]
    assert scores[0]["n"] == scores[1]["n"] == 3
    assert scores[0]["dice"] == pytest.approx(scores[1]["dice"], abs=1e-2)


def test_two_hosts_stop_at_one_step_and_one_host_goes_on(tmp_path):
    """SIGTERM reaches one of them; afterwards there is another number of hosts and devices."""
    workdir = tmp_path / "two"
    processes = start_hosts(workdir, *LONG)
    wait_for(lambda: steps_logged(workdir) >= 6, *processes)
    processes[1].send_signal(signal.SIGTERM)
    assert [process.wait(60) for process in processes] == [PREEMPTED] * 2
    saved = max(int(path.name) for path in (workdir / "checkpoints" / "latest").iterdir())
    assert log_of(workdir).count(f"saved and stopped at step {saved} ") == 2
    finish(workdir, *LONG, *HOSTS[2:])
    assert state_of(TINY, workdir).step == 53  # 30 epochs of 7 images in batches of 4
    steps = [line["step"] for line in lines_of(workdir) if "loss" in line]
    assert steps == sorted(set(steps))


def test_a_host_that_dies_takes_the_other_down(tmp_path):
    workdir = tmp_path / "two"
    first, second = start_hosts(workdir, *LONG, "--epochs", "10000")
    wait_for(lambda: steps_logged(workdir) >= 6, first, second)
    second.kill()
    assert first.wait(HEARTBEAT_SECONDS + 30) not in (0, PREEMPTED)
    named = r"Task 1 heartbeat timeout|unhealthy \(stopped sending heartbeats\):\s+(\S*task:)?1\b"
    assert re.search(named, log_of(workdir))
