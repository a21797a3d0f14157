"""The nets and layers against PyTorch's values (tests/fixtures/make_torch_fixtures.py)."""

from pathlib import Path

import jax
import numpy as np
import pytest

from seg_jax.models import layers, lesson_segnet, lesson_unet, original_segnet, original_unet

RECORDED = dict(np.load(Path(__file__).parents[1] / "fixtures" / "torch.npz"))
NETS = {
    "lesson_unet": lesson_unet(features=(4, 8, 16, 32, 64), decoder=(32, 16, 8, 0)),
    "lesson_segnet": lesson_segnet(features=(4, 8, 16, 32), bottom=64, decoder=(32, 16, 8, 0)),
    "original_unet": original_unet(features=(4, 6, 8)),
    "original_segnet": original_segnet(features=(4, 6, 8), convs=(2, 2, 3)),
}


def recorded(prefix: str) -> dict:
    """The recorded arrays below a name, nested again."""
    tree = {}
    for path, value in RECORDED.items():
        if path.startswith(prefix + "/"):
            *parents, name = path.removeprefix(prefix + "/").split("/")
            place = tree
            for parent in parents:
                place = place.setdefault(parent, {})
            place[name] = value
    return tree


@pytest.fixture(params=NETS, ids=list(NETS))
def case(request):
    """A net, its recorded variables and all else that was recorded."""
    values = recorded(request.param)
    variables = {name: values[name] for name in ("params", "batch_stats") if name in values}
    return NETS[request.param], variables, values


def test_nets_have_the_twins_parameters(case):
    net, variables, values = case
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), values["x"], train=False))
    assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, shapes)


def test_nets_predict_alike(case):
    net, variables, values = case
    logits = net.apply(variables, values["x"], train=False)
    np.testing.assert_allclose(logits, values["eval"], rtol=1e-4, atol=1e-4)


def test_nets_train_alike(case):
    net, variables, values = case
    if "train" not in values:
        assert net.norm == "none"  # nothing but dropout is different in train mode
        return
    logits, changed = net.apply(variables, values["x"], train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, values["train"], rtol=1e-4, atol=1e-4)
    paths, before = [], variables["batch_stats"]
    for path, new in jax.tree_util.tree_leaves_with_path(changed["batch_stats"]):
        keys = [key.key for key in path]
        old, theirs = before, values["after"]
        for key in keys:
            old, theirs = old[key], theirs[key]
        if keys[-1] == "var":
            # PyTorch's running variance is the unbiased one: n / (n − 1) times the batch's.
            level = int(keys[0].split("_")[1])
            n = 2 * 32 * 48 / 4**level
            theirs = 0.9 * old + (theirs - 0.9 * old) * (n - 1) / n
        np.testing.assert_allclose(new, theirs, rtol=1e-4, atol=1e-5)
        paths.append(keys)
    assert paths


def test_layers_are_alike():
    values = recorded("layers")
    x = values["x"]
    up = layers.UpConv(features=3)
    params = {"params": {"kernel": values["up_kernel"], "bias": values["up_bias"]}}
    np.testing.assert_allclose(up.apply(params, x), values["up"], atol=1e-5)
    pooled, places = layers.max_pool_with_indices(x[:, :, :6])
    np.testing.assert_array_equal(layers.max_unpool(2 * pooled, places), values["unpooled"])
    for name, aligned in (("half_pixel", False), ("aligned", True)):
        doubled = layers.upsample_bilinear(x, align_corners=aligned)
        np.testing.assert_allclose(doubled, values[f"bilinear_{name}"], atol=1e-5)
