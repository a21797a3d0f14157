"""The contract: what holds for every architecture and every constructor."""

from functools import cache, partial
from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from seg_jax.errors import InputError
from seg_jax.models import (
    SegNet,
    UNet,
    layers,
    lesson_segnet,
    lesson_unet,
    original_segnet,
    original_unet,
)

UNET, SEGNET = UNet(features=(8, 16), convs=1), SegNet(features=(8, 16), convs=1)
# Every value of every field at least once; a convolution costs half a second to compile.
NETS = {
    "unet": UNET,
    "unet_bilinear": UNET.clone(up="bilinear", norm="group", dropout=0.2, plain_bottom=True),
    "unet_nearest": UNET.clone(up="nearest", norm="none", decoder=(0,)),
    "unet_bfloat16": UNET.clone(convs=(1, 2), dtype="bfloat16"),
    "segnet": SEGNET,
    "segnet_transposed": SEGNET.clone(up="transposed", norm="group", bottom=16),
    "segnet_nearest": SEGNET.clone(up="nearest", norm="none", dropout=0.2),
    "segnet_bilinear": SEGNET.clone(up="bilinear", norm_after_relu=True, head=1),
    "segnet_bfloat16": SEGNET.clone(decoder=(8, 8), dtype="bfloat16"),
    "lesson_unet": lesson_unet(features=(8, 8, 16), decoder=(8, 0)),
    "lesson_segnet": lesson_segnet(features=(8, 16), bottom=16, decoder=(8, 0)),
    "original_unet": original_unet(features=(8, 16)),
    "original_segnet": original_segnet(features=(8, 16), convs=(1, 2)),
}
SIZE = (19, 31)  # neither divides by any stride

# Nets this small take longer to compile than to run.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def stride(net):
    return 2 ** (len(net.features) - isinstance(net, UNet))


@cache
def variables_of(net):
    """Random variables, running statistics included, at the scale that keeps the variance."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        name = path[-1].key
        if name == "kernel":
            noise = random.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif name in ("scale", "var"):
            noise = random.uniform(0.5, 1.5, size=leaf.shape)
        else:
            noise = random.normal(size=leaf.shape) / 10
        return jnp.asarray(noise, leaf.dtype)

    shapes = jax.eval_shape(partial(net.init, train=False), jax.random.key(0), images(2, *SIZE, 3))
    return jax.tree_util.tree_map_with_path(draw, shapes)


@cache
def predictor(net):
    return jit(partial(net.apply, train=False))


@cache
def trained(net):
    """Gradient, logits and new statistics of one pass in train mode."""

    @jit
    def run(variables, x, target, key):
        def loss(params):
            rest = {k: v for k, v in variables.items() if k != "params"}
            logits, changed = net.apply(
                {"params": params, **rest},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": key},
            )
            return (logits * target).mean(), (logits, changed)

        return jax.grad(loss, has_aux=True)(variables["params"])

    x = images(2, *SIZE, 3)
    passes = [
        run(variables_of(net), x, images(2, *SIZE, 1, seed=1), jax.random.key(k)) for k in (0, 1)
    ]
    gradient, (logits, changed) = passes[0]
    return gradient, logits, passes[1][1][0], changed


def assert_equal_trees(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS.keys())
class TestContract:
    @pytest.mark.parametrize(
        ("size", "channels", "outputs"),
        [((1, 1), 1, 1), ((17, 23), 3, 4), ((16, 8), 5, 1), ((5, 40), 3, 1)],
    )
    def test_maps_have_the_size_of_the_image(self, net, size, channels, outputs):
        net = net.clone(outputs=outputs)
        x = jax.ShapeDtypeStruct((2, *size, channels), jnp.float32)
        logits, variables = jax.eval_shape(
            partial(net.init_with_output, train=False), jax.random.key(0), x
        )
        assert logits.shape == (2, *size, outputs)
        assert logits.dtype == jnp.float32
        assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        assert set(variables) <= {"params", "batch_stats"}

    def test_train_must_be_said(self, net):
        x = jnp.zeros((1, 8, 8, 3))
        with pytest.raises(TypeError, match="train"):
            jax.eval_shape(net.init, jax.random.key(0), x)
        with pytest.raises(TypeError, match="positional"):
            jax.eval_shape(lambda x: net.init(jax.random.key(0), x, True), x)

    def test_each_image_stands_alone_in_eval_mode(self, net):
        x = images(2, *SIZE, 3)
        both = predictor(net)(variables_of(net), x)
        swapped = predictor(net)(variables_of(net), x[::-1])
        np.testing.assert_allclose(both, swapped[::-1], rtol=1e-5, atol=1e-5)

    def test_padding_inside_equals_padding_outside(self, net):
        x = images(2, *SIZE, 3)
        padded, crop = layers.pad_to_multiple(x, stride(net))
        assert padded.shape != x.shape
        inside, outside = (predictor(net)(variables_of(net), x) for x in (x, padded))
        assert np.std(inside) > 0.1
        if net.dtype == "float32":
            np.testing.assert_allclose(inside, outside[crop], rtol=1e-5, atol=1e-5)
        else:  # XLA may keep float32 between fused bfloat16 operations
            assert np.mean(np.abs(inside - outside[crop])) < 0.02 * np.std(inside)

    def test_gradient_reaches_every_parameter(self, net):
        gradient, *_ = trained(net)
        for path, g in jax.tree_util.tree_leaves_with_path(gradient):
            assert np.isfinite(g).all(), jax.tree_util.keystr(path)
            assert np.abs(g).max() > 1e-8, jax.tree_util.keystr(path)

    def test_train_mode_updates_statistics_and_eval_mode_does_not(self, net):
        variables = variables_of(net)
        assert ("batch_stats" in variables) == (net.norm == "batch")
        if net.norm == "batch":
            *_, changed = trained(net)
            for before, after in zip(
                *map(jax.tree.leaves, (variables["batch_stats"], changed["batch_stats"])),
                strict=True,
            ):
                assert np.isfinite(after).all()
                assert (before != after).any()

    def test_dropout_drops_in_train_mode_only(self, net):
        _, one, other, _ = trained(net)
        assert (one != other).any() == (net.dropout > 0)

    def test_saves_and_restores(self, net, tmp_path):
        variables = variables_of(net)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "net", variables)
            checkpointer.wait_until_finished()
            restored = checkpointer.restore(
                tmp_path / "net", jax.tree.map(ocp.utils.to_shape_dtype_struct, variables)
            )
        x = images(2, *SIZE, 3)
        assert_equal_trees(variables, restored)
        assert_equal_trees(predictor(net)(variables, x), predictor(net)(restored, x))

    def test_is_a_value(self, net):
        twin = net.clone()
        assert isinstance(net, nn.Module)
        assert twin == net
        assert hash(twin) == hash(net)
        assert net.clone(outputs=7).outputs == 7 != net.outputs
        assert net.clone(outputs=7) != net


@pytest.mark.parametrize("name", ["unet_bfloat16", "segnet_bfloat16"])
def test_bfloat16_is_near_float32(name):
    net = NETS[name]
    x = images(2, *SIZE, 3)
    logits = predictor(net.clone(dtype="float32"))(variables_of(net), x)
    narrow = predictor(net)(variables_of(net), x)
    # Rounding moves some of the maxima, and with indices their values land next door.
    tolerance = 0.2 if isinstance(net, SegNet) else 0.05
    assert 0 < np.mean(np.abs(narrow - logits)) < tolerance * np.std(logits)


@pytest.mark.parametrize("net", [UNET, SEGNET], ids=["unet", "segnet"])
def test_jit_equals_eager(net):
    x = images(2, *SIZE, 3)
    eager = net.apply(variables_of(net), x, train=False)
    np.testing.assert_allclose(predictor(net)(variables_of(net), x), eager, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("net", [UNET, SEGNET], ids=["unet", "segnet"])
def test_rematerialisation_changes_memory_not_numbers(net):
    again = net.clone(remat=True)
    jax.tree.map(
        partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), trained(net), trained(again)
    )

    def loss(net, x):
        logits, _ = net.apply(variables_of(net), x, train=True, mutable=["batch_stats"])
        return logits.sum()

    x = images(2, *SIZE, 3)
    for either, expected in ((net, False), (again, True)):
        program = str(jax.make_jaxpr(jax.grad(partial(loss, either)))(x))
        assert ("checkpoint[" in program or "remat" in program) == expected


@pytest.mark.parametrize("net", [UNET, SEGNET], ids=["unet", "segnet"])
def test_devices_share_their_batch_statistics(net):
    x, variables = images(4, *SIZE, 3), variables_of(net)

    def run(x, axis_name=None):
        return net.apply(variables, x, train=True, axis_name=axis_name, mutable=["batch_stats"])

    whole, stats = jit(run)(x)
    parts, shared = jit(jax.vmap(partial(run, axis_name="device"), axis_name="device"))(
        x.reshape(2, 2, *x.shape[1:])
    )
    np.testing.assert_allclose(parts.reshape(whole.shape), whole, rtol=1e-4, atol=1e-4)
    jax.tree.map(
        lambda s, w: np.testing.assert_allclose(s, np.stack([w, w]), rtol=1e-5, atol=1e-5),
        shared,
        stats,
    )


@pytest.mark.parametrize("net", [UNET, SEGNET], ids=["unet", "segnet"])
def test_initial_logits_are_neither_flat_nor_wild(net):
    init = jit(partial(net.init_with_output, train=True))
    logits, _ = init(jax.random.key(0), images(2, 32, 32, 3))
    assert 0.1 < np.std(logits) < 10


@pytest.mark.parametrize("make", [lesson_unet, lesson_segnet, original_unet, original_segnet])
def test_constructors_take_changes_and_refuse_what_they_do_not_know(make):
    assert make(outputs=4, dtype="bfloat16") == make().clone(outputs=4, dtype="bfloat16")
    with pytest.raises(TypeError, match="widths"):
        make(widths=3)


@pytest.mark.parametrize(
    ("net", "error"),
    [
        (UNET.clone(convs=(1, 2, 3)), r"model\.convs has 3 entries for 2 levels"),
        (UNET.clone(decoder=(8, 8)), r"model\.decoder has 2 entries for 1 levels"),
        (UNET.clone(stride=2, decoder=(8,)), r"model\.decoder has 1 entries for 0 levels"),
        (UNET.clone(stride=3), r"model\.stride is 3; it must be one of \[1, 2\]"),
        (UNET.clone(features=(8,) * 7, stride=64), "stride is 64, which doesn't divide .* 32×32"),
        (SEGNET.clone(decoder=(8,)), r"model\.decoder has 1 entries for 2 levels"),
        (SEGNET.clone(bottom=4), "16 channels that level 1 pooled, but 4 arrive.*--model.bottom"),
        (SEGNET.clone(decoder=(4, 0)), "8 channels that level 0 pooled, but 4 arrive"),
    ],
)
def test_a_net_that_does_not_fit_together_says_where(net, error):
    with pytest.raises(InputError, match=error):
        parameters(net)


@pytest.mark.parametrize(("stride", "size"), [(2, (22, 14)), (4, (20, 36)), (8, (16, 24))])
def test_coarse_maps_end_the_decoder_early(stride, size):
    net = UNet(outputs=2, features=(8, 8, 16, 16), convs=1, stride=stride)
    x = images(2, *size, 3)
    variables = jit(partial(net.init, train=False))(jax.random.key(0), x)
    kept = sorted(name for name in variables["params"] if name.startswith("decoder"))
    assert kept == [f"decoder_{i}" for i in range(3) if 2**i >= stride]
    logits = predictor(net)(variables, x)
    assert logits.shape == (2, size[0] // stride, size[1] // stride, 2)
    assert np.std(logits) > 0.1

    padded, crop = layers.pad_to_multiple(x, 8, cell=stride)
    assert padded.shape != x.shape or stride == 8
    outside = predictor(net)(variables, padded)
    np.testing.assert_allclose(logits, outside[crop], rtol=1e-5, atol=1e-5)


def parameters(net, channels=3):
    x = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    shapes = jax.eval_shape(partial(net.init, train=False), jax.random.key(0), x)
    return sum(p.size for p in jax.tree.leaves(shapes["params"]))


class TestParameterCounts:
    def test_lesson(self):
        assert parameters(lesson_unet()) == 974_417
        assert parameters(lesson_segnet()) == 780_865

    def test_original_unet(self):
        """Pairs of 3×3 convolutions and 2×2 up-convolutions, all with bias, and the head."""
        down = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
        up = [(1024, 512), (512, 256), (256, 128), (128, 64)]
        pairs = sum(9 * i * o + o + 9 * o * o + o for i, o in down + up)
        expected = pairs + sum(4 * i * o + o for i, o in up) + 64 + 1
        assert parameters(original_unet()) == expected == 31_031_745

    def test_original_segnet(self):
        """VGG16's convolutions and their mirror, each without bias, before a BatchNorm."""
        vgg = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
        widths = vgg + vgg[:0:-1][1:]
        convolutions = list(pairwise(widths))
        assert len(convolutions) == 13 + 12
        expected = sum(9 * i * o + 2 * o for i, o in convolutions) + 9 * 64 + 1
        assert parameters(original_segnet()) == expected == 29_435_649
