"""Each fast spelling against the plain one, in value and in gradient."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seg_jax.models import layers

on_shapes = pytest.mark.parametrize("shape", [(2, 5, 3, 3), (1, 1, 4, 2)])


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_ties(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 3, shape).astype(np.float32)


def assert_same(fast, plain, *args, rtol=1e-6, atol=1e-6):
    """The same value, and the same gradient of every argument under a random cotangent."""
    cotangent = normal(jax.eval_shape(plain, *args).shape, seed=1)

    @jax.jit
    def both(*args):
        (value, pull), (expected, pull_expected) = (jax.vjp(f, *args) for f in (fast, plain))
        return (value, *pull(cotangent)), (expected, *pull_expected(cotangent))

    for got, wanted in zip(*both(*args), strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)


def plain_max_pool(x):
    return nn.max_pool(x, (2, 2), (2, 2))


def naive_bilinear(x, align_corners):
    """Output pixel by output pixel, in float64, from the formula of the positions alone."""

    def along(x, axis):
        x, n = np.moveaxis(x, axis, 0), x.shape[axis]
        out = []
        for o in range(2 * n):
            s = o * (n - 1) / (2 * n - 1) if align_corners else (o + 0.5) / 2 - 0.5
            s = min(max(s, 0), n - 1)
            low = int(np.floor(s))
            high = min(low + 1, n - 1)
            out.append((1 - (s - low)) * x[low] + (s - low) * x[high])
        return np.moveaxis(np.stack(out), 0, axis)

    return along(along(x.astype(np.float64), 1), 2)


class TestMaxPool:
    @on_shapes
    @pytest.mark.parametrize("draw", [normal, with_ties])
    def test_equals_flax(self, shape, draw):
        b, h, w, c = shape
        assert_same(layers.max_pool, plain_max_pool, draw((b, 2 * h, 2 * w, c)))

    def test_gradient_at_a_tie_goes_to_the_first_in_row_order(self):
        gradient = jax.jit(jax.grad(lambda x: layers.max_pool(x).sum()))(np.zeros((1, 2, 4, 1)))
        np.testing.assert_array_equal(gradient[0, ..., 0], [[1, 0, 1, 0], [0, 0, 0, 0]])

    @pytest.mark.parametrize("place", range(4))
    def test_a_nan_is_never_lost(self, place):
        x = np.arange(4, dtype=np.float32)
        x[place] = np.nan
        x = x.reshape(1, 2, 2, 1)
        assert np.isnan(layers.max_pool(x)).all()
        pooled, indices = layers.max_pool_with_indices(x)
        assert np.isnan(pooled).all()
        assert indices.item() == place

    def test_odd_size_is_refused(self):
        with pytest.raises(TypeError, match="reshape"):
            layers.max_pool(jnp.zeros((1, 3, 4, 1)))


class TestMaxUnpool:
    @on_shapes
    def test_pooling_is_that_of_flax_and_indices_point_at_the_first_maximum(self, shape):
        b, h, w, c = shape
        x = with_ties((b, 2 * h, 2 * w, c))
        _, indices = jax.jit(layers.max_pool_with_indices)(x)
        windows = x.reshape(b, h, 2, w, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(*shape, 4)
        np.testing.assert_array_equal(indices, windows.argmax(-1))  # numpy's argmax is the first
        assert indices.dtype == jnp.uint8
        assert_same(lambda x: layers.max_pool_with_indices(x)[0], plain_max_pool, x)

    def test_each_maximum_returns_to_its_place_with_zeros_elsewhere(self):
        x = normal((2, 6, 10, 3))
        unpooled = jax.jit(lambda x: layers.max_unpool(*layers.max_pool_with_indices(x)))(x)
        is_maximum = np.repeat(np.repeat(plain_max_pool(x), 2, 1), 2, 2) == x
        np.testing.assert_array_equal(unpooled, np.where(is_maximum, x, 0))
        assert is_maximum.sum() == x.size / 4

    def test_gradient_gathers_from_the_places(self):
        indices = np.array([[[[0], [1]], [[2], [3]]]], np.uint8)
        cotangent = normal((1, 4, 4, 1))
        _, pull = jax.vjp(lambda x: layers.max_unpool(x, indices), normal((1, 2, 2, 1)))
        places = [
            [cotangent[0, 0, 0], cotangent[0, 0, 3]],
            [cotangent[0, 3, 0], cotangent[0, 3, 3]],
        ]
        np.testing.assert_array_equal(pull(cotangent)[0], [places])


class TestUpConv:
    @on_shapes
    def test_equals_conv_transpose(self, shape):
        model, x = layers.UpConv(4), normal(shape)
        kernel, bias = normal((2, 2, shape[-1], 4), seed=2), normal((4,), seed=3)

        def fast(x, kernel, bias):
            return model.apply({"params": {"kernel": kernel, "bias": bias}}, x)

        def plain(x, kernel, bias):
            turned = kernel[::-1, ::-1]
            numbers = ("NHWC", "HWIO", "NHWC")
            up = jax.lax.conv_transpose(x, turned, (2, 2), "VALID", dimension_numbers=numbers)
            return up + bias

        assert_same(fast, plain, x, kernel, bias, rtol=1e-5, atol=1e-5)

    def test_initial_kernel_keeps_the_variance(self):
        x = normal((4, 8, 8, 64))
        y, variables = jax.jit(layers.UpConv(64).init_with_output)(jax.random.key(0), x)
        assert 0.8 < np.var(y) < 1.2
        assert not variables["params"]["bias"].any()

    def test_bfloat16_keeps_float32_parameters(self):
        up = layers.UpConv(4, dtype="bfloat16")
        y, variables = jax.eval_shape(up.init_with_output, jax.random.key(0), normal((1, 2, 2, 3)))
        assert y.dtype == jnp.bfloat16
        assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


class TestUpsample:
    @on_shapes
    def test_nearest_repeats(self, shape):
        def plain(x):
            return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)

        assert_same(layers.upsample_nearest, plain, normal(shape))

    @on_shapes
    def test_bilinear_equals_jax_image(self, shape):
        def plain(x):
            b, h, w, c = x.shape
            return jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")

        assert_same(layers.upsample_bilinear, plain, normal(shape), rtol=1e-5, atol=1e-6)

    @on_shapes
    def test_aligned_bilinear_equals_scale_and_translate(self, shape):
        b, h, w, c = shape
        h, w = h + 1, w + 1  # the scale is infinite at one pixel
        scale = np.array([(2 * n - 1) / (n - 1) for n in (h, w)], np.float32)

        def plain(x):
            return jax.image.scale_and_translate(
                x, (b, 2 * h, 2 * w, c), (1, 2), scale, 0.5 - 0.5 * scale, "linear", antialias=False
            )

        def fast(x):
            return layers.upsample_bilinear(x, align_corners=True)

        assert_same(fast, plain, normal((b, h, w, c)), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("align_corners", [False, True])
    @pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 1), (2, 2), (5, 7), (8, 6)])
    def test_bilinear_equals_the_formula(self, size, align_corners):
        x = normal((2, *size, 3))
        up = jax.jit(partial(layers.upsample_bilinear, align_corners=align_corners))(x)
        np.testing.assert_allclose(up, naive_bilinear(x, align_corners), rtol=1e-5, atol=1e-6)

    def test_corners_stay_when_aligned_and_a_ramp_stays_a_ramp(self):
        ramp = np.linspace(0, 1, 5, dtype=np.float32)[None, :, None, None]
        up = jax.jit(partial(layers.upsample_bilinear, align_corners=True))(ramp)
        np.testing.assert_allclose(up[0, :, 0, 0], np.linspace(0, 1, 10), atol=1e-6)

    @pytest.mark.parametrize("align_corners", [False, True])
    def test_bilinear_keeps_bfloat16(self, align_corners):
        up = partial(layers.upsample_bilinear, align_corners=align_corners)
        assert jax.eval_shape(up, jnp.ones((1, 3, 3, 1), jnp.bfloat16)).dtype == jnp.bfloat16


class TestPadToMultiple:
    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(
        st.integers(1, 70),
        st.integers(1, 70),
        st.sampled_from([1, 2, 4, 16, 32]),
        st.sampled_from([1, 2, 4]),
    )
    def test_pads_no_more_than_needed_and_evenly(self, rows, columns, multiple, cell):
        crop = []

        def pad(x):
            padded, index = layers.pad_to_multiple(x, multiple * cell, cell)
            crop.extend(index)
            return padded

        image = jax.ShapeDtypeStruct((1, rows * cell, columns * cell, 1), jnp.float32)
        padded = jax.eval_shape(pad, image).shape
        for axis, n in ((1, rows), (2, columns)):
            cells = padded[axis] // cell
            assert padded[axis] == cells * cell
            assert cells == -(-n // multiple) * multiple
            assert crop[axis].stop - crop[axis].start == n
            assert 0 <= (cells - crop[axis].stop) - crop[axis].start <= 1

    @pytest.mark.parametrize("size", [(5, 8), (1, 1), (4, 8)])
    def test_repeats_the_border_and_crops_back(self, size):
        x = normal((2, *size, 3))
        padded, crop = layers.pad_to_multiple(x, 4)
        pads = [(c.start, n - c.stop) for c, n in zip(crop[1:], padded.shape[1:3], strict=True)]
        np.testing.assert_array_equal(padded, np.pad(x, [(0, 0), *pads, (0, 0)], mode="edge"))
        np.testing.assert_array_equal(padded[crop], x)


class TestConvBlock:
    def test_bias_only_where_no_normalisation_takes_it_away(self):
        def names(**fields):
            block = layers.ConvBlock((4, 6), train=False, **fields)
            params = jax.eval_shape(lambda: block.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3))))[
                "params"
            ]
            return set(params["Conv_0"])

        assert names(norm="batch") == names(norm="group") == {"kernel"}
        assert names(norm="none") == names(norm_after_relu=True) == {"kernel", "bias"}

    @pytest.mark.parametrize("after", [False, True])
    def test_order_of_normalisation_and_activation(self, after):
        block = layers.ConvBlock((8,), train=True, norm_after_relu=after)
        y, _ = self.run(block, normal((2, 8, 8, 3)))
        if after:
            np.testing.assert_allclose(np.mean(y, (0, 1, 2)), 0, atol=1e-5)
        else:
            assert np.min(y) == 0

    @pytest.mark.parametrize(("features", "groups"), [(16, 8), (12, 4), (3, 1)])
    def test_group_norm_takes_as_many_groups_as_divide(self, features, groups):
        x = normal((2, 8, 8, 3))
        y, kernel = self.run(layers.ConvBlock((features,), train=True, norm="group"), x)
        z = np.asarray(nn.Conv(features, (3, 3), use_bias=False).apply({"params": kernel}, x))
        z = z.reshape(2, 8, 8, groups, features // groups)
        variance = z.var((1, 2, 4), keepdims=True)
        z = (z - z.mean((1, 2, 4), keepdims=True)) / np.sqrt(variance + 1e-6)
        np.testing.assert_allclose(y, np.maximum(z.reshape(y.shape), 0), atol=1e-4)

    @staticmethod
    def run(block, x):
        """The output and the convolution's parameters, from random kernels."""
        variables = jax.tree_util.tree_map_with_path(
            lambda path, leaf: normal(leaf.shape) if "kernel" in str(path) else np.ones(leaf.shape),
            jax.eval_shape(block.init, jax.random.key(0), x),
        )
        variables["params"] = {
            name: leaves if name.startswith("Conv") else leaves | {"bias": 0 * leaves["bias"]}
            for name, leaves in variables["params"].items()
        }
        y, _ = block.apply(variables, x, mutable=["batch_stats"])
        return y, variables["params"]["Conv_0"]


@pytest.mark.parametrize(
    ("shape", "size", "features"),
    [
        ((4, 16, 12, 16), 3, 5),
        ((3, 9, 7, 17), 1, 2),
        ((2, 80, 70, 16), 3, 4),  # more rows than one product takes
        ((2, 5, 6, 3), 3, 16),  # too thin: XLA's own
        ((1, 1, 1, 16), 3, 4),
    ],
)
def test_convolution(shape, size, features):
    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    kernel = normal((size, size, shape[-1], features), seed=2)
    assert_same(layers.conv_same, plain, normal(shape), kernel, rtol=1e-4, atol=1e-3)


def test_convolution_in_half_precision_has_a_half_precision_gradient_summed_in_float32():
    x = jnp.asarray(normal((4, 32, 32, 16)), jnp.bfloat16)
    kernel = jnp.asarray(normal((3, 3, 16, 4), seed=1), jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda k: layers.conv_same(x, k).astype(jnp.float32).sum()))(kernel)
    assert gradient.dtype == jnp.bfloat16
    exact = jax.jit(jax.grad(lambda k: layers.conv_same(x.astype(jnp.float32), k).sum()))(
        kernel.astype(jnp.float32)
    )
    np.testing.assert_allclose(gradient.astype(jnp.float32), exact, rtol=0.01, atol=0.5)
