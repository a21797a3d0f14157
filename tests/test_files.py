import json
import resource

import pytest

from seg_jax.files import write_json, write_whole


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    for text in ("first", "PH², 3 × ü\n"):
        write_whole(path, text)
        assert path.read_bytes() == text.encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_file_of_before(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, "before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # as a full disk: no file grows
    try:
        with pytest.raises(OSError, match="too large"):
            write_whole(path, "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "before"


def test_what_json_has_no_number_for_is_null(tmp_path):
    nan, infinity = float("nan"), float("inf")
    value = {
        "dice": nan,
        "hd95": [infinity, -infinity, 1.5],
        "n": 3,
        "of": {"a": (nan, "caf\udce9")},
    }
    write_json(tmp_path / "a.json", value, indent=2)

    def refuse(constant):
        raise AssertionError(constant)

    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert found == {
        "dice": None, "hd95": [None, None, 1.5], "n": 3, "of": {"a": [None, "caf\udce9"]}
    }  # fmt: skip
