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
from seg_jax.models.layers import Dtype, Norm


class UNet(nn.Module):
    """A U-Net of any depth and width, for images of any height, width and channels.

    Maps (B, H, W, C) to float32 logits (B, H, W, outputs), or coarser ones. Sizes that 2 to the
    number of poolings doesn't divide are padded by repeating the border, and cropped back.
    """

    outputs: int = 1
    """Number of maps: 1 for a binary mask, else the number of classes."""
    features: tuple[int, ...] = (16, 32, 64, 128, 256)
    """Channels of each level from the image's size down; the last level is the bottom."""
    convs: int | tuple[int, ...] = 2
    """3×3 convolutions a block: one number, or one for each level."""
    decoder: tuple[int, ...] | None = None
    """Channels of each decoder block, deepest first, 0 for none; the encoder's if not given."""
    stride: int = 1
    """Pixels from cell to cell of the maps: 2, 4, … to end the decoder one, two, … levels early."""
    norm: Norm = "batch"
    """Normalisation in every block."""
    norm_after_relu: bool = False
    """Normalise after the activation instead of before it."""
    plain_bottom: bool = False
    """The bottom is a single convolution without normalisation and activation."""
    up: Literal["transposed", "bilinear", "bilinear_aligned", "nearest"] = "transposed"
    """2×2 up-convolution, or interpolation (aligned: the corner pixels stay in the corners)."""
    dropout: float = 0.0
    """Rate of dropout at the end of the contracting path: last encoder block and bottom."""
    dtype: Dtype = "float32"
    """What the net computes in; parameters and logits are float32."""
    remat: bool = False
    """Compute each block's inside again in the backward pass: less memory, a third more work."""

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None = None) -> Array:
        """Predicts logits.

        Args:
          x: (B, H, W, C) float.
          train: whether BatchNorm uses and updates batch statistics and dropout drops.
          axis_name: the device axis over which BatchNorm averages, under pmap.

        Returns:
          (B, H / stride, W / stride, outputs) float32.

        Raises:
          InputError: if `convs` or `decoder` hasn't one entry a level, or the maps can't have this
            stride.
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
        x = layers.conv(self.outputs, 1, dtype=self.dtype, name="head")(x)
        return x[crop].astype(jnp.float32)


def _poolings(stride: int, size: tuple[int, ...], most: int) -> int:
    """How many poolings give maps of this stride."""
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

    One convolution, ReLU, BatchNorm a level, bilinear up-sampling with aligned corners.
    https://github.com/microsoft/AI-For-Beginners, lesson 12.

    Args:
      **changes: fields of `UNet` to set otherwise.
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
    """The U-Net of the paper: width 64 to 1024, two convolutions a level, up-convolutions.

    Without normalisation, with dropout of one half. Padded convolutions instead of the paper's
    valid ones, so that the mask has the image's size.

    Args:
      **changes: fields of `UNet` to set otherwise.
    """
    paper = UNet(features=(64, 128, 256, 512, 1024), norm="none", dropout=0.5)
    return paper.clone(**changes)
