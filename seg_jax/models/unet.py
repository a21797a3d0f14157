"""U-Net: an encoder, a decoder, and skip connections between maps of the same size.

Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, https://arxiv.org/abs/1505.04597
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from seg_jax.errors import InputError
from seg_jax.models import layers
from seg_jax.models.layers import Norm
from seg_jax.models.net import Net


class UNet(Net):
    """A U-Net of any depth and width, for images of any height, width and channels.

    From (B, H, W, C) to float32 logits (B, H / stride, W / stride, outputs). Height and width are
    padded to multiples of 2^(number of poolings) by repeating the border, and cropped back.
    """

    features: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Channels of each level, from the image's size down; the last level is the bottom."""
    convs: int | tuple[int, ...] = 2
    """3×3 convolutions in a block: one number, or one for each level."""
    decoder: tuple[int, ...] | None = None
    """Channels of each decoder block, deepest first, 0 for no block; the encoder's if not given."""
    stride: int = 1
    """Pixels of the image for one pixel of the maps, along each axis: with 2, 4, … the decoder ends
    one, two, … levels early."""
    norm: Norm = "batch"
    """Normalisation in every block."""
    norm_after_relu: bool = False
    """Normalise after the activation instead of before it."""
    plain_bottom: bool = False
    """Make the bottom a single convolution without normalisation and activation."""
    up: Literal["transposed", "bilinear", "bilinear_aligned", "nearest"] = "transposed"
    """2×2 up-convolution, or interpolation (aligned: centres of corner pixels stay in place)."""
    dropout: float = 0.0
    """Rate of dropout at the end of the contracting path: last encoder block and bottom."""

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None = None) -> Array:
        """Predicts logits.

        Args:
          x: (B, H, W, C) float.
          train: whether BatchNorm uses and updates batch statistics, and whether dropout is on.
          axis_name: the device axis over which BatchNorm averages, under pmap.

        Returns:
          (B, H / stride, W / stride, outputs) float32.

        Raises:
          InputError: if `convs` or `decoder` doesn't have one entry for each level, or the maps
            can't have this stride.
        """
        *levels, bottom = self.features
        *level_convs, bottom_convs = layers.per_level("convs", self.convs, len(self.features))
        ups = range(_poolings(self.stride, x.shape[1:3], len(levels)), len(levels))[::-1]
        decoder = [levels[i] for i in ups] if self.decoder is None else self.decoder
        decoder = layers.per_level("decoder", decoder, len(ups))
        block = layers.blocks_of(self, train=train, axis_name=axis_name)
        drop = nn.Dropout(self.dropout, deterministic=not train)

        x, crop = layers.pad_to_multiple(x.astype(self.dtype), 2 ** len(levels), cell=self.stride)
        skips = []
        for i, (features, convs) in enumerate(zip(levels, level_convs, strict=True)):
            x = block((features,) * convs, name=f"encoder_{i}")(x)
            if i == len(levels) - 1:
                x = drop(x)
            skips.append(x)
            x = layers.max_pool(x)
        if self.plain_bottom:
            x = layers.conv(bottom, 3, dtype=self.dtype, name="bottom")(x)
        else:
            x = block((bottom,) * bottom_convs, name="bottom")(x)
        x = drop(x)
        for i, features in zip(ups, decoder, strict=True):
            up = layers.upsampling(self.up, levels[i], dtype=self.dtype, name=f"up_{i}")
            x = jnp.concatenate([skips[i], up(x)], axis=-1)
            if features:
                x = block((features,) * level_convs[i], name=f"decoder_{i}")(x)
        x = layers.conv(self.outputs or 1, 1, dtype=self.dtype, name="head")(x)
        return x[crop].astype(jnp.float32)


def _poolings(stride: int, size: tuple[int, ...], most: int) -> int:
    """After how many poolings maps have this stride; at most `most`."""
    strides = [2**k for k in range(most + 1)]
    if stride not in strides:
        raise InputError(f"model.stride is {stride}; it must be one of {strides}")
    if any(n % stride for n in size):
        raise InputError(
            f"model.stride is {stride}, which doesn't divide images of {size[0]}×{size[1]}; "
            "choose another --size or --model.stride"
        )
    return strides.index(stride)


def lesson_unet(**changes) -> UNet:
    """The U-Net of the AI-For-Beginners lesson on segmentation: 974,417 parameters for one map.

    Each level has one convolution, ReLU and BatchNorm. Up-sampling is bilinear with aligned
    corners. https://github.com/microsoft/AI-For-Beginners, lesson 12.

    Args:
      **changes: fields of `UNet` with other values.
    """
    lesson = UNet(
        features=(16, 32, 64, 128, 256),
        convs=1,
        decoder=(128, 64, 32, 0),
        norm_after_relu=True,
        plain_bottom=True,
        up="bilinear_aligned",
    )
    return lesson.clone(**changes)


def original_unet(**changes) -> UNet:
    """The U-Net of the paper: 64 to 1024 channels, two convolutions a level, up-convolutions.

    It has no normalisation, and a dropout of one half. Convolutions are padded, not valid as in the
    paper, so that the mask has the image's size.

    Args:
      **changes: fields of `UNet` with other values.
    """
    paper = UNet(features=(64, 128, 256, 512, 1024), norm="none", dropout=0.5)
    return paper.clone(**changes)
