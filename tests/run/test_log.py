import json

import jax.numpy as jnp
import pytest

from seg_jax.run.log import Log, NotFinite, read_metrics


def open_log(path, resume_at=0):
    return Log(path, batch_size=4, examples=8, resume_at=resume_at)


def test_a_line_is_the_mean_since_the_last_one(tmp_path):
    log = open_log(tmp_path)
    for step, loss in ((1, 1.0), (2, 3.0)):
        log.add(step, {"loss": jnp.float32(loss)})
    log.write(learning_rate=0.5)
    log.add(3, {"loss": jnp.float32(5.0)})
    log.write(learning_rate=0.25)
    log.close()
    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert (first["step"], first["epoch"], first["loss"]) == (2, 1.0, 2.0)
    assert (second["step"], second["loss"], second["learning_rate"]) == (3, 5.0, 0.25)
    assert first["images_per_second"] > 0
    assert 0 <= first["data_wait"] <= 1
    assert list((tmp_path / "tensorboard").iterdir())


def test_the_first_bad_step_is_named(tmp_path):
    log = open_log(tmp_path)
    for step, loss in enumerate((1.0, jnp.inf, jnp.nan), start=7):
        log.add(step, {"loss": jnp.float32(loss)})
    with pytest.raises(NotFinite, match="loss is inf at step 8"):
        log.write()
    log.close()


def test_resuming_drops_later_and_torn_lines_and_remembers_the_best(tmp_path):
    log = open_log(tmp_path)
    assert log.write_scores(2, {"dice": 0.5})
    assert not log.write_scores(4, {"dice": 0.4})
    assert log.write_scores(5, {"dice": 0.5})  # of equals the later, which has trained longer
    assert log.write_scores(6, {"dice": 0.9})
    log.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 7, "lo')
    log = open_log(tmp_path, resume_at=4)
    assert [line["step"] for line in read_metrics(path)] == [2, 4]
    assert not log.write_scores(5, {"dice": 0.45})
    assert log.write_scores(6, {"dice": 0.6})
    log.close()
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_score_that_is_undefined_is_null_and_never_the_best(tmp_path):
    log = open_log(tmp_path)
    assert not log.write_scores(2, {"dice": float("nan")})
    log.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["val_dice"] is None
    log = open_log(tmp_path, resume_at=2)
    assert log.write_scores(4, {"dice": 0.0})
    log.close()


def test_a_suspended_log_goes_on_as_if_it_had_not_been(tmp_path):
    def write(folder, stop):
        folder.mkdir()
        log = open_log(folder)
        for step in range(1, 7):
            log.add(step, {"loss": jnp.float32(1 / step)})
            if step == 3:
                log.write()
            if step == stop:
                log.suspend()
                log.close()
                last = read_metrics(folder / "metrics.jsonl")[-1]
                assert ("pending" in last) == (stop != 3)  # after a line nothing is left over
                log = open_log(folder, resume_at=step)
        log.write()
        log.close()
        return [(line["step"], line["loss"]) for line in read_metrics(folder / "metrics.jsonl")]

    whole = write(tmp_path / "whole", None)
    assert len(whole) == 2
    for stop in (2, 3, 5):
        assert write(tmp_path / str(stop), stop) == whole


def test_what_is_suspended_must_be_finite(tmp_path):
    log = open_log(tmp_path)
    log.add(1, {"loss": jnp.float32(jnp.nan)})
    with pytest.raises(NotFinite, match="loss is nan at step 1"):
        log.suspend()
    log.close()


def test_a_host_that_does_not_write_leaves_no_trace(tmp_path):
    log = Log(tmp_path, batch_size=4, examples=8, resume_at=0, writes=False)
    log.add(1, {"loss": jnp.float32(1)})
    assert log.write()["loss"] == 1
    assert log.write_scores(1, {"dice": 0.5})
    log.close()
    assert not list(tmp_path.iterdir())
