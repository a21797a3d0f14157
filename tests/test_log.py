import json

import jax.numpy as jnp
import pytest

from seg_jax.log import Log, NotFinite, read_metrics


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
