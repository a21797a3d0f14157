import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY

from seg_jax.datasets import VOID, Example, Nevi
from seg_jax.errors import InputError
from seg_jax.losses import Loss
from seg_jax.pipeline import batches as input
from seg_jax.pipeline.batches import Examples
from seg_jax.tasks import Semantic


def examples(n: int) -> Examples:
    image = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    return Examples(tuple(map(str, range(n))), {"image": image, "label": image[..., 0] % 2})


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 12), batch_size=st.integers(1, 20), seed=st.integers(0, 5))
def test_every_epoch_shows_every_example_once(n, batch_size, seed):
    data = examples(n)
    steps = input.training_steps(n, epochs=3, batch_size=batch_size)
    batches = [
        input.training_batch(data, s, batch_size=batch_size, seed=seed) for s in range(steps)
    ]
    epochs, rows = (np.concatenate([b[name] for b in batches]) for name in ("epoch", "index"))
    for epoch in range(3):
        assert sorted(rows[epochs == epoch]) == list(range(n))
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches])[:, 0, 0, 0], rows)


def test_order_changes_with_the_epoch_and_the_seed():
    data = examples(10)
    orders = {
        tuple(input.training_batch(data, step, batch_size=10, seed=seed)["index"])
        for step in range(3)
        for seed in range(3)
    }
    assert len(orders) == 9


def test_a_batch_depends_on_nothing_but_seed_and_step():
    data = examples(7)
    once = input.training_batch(data, 5, batch_size=3, seed=1)
    again = input.training_batch(data, 5, batch_size=3, seed=1)
    for name, values in once.items():
        np.testing.assert_array_equal(values, again[name])


def test_evaluation_sees_every_example_once_and_fills_with_void():
    seen = []
    for real, batch in input.evaluation_batches(examples(7), batch_size=3):
        assert batch["image"].shape[0] == 3
        assert (batch["label"][real:] == VOID).all()
        assert (batch["label"][:real] != VOID).all()
        seen += batch["image"][:real, 0, 0, 0].tolist()
    assert seen == list(range(7))


def test_load_keeps_order_and_ids_and_gives_none_without_validation():
    source = Nevi(train=2, val=0, test=1, size=32)
    tiny = dataclasses.replace(TINY, data=source)
    data = input.load(tiny, "train")
    assert {name: x.shape for name, x in data.arrays.items()} == {
        "image": (2, 16, 24, 3),
        "label": (2, 16, 24),
    }
    assert {x.dtype for x in data.arrays.values()} == {np.dtype(np.uint8)}
    assert list(data.ids) == [example.id for example in source.read("train")]
    assert input.load(tiny, "val") is None


def test_an_empty_part_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Empty:
        def read(self, part):
            return iter(())

    with pytest.raises(InputError, match="the test part holds no image"):
        input.load(dataclasses.replace(TINY, data=Empty()), "test")


def test_boundary_weights_are_carried_along_with_void_as_background():
    @dataclasses.dataclass(frozen=True)
    class Two:
        def read(self, part):
            label = np.zeros((16, 16), np.uint8)
            label[2:7, 2:14] = 1
            label[9:14, 2:14] = 1
            label[0] = VOID
            yield Example("two", np.zeros((16, 16, 3), np.uint8), label)

    task = Semantic(Loss(boundary=1.0))
    data = input.load(dataclasses.replace(TINY, data=Two(), task=task, size=(16, 16)), "train")
    weight = data.arrays["weight"]
    assert weight.shape == (1, 16, 16)
    assert weight[0, 8, 8] > 2 * weight[0, 0, 0]
    assert "weight" in input.training_batch(data, 0, batch_size=2, seed=0)


def test_a_cache_holds_the_same_examples_and_is_built_once(tmp_path):
    tiny = dataclasses.replace(TINY, data=Nevi(train=3, val=0, test=1, size=32))
    cached = dataclasses.replace(tiny, cache=tmp_path)
    expected = input.load(tiny, "train")
    for _ in range(2):
        found = input.load(cached, "train")
        assert found.ids == expected.ids
        assert found.arrays.keys() == expected.arrays.keys()
        for step in range(3):
            of_disk, of_memory = (
                input.training_batch(of, step, batch_size=2, seed=0) for of in (found, expected)
            )
            for name, values in of_memory.items():
                np.testing.assert_array_equal(of_disk[name], values)
    built = (tmp_path / "train" / "ids.json").stat().st_mtime_ns
    input.load(dataclasses.replace(cached, epochs=7, log_every=3), "train")
    assert (tmp_path / "train" / "ids.json").stat().st_mtime_ns == built
    assert input.load(cached, "val") is None
    *_, (real, last) = input.evaluation_batches(found, batch_size=2)
    assert real == 1
    assert (last["label"][1] == VOID).all()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"size": (24, 24)}, r"size: \[16, 24\], now \[24, 24\]"),
        ({"data": Nevi(train=3, val=0, test=1, size=32, seed=1)}, "data.seed: 0, now 1"),
        ({"task": Semantic(Loss(boundary=1.0))}, "don't give .* so any more"),
    ],
)
def test_a_cache_of_other_examples_is_refused(tmp_path, changes, named):
    tiny = dataclasses.replace(TINY, data=Nevi(train=3, val=0, test=1, size=32), cache=tmp_path)
    input.load(tiny, "train")
    with pytest.raises(InputError, match=named + ".*delete it, or name another --cache"):
        input.load(dataclasses.replace(tiny, **changes), "train")
