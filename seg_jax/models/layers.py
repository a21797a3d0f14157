"""The few layers that the networks share, written so that XLA runs them fast.

Every function takes and returns (batch, height, width, channels). The networks change sizes only by
a factor of two. 2×2 windows of stride 2 don't overlap, so pooling, unpooling and up-convolution can
be reshapes, comparisons and one matrix product. XLA's general `reduce_window` and `conv_transpose`
have slow gradients, and so has the convolution on CPUs. The tests compare each layer with the plain
version, value and gradient.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from seg_jax.errors import InputError

Norm = Literal["batch", "group", "none"]
Dtype = Literal["float32", "bfloat16"]


def max_pool(x: Array) -> Array:
    """2×2 maximum of stride 2; the gradient goes to the first maximum of a window in row order.

    Equal to `flax.linen.max_pool(x, (2, 2), (2, 2))`, gradient at ties included. A NaN in the
    window is its maximum.

    Args:
      x: (B, H, W, C) with even H and W.

    Returns:
      (B, H/2, W/2, C).
    """
    a, b, c, d = _window(x)
    return _larger(_larger(a, b), _larger(c, d))


def max_pool_with_indices(x: Array) -> tuple[Array, Array]:
    """`max_pool`, and the position of each maximum in its window.

    Args:
      x: (B, H, W, C) with even H and W.

    Returns:
      The maxima (B, H/2, W/2, C), and their positions, uint8 of the same shape: 0 to 3 in row
      order.
    """
    a, b, c, d = _window(x)
    top, bottom = _larger(a, b), _larger(c, d)
    places = jnp.where(_exceeds(bottom, top), 2 + _exceeds(d, c), _exceeds(b, a))
    return _larger(top, bottom), places.astype(jnp.uint8)


def max_unpool(x: Array, indices: Array) -> Array:
    """Puts each value back to the position that `max_pool_with_indices` gave; elsewhere is 0.

    Badrinarayanan et al. 2017, SegNet, figure 3; PyTorch's `MaxUnpool2d(2)`.

    Args:
      x: (B, H, W, C).
      indices: (B, H, W, C) uint8, 0 to 3.

    Returns:
      (B, 2H, 2W, C).
    """
    return _depth_to_space([jnp.where(indices == k, x, 0) for k in range(4)])


def upsample_nearest(x: Array) -> Array:
    """Repeats every pixel 2×2: (B, H, W, C) to (B, 2H, 2W, C)."""
    return _depth_to_space([x] * 4)


def upsample_bilinear(x: Array, *, align_corners: bool = False) -> Array:
    """Doubles height and width by linear interpolation along each.

    Output pixel o is the input at position s. With `align_corners=False`, s = (o + ½)/2 − ½ clamped
    to the image, as in `jax.image.resize` and by default in PyTorch. With `align_corners=True`,
    s = o (n−1)/(2n−1), as in PyTorch's `UpsamplingBilinear2d`. In both cases output 2i lies between
    inputs i−1 and i, and output 2i+1 between i and i+1, so each output is a weighted sum of the
    input and its neighbour.

    Args:
      x: (B, H, W, C).
      align_corners: whether the centres of the corner pixels stay in place, instead of the corners
        of the image.

    Returns:
      (B, 2H, 2W, C).
    """
    for axis in (1, 2):
        n = x.shape[axis]
        if align_corners:
            i = jnp.arange(n, dtype=jnp.float32)
            to_previous, to_next = i / (2 * n - 1), (n - 1 - i) / (2 * n - 1)
        else:
            to_previous = to_next = jnp.full(n, 0.25, jnp.float32)
        along = [1] * x.ndim
        along[axis] = n
        to_previous, to_next = (w.reshape(along).astype(x.dtype) for w in (to_previous, to_next))
        first, last = (jnp.take(x, jnp.array([k]), axis=axis) for k in (0, n - 1))
        inner = [slice(None)] * x.ndim
        inner[axis] = slice(None, -1)
        previous = jnp.concatenate([first, x[tuple(inner)]], axis)
        inner[axis] = slice(1, None)
        following = jnp.concatenate([x[tuple(inner)], last], axis)
        even = x + to_previous * (previous - x)
        odd = x + to_next * (following - x)
        shape = list(x.shape)
        shape[axis] *= 2
        x = jnp.stack([even, odd], axis + 1).reshape(shape)
    return x


class UpConv(nn.Module):
    """2×2 up-convolution of stride 2, as one matrix product: (B, H, W, C) to (B, 2H, 2W, F).

    Output pixel (2i+p, 2j+q) is input pixel (i, j) times `kernel[p, q]`, plus the bias: PyTorch's
    `ConvTranspose2d(C, F, 2, stride=2)`, and `jax.lax.conv_transpose` with the kernel turned by
    180°.
    """

    features: int
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Applies the up-convolution."""
        channels = x.shape[-1]
        # Each output pixel depends on one input pixel, so the fan-in is C, not 4C.
        init = nn.initializers.variance_scaling(
            1.0, "fan_in", "truncated_normal", in_axis=-2, batch_axis=(0, 1)
        )
        kernel = self.param("kernel", init, (2, 2, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        matrix = kernel.transpose(2, 0, 1, 3).reshape(channels, 4 * self.features)
        y = x.astype(self.dtype) @ matrix.astype(self.dtype)
        return _depth_to_space(jnp.split(y, 4, axis=-1)) + bias.astype(self.dtype)


class ConvBlock(nn.Module):
    """3×3 convolutions, each with normalisation and ReLU.

    Attributes:
      features: channels after each convolution.
      train: whether BatchNorm uses and updates batch statistics.
      norm: "batch" (momentum 0.9; with the usual 0.99 the statistics are out of date for hundreds
        of steps), "group" (8 groups, or the largest divisor of 8 that divides the channels) or
        "none".
      norm_after_relu: convolution, ReLU, normalisation instead of convolution, normalisation,
        ReLU.
      dtype: what it computes in; parameters are float32.
      axis_name: the device axis over which BatchNorm averages, under pmap.
    """

    features: tuple[int, ...]
    train: bool
    norm: Norm = "batch"
    norm_after_relu: bool = False
    dtype: Dtype = "float32"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps (B, H, W, C) to (B, H, W, features[-1])."""

        def norm(x: Array) -> Array:
            if self.norm == "batch":
                return nn.BatchNorm(
                    use_running_average=not self.train,
                    momentum=0.9,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                )(x)
            if self.norm == "group":
                return nn.GroupNorm(math.gcd(8, x.shape[-1]), dtype=self.dtype)(x)
            return x

        for features in self.features:
            # A normalisation subtracts a bias that comes right before it.
            use_bias = self.norm == "none" or self.norm_after_relu
            x = conv(features, 3, use_bias=use_bias, dtype=self.dtype)(x)
            x = norm(nn.relu(x)) if self.norm_after_relu else nn.relu(norm(x))
        return x


def blocks_of(net: Any, *, train: bool, axis_name: str | None) -> Callable[..., ConvBlock]:
    """How a network makes its blocks: `blocks_of(net, …)(features, name=…)`.

    With `net.remat`, the backward pass recomputes the activations inside a block instead of keeping
    them (Chen et al. 2016): equal gradients, less memory, about a third more work.
    """
    return partial(
        nn.remat(ConvBlock) if net.remat else ConvBlock,
        norm=net.norm,
        norm_after_relu=net.norm_after_relu,
        dtype=net.dtype,
        train=train,
        axis_name=axis_name,
    )


def conv(features: int, size: int, *, dtype: Dtype, **options) -> nn.Conv:
    """A convolution that keeps height and width, initialised for ReLU (He et al. 2015)."""
    return nn.Conv(
        features,
        (size, size),
        dtype=dtype,
        kernel_init=nn.initializers.he_normal(),
        conv_general_dilated=lambda x, kernel, *_, **__: conv_same(x, kernel),
        **options,
    )


@jax.custom_vjp
def conv_same(x: Array, kernel: Array) -> Array:
    """Convolution of stride 1 that keeps height and width, with a fast kernel gradient on CPUs.

    On CPUs, XLA takes several times as long for the gradient with respect to the kernel as for the
    convolution itself. Here this gradient is one matrix product for each position in the kernel, of
    one or a few images at a time, and takes about as long as the convolution. Other platforms use
    XLA's own.

    Args:
      x: (B, H, W, C).
      kernel: (K, K, C, F), K odd.

    Returns:
      (B, H, W, F).
    """
    return conv_by_xla(x, kernel)


def conv_by_xla(x: Array, kernel: Array) -> Array:
    """`conv_same` with XLA's own gradients."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _conv_same_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return conv_by_xla(x, kernel), (x, kernel)


def _conv_same_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    _, to_x = jax.vjp(lambda x: conv_by_xla(x, kernel), x)

    def by_xla(x: Array, gradient: Array) -> Array:
        return jax.vjp(lambda kernel: conv_by_xla(x, kernel), kernel)[1](gradient)[0]

    def by_products(x: Array, gradient: Array) -> Array:
        return _kernel_gradient(x, gradient, kernel.shape[0]).astype(kernel.dtype)

    # Below 16 channels the matrices are too narrow to be faster.
    cpu = by_products if x.shape[-1] >= 16 else by_xla
    to_kernel = jax.lax.platform_dependent(x, gradient, cpu=cpu, default=by_xla)
    return to_x(gradient)[0], to_kernel


conv_same.defvjp(_conv_same_forward, _conv_same_backward)


def _kernel_gradient(x: Array, gradient: Array, size: int) -> Array:
    """Σ over pixels of x, shifted by each position in the kernel, times the gradient: float32."""
    b, h, w, c = x.shape
    # Matrices of some thousand rows: enough to be fast, few enough to stay in the cache.
    images = next(n for n in range(min(b, max(1, 4096 // (h * w))), 0, -1) if b % n == 0)
    around = size // 2
    padded = jnp.pad(x, [(0, 0), (around, around), (around, around), (0, 0)])
    chunks = [y.reshape(b // images, images, *y.shape[1:]) for y in (padded, gradient)]

    def add(total: Array, chunk: list[Array]) -> tuple[Array, None]:
        padded, gradient = chunk
        right = gradient.reshape(-1, gradient.shape[-1])
        places = [
            jax.lax.dot_general(
                padded[:, i : i + h, j : j + w].reshape(-1, c),
                right,
                (((0,), (0,)), ((), ())),
                preferred_element_type=jnp.float32,
            )
            for i in range(size)
            for j in range(size)
        ]
        return total + jnp.stack(places).reshape(total.shape), None

    zero = jnp.zeros((size, size, c, gradient.shape[-1]), jnp.float32)
    return jax.lax.scan(add, zero, chunks)[0]


def pad_to_multiple(x: Array, multiple: int, cell: int = 1) -> tuple[Array, tuple[slice, ...]]:
    """Pads height and width to multiples, equally on both sides, by repeating the border.

    Args:
      x: (B, H, W, C).
      multiple: what height and width must be multiples of.
      cell: the stride of the output, a divisor of H, W and `multiple`.

    Returns:
      The padded images, and the index that crops an output to H/cell × W/cell.
    """
    sides = [n // cell for n in x.shape[1:3]]
    shorts = [-n % (multiple // cell) for n in sides]
    pads = [(short // 2 * cell, (short - short // 2) * cell) for short in shorts]
    crop = tuple(slice(short // 2, short // 2 + n) for short, n in zip(shorts, sides, strict=True))
    if any(shorts):
        x = jnp.pad(x, [(0, 0), *pads, (0, 0)], mode="edge")
    return x, (slice(None), *crop)


def per_level(name: str, value: int | tuple[int, ...], levels: int) -> tuple[int, ...]:
    """One entry for each level, from one number for all levels or a tuple.

    Raises:
      InputError: if the tuple has another length.
    """
    values = (value,) * levels if isinstance(value, int) else tuple(value)
    if len(values) != levels:
        raise InputError(
            f"model.{name} has {len(values)} entries for {levels} levels; give {levels}"
        )
    return values


def upsampling(kind: str, features: int, *, dtype: Dtype, name: str) -> Callable[[Array], Array]:
    """Doubles height and width; only an up-convolution changes the channels, to `features`."""
    if kind == "transposed":
        return UpConv(features, dtype=dtype, name=name)
    return {
        "bilinear": upsample_bilinear,
        "bilinear_aligned": partial(upsample_bilinear, align_corners=True),
        "nearest": upsample_nearest,
    }[kind]


def _window(x: Array) -> tuple[Array, Array, Array, Array]:
    """The four pixels of each 2×2 window, in row order."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c)
    return x[:, :, 0, :, 0], x[:, :, 0, :, 1], x[:, :, 1, :, 0], x[:, :, 1, :, 1]


def _larger(a: Array, b: Array) -> Array:
    """The maximum; where they are equal, `a` gets all of the gradient (`jnp.maximum` halves it)."""
    return jnp.where(_exceeds(b, a), b, a)


def _exceeds(b: Array, a: Array) -> Array:
    """Whether b is greater; NaN counts as greater than any number, so that no NaN is lost."""
    return (b > a) | jnp.isnan(b)


def _depth_to_space(pixels: list[Array]) -> Array:
    """Four (B, H, W, C), in row order of the 2×2 window, to (B, 2H, 2W, C)."""
    b, h, w, c = pixels[0].shape
    rows = [jnp.stack(pixels[k : k + 2], axis=3) for k in (0, 2)]  # (B, H, W, 2, C) each
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, c)
