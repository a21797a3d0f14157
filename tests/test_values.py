import dataclasses
import json
from pathlib import Path

import flax.linen as nn
import pytest

from seg_jax.errors import InputError
from seg_jax.values import changes, differences, from_json, to_json


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] = ("a", "b")
    pairs: tuple[tuple[str, int], ...] = (("a", 1),)
    switch: bool = True


class Net(nn.Module):
    features: tuple[int, ...] = (4, 8)


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    net: Net = dataclasses.field(default_factory=Net)
    folder: Path | None = None
    raw: Path = Path("raw")
    seed: int = 0


def through_json(value):
    return from_json(json.loads(json.dumps(to_json(value))))


def test_gives_back_what_was_written():
    value = Outer(inner=Inner(names=(), pairs=(("x", 3), ("y", 4))), net=Net(features=(2,)), seed=7)
    again = through_json(value)
    assert again == dataclasses.replace(value, raw=value.raw.absolute())
    assert type(again.net) is Net
    assert to_json(again) == to_json(value)


def test_paths_survive_and_become_absolute():
    again = through_json(Outer(folder=Path("runs/x"), raw=Path("mine")))
    assert again.folder == Path("runs/x").absolute()
    assert again.raw == Path("mine").absolute()
    assert through_json(Outer()).folder is None


def test_classes_of_the_script_that_runs_are_refused():
    local = dataclasses.make_dataclass("Local", [], frozen=True)
    local.__module__ = "__main__"
    with pytest.raises(InputError, match="Local is defined in the script"):
        to_json(dataclasses.replace(Outer(), inner=local()))


def test_a_class_or_field_that_is_gone_is_named():
    kept = to_json(Outer())
    with pytest.raises(InputError, match=r"no seg_jax\.gone\.Net"):
        from_json(kept | {"class": "seg_jax.gone.Net"})
    with pytest.raises(InputError, match=r"no .*\.Gone here"):
        from_json(kept | {"class": f"{Outer.__module__}.Gone"})
    kept["fields"]["colour"] = 1
    with pytest.raises(InputError, match="has no field colour"):
        from_json(kept)


def test_differences_name_the_fields():
    old = Outer()
    new = Outer(inner=Inner(rate=0.25), net=Net(features=(2, 4)), seed=9)
    found = differences(to_json(old), to_json(new))
    assert found == {
        "inner.rate": (0.5, 0.25),
        "net.features": ([4, 8], [2, 4]),
        "seed": (0, 9),
    }
    assert differences(to_json(old), to_json(old)) == {}


def test_differences_of_another_class_or_of_plain_values():
    found = differences(to_json(Outer(inner=Inner())), to_json(Outer(inner=Net())))
    assert set(found) == {"inner.class", "inner"}
    assert differences({"size": [4, 6], "data": 1}, {"size": [4, 4], "data": 1}) == {
        "size": ([4, 6], [4, 4])
    }


def test_changes_are_differences_in_words_but_for_what_is_irrelevant():
    old = to_json(Outer())
    new = to_json(Outer(inner=Inner(rate=0.25, switch=False), raw=Path("/other"), seed=9))
    assert changes(old, new, irrelevant=("raw", "inn")) == [
        "inner.rate: 0.5, now 0.25",
        "inner.switch: True, now False",
        "seed: 0, now 9",
    ]
    assert changes(old, new, irrelevant=("raw", "inner", "seed")) == []
    assert len(changes(old, new)) == 4
