import contextlib
import dataclasses
import gc
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_jax.datasets import Nevi
from seg_jax.errors import InputError
from seg_jax.labels import VOID, Example
from seg_jax.losses import Loss
from seg_jax.pipeline import batches
from seg_jax.pipeline.batches import Examples, prefetch
from seg_jax.tasks import Semantic

NEVI, TASK, SIZE = Nevi(train=3, val=0, test=1, size=32), Semantic(), (16, 24)


def load(part="train", *, data=NEVI, task=TASK, size=SIZE, labels=NEVI.labels, cache=None):
    return batches.load(data, task, labels, size, part, cache=cache)


def examples(n: int) -> Examples:
    image = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    return Examples(tuple(map(str, range(n))), {"image": image, "label": image[..., 0] % 2})


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 12), batch_size=st.integers(1, 20), seed=st.integers(0, 5))
def test_every_epoch_shows_every_example_once(n, batch_size, seed):
    data = examples(n)
    steps = batches.training_steps(n, epochs=3, batch_size=batch_size)
    found = [
        batches.training_batch(data, s, batch_size=batch_size, seed=seed) for s in range(steps)
    ]
    epochs, rows = (np.concatenate([b[name] for b in found]) for name in ("epoch", "index"))
    for epoch in range(3):
        assert sorted(rows[epochs == epoch]) == list(range(n))
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in found])[:, 0, 0, 0], rows)


def test_order_changes_with_the_epoch_and_the_seed():
    data = examples(10)
    orders = {
        tuple(batches.training_batch(data, step, batch_size=10, seed=seed)["index"])
        for step in range(3)
        for seed in range(3)
    }
    assert len(orders) == 9


def test_a_batch_depends_on_nothing_but_seed_and_step():
    data = examples(7)
    once = batches.training_batch(data, 5, batch_size=3, seed=1)
    again = batches.training_batch(data, 5, batch_size=3, seed=1)
    for name, values in once.items():
        np.testing.assert_array_equal(values, again[name])


def test_batches_are_those_of_earlier_versions():
    """A run that is resumed goes on with the batches that it would have seen."""
    orders = [np.random.default_rng([3, epoch]).permutation(5) for epoch in range(8)]
    expected = np.concatenate(orders)
    for step in (0, 1, 4, 2):
        batch = batches.training_batch(examples(5), step, batch_size=7, seed=3)
        places = slice(7 * step, 7 * step + 7)
        np.testing.assert_array_equal(batch["index"], expected[places])
        np.testing.assert_array_equal(batch["epoch"], np.arange(40)[places] // 5)
        some = batches.training_batch(examples(5), step, batch_size=7, seed=3, rows=slice(2, 5))
        for name, values in batch.items():
            np.testing.assert_array_equal(some[name], values[2:5])


def test_the_order_of_an_epoch_is_drawn_once(monkeypatch):
    drawn = []
    real = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: drawn.append(seed) or real(seed))
    data = examples(12)
    for step in range(9):
        batches.training_batch(data, step, batch_size=4, seed=987654)
    assert drawn == [[987654, 0], [987654, 1], [987654, 2]]


def test_evaluation_sees_every_example_once_and_fills_with_void():
    seen = []
    for real, batch in batches.evaluation_batches(examples(7), batch_size=3):
        assert batch["image"].shape[0] == 3
        assert (batch["label"][real:] == VOID).all()
        assert (batch["label"][:real] != VOID).all()
        seen += batch["image"][:real, 0, 0, 0].tolist()
    assert seen == list(range(7))


def test_load_keeps_order_and_ids_and_gives_none_without_validation():
    data = load()
    assert {name: x.shape for name, x in data.arrays.items()} == {
        "image": (3, 16, 24, 3),
        "label": (3, 16, 24),
    }
    assert {x.dtype for x in data.arrays.values()} == {np.dtype(np.uint8)}
    assert list(data.ids) == [example.id for example in NEVI.read("train")]
    assert load("val") is None


def test_an_empty_part_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Empty:
        def read(self, part):
            return iter(())

    with pytest.raises(InputError, match="the test part holds no image"):
        load("test", data=Empty())


def test_boundary_weights_are_carried_along_with_void_as_background():
    @dataclasses.dataclass(frozen=True)
    class Two:
        def read(self, part):
            label = np.zeros((16, 16), np.uint8)
            label[2:7, 2:14] = 1
            label[9:14, 2:14] = 1
            label[0] = VOID
            yield Example("two", np.zeros((16, 16, 3), np.uint8), label)

    data = load(data=Two(), task=Semantic(Loss(boundary=1.0)), size=(16, 16))
    weight = data.arrays["weight"]
    assert weight.shape == (1, 16, 16)
    assert weight[0, 8, 8] > 2 * weight[0, 0, 0]
    assert "weight" in batches.training_batch(data, 0, batch_size=2, seed=0)


def test_the_test_part_is_read_at_both_sizes():
    """What can't be scored is found before training: here too many objects at the own size."""
    seen = []

    class Counts:
        def arrays(self, labels, example, size):
            seen.append((labels, example.id, size))
            if size == (32, 32):
                raise InputError(f"{example.id}: too many")
            return {}

    with pytest.raises(InputError, match="too many"):
        batches.check_test(NEVI, Counts(), NEVI.labels, SIZE)
    (example,) = NEVI.read("test")
    assert seen == [(NEVI.labels, example.id, SIZE), (NEVI.labels, example.id, (32, 32))]


def test_a_cache_holds_the_same_examples_and_is_built_once(tmp_path):
    expected = load()
    for _ in range(2):
        found = load(cache=tmp_path)
        assert found.ids == expected.ids
        assert found.arrays.keys() == expected.arrays.keys()
        for step in range(3):
            of_disk, of_memory = (
                batches.training_batch(of, step, batch_size=2, seed=0) for of in (found, expected)
            )
            for name, values in of_memory.items():
                np.testing.assert_array_equal(of_disk[name], values)
    built = (tmp_path / "train" / "ids.json").stat().st_mtime_ns
    load(cache=tmp_path, task=Semantic(Loss(dice=2.0)))
    assert (tmp_path / "train" / "ids.json").stat().st_mtime_ns == built
    assert load("val", cache=tmp_path) is None
    *_, (real, last) = batches.evaluation_batches(found, batch_size=2)
    assert real == 1
    assert (last["label"][1] == VOID).all()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": (24, 24)}, r"size: \[16, 24\], now \[24, 24\]"),
        ({"data": dataclasses.replace(NEVI, seed=1)}, "data.seed: 0, now 1"),
        ({"task": Semantic(Loss(boundary=1.0))}, "data and task now give other arrays for .*"),
    ],
)
def test_a_cache_of_other_examples_is_refused(tmp_path, changes, named):
    load(cache=tmp_path)
    with pytest.raises(InputError, match=named + ".*delete it, or name another --cache"):
        load(cache=tmp_path, **changes)


@dataclasses.dataclass(frozen=True)
class Somewhere:
    """Data whose files may lie anywhere."""

    raw: Path
    seed: int = 0

    def read(self, part):
        yield Example("one", np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))


def test_a_cache_of_data_that_was_moved_is_read(tmp_path):
    expected = load(data=Somewhere(Path("/old")), cache=tmp_path)
    assert load(data=Somewhere(Path("/new")), cache=tmp_path).ids == expected.ids
    with pytest.raises(InputError, match=r"\(data.seed: 0, now 1\)"):
        load(data=Somewhere(Path("/new"), seed=1), cache=tmp_path)


class Boom(Exception):
    pass


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


class TestPrefetch:
    """With every test, no thread is left."""

    @pytest.fixture(autouse=True)
    def _no_thread_is_left(self):
        assert not threads()
        yield
        assert not threads()

    @pytest.mark.parametrize("ahead", [1, 2, 5])
    @pytest.mark.parametrize("steps", [range(0), range(1), range(3, 12), range(0, 8, 3)])
    def test_gives_every_step_in_order(self, steps, ahead):
        assert list(prefetch(lambda step: 10 * step, steps, ahead=ahead)) == [
            10 * step for step in steps
        ]

    def test_batches_are_those_without_it(self):
        data = examples(7)

        def make(step):
            return batches.training_batch(data, step, batch_size=3, seed=1)

        for step, found in zip(range(2, 9), prefetch(make, range(2, 9)), strict=True):
            jax.tree.map(np.testing.assert_array_equal, found, make(step))

    def test_one_thread_makes_the_next_two_and_no_more(self):
        made, names = [], set()

        def make(step):
            made.append(step)
            names.add(threading.current_thread().name)
            return step

        with contextlib.closing(prefetch(make, range(100))) as found:
            assert not made  # nothing is made before it is asked for
            for _ in range(5):
                step = next(found)
                end = time.monotonic() + 10
                while len(made) < step + 3 and time.monotonic() < end:
                    time.sleep(0.001)
                time.sleep(0.02)
                assert made == list(range(step + 3))
            assert len(threads()) == 1
        assert len(names) == 1
        assert threading.current_thread().name not in names

    def test_an_error_is_raised_at_its_step(self):
        def make(step):
            if step == 3:
                raise Boom("step 3")
            return step

        found = prefetch(make, range(10))
        for step in range(3):
            assert next(found) == step
            time.sleep(0.01)  # the error has happened long before its turn
        with pytest.raises(Boom, match="step 3"):
            next(found)

    def test_the_thread_ends_when_the_loop_does(self):
        made = []

        def make(step):
            made.append(step)
            time.sleep(0.01)
            return step

        found = prefetch(make, range(1000))
        next(found)
        found.close()
        assert not threads()
        assert len(made) <= 3
        with pytest.raises(StopIteration):
            next(found)

        def fails():
            for step in prefetch(make, range(1000)):
                if step == 2:
                    raise Boom

        with pytest.raises(Boom):
            fails()
        gc.collect()
        assert not threads()
        assert len(made) <= 9

    def test_batches_that_were_used_are_let_go(self):
        class Batch:
            pass

        refs = []

        def make(step):
            batch = Batch()
            refs.append(weakref.ref(batch))
            return batch

        with contextlib.closing(prefetch(make, range(10))) as found:
            for _ in range(10):
                batch = next(found)
                alive = [ref() for ref in refs if ref() is not None]
                assert batch in alive
                assert len(alive) <= 3
                del batch, alive

    def test_copies_to_the_device_in_the_thread(self):
        data = examples(7)

        def make(step):
            return jax.device_put(batches.training_batch(data, step, batch_size=3, seed=1))

        total = jax.jit(lambda batch: batch["index"].sum())
        for step, batch in enumerate(prefetch(make, range(9))):
            expected = batches.training_batch(data, step, batch_size=3, seed=1)["index"].sum()
            assert total(batch) == expected

    @pytest.mark.parametrize("where", ["loop", "waiting"])
    def test_ctrl_c_ends_the_process_at_once(self, where):
        """In the loop's body, and while it waits for a batch; without a thread that goes on."""
        code = f"""
import signal, time
from seg_jax.pipeline.batches import prefetch

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

def make(step):
    time.sleep(0.5 if step and {where == "waiting"} else 0)
    return step

for step in prefetch(make, range(1000000)):
    print(step, flush=True)
    if {where == "loop"}:
        time.sleep(0.5)
"""
        command = [sys.executable, "-W", "error", "-c", code]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, **pipes, text=True) as process:
            assert process.stdout.readline() == "0\n"
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            _, errors = process.communicate(timeout=30)
            assert time.monotonic() - start < 10
        assert process.returncode == -signal.SIGINT
        assert errors.count("Traceback") == 1
        assert errors.strip().endswith("KeyboardInterrupt")
        assert "Warning" not in errors
