"""SegNet: an encoder, and a mirrored decoder that unpools with the encoder's pooling indices.

Badrinarayanan, Kendall, Cipolla: "SegNet: A Deep Convolutional Encoder-Decoder Architecture for
Image Segmentation", TPAMI 2017, https://arxiv.org/abs/1511.00561
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from seg_jax.errors import InputError
from seg_jax.models import layers
from seg_jax.models.layers import Norm
from seg_jax.models.net import Net


class SegNet(Net):
    """A SegNet of any depth and width, for images of any height, width and channels.

    From (B, H, W, C) to float32 logits (B, H, W, outputs). Height and width are padded to multiples
    of 2^(number of levels) by repeating the border, and cropped back.
    """

    features: tuple[int, ...] = (16, 32, 64, 128)
    """Channels of each encoder level, from the image's size down; a pooling follows each."""
    convs: int | tuple[int, ...] = 2
    """3×3 convolutions in a level of encoder and decoder: one number, or one for each level."""
    bottom: int | None = None
    """Channels of one more convolution after the last pooling; none if not given."""
    decoder: tuple[int, ...] | None = None
    """Channels after each decoder level, deepest first, 0 for no block; the encoder's, mirrored, if
    not given."""
    norm: Norm = "batch"
    """Normalisation in every block."""
    norm_after_relu: bool = False
    """Normalise after the activation instead of before it."""
    up: Literal["indices", "transposed", "bilinear", "bilinear_aligned", "nearest"] = "indices"
    """Unpooling with the pooling indices, or 2×2 up-convolution, or interpolation."""
    head: int = 3
    """Size of the last convolution's kernel."""
    dropout: float = 0.0
    """Rate of dropout before the first unpooling."""

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis_name: str | None = None) -> Array:
        """Predicts logits.

        Args:
          x: (B, H, W, C) float.
          train: whether BatchNorm uses and updates batch statistics, and whether dropout is on.
          axis_name: the device axis over which BatchNorm averages, under pmap.

        Returns:
          (B, H, W, outputs) float32.

        Raises:
          InputError: if `convs` or `decoder` doesn't have one entry for each level, or if maps that
            are unpooled by indices have another number of channels than those that were pooled.
        """
        convs = layers.per_level("convs", self.convs, len(self.features))
        block = layers.blocks_of(self, train=train, axis_name=axis_name)

        x, crop = layers.pad_to_multiple(x.astype(self.dtype), 2 ** len(self.features))
        indices = []
        for i, features in enumerate(self.features):
            x = block((features,) * convs[i], name=f"encoder_{i}")(x)
            x, places = layers.max_pool_with_indices(x)
            indices.append(places)
        if self.bottom:
            x = layers.conv(self.bottom, 3, dtype=self.dtype, name="bottom")(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for i, widths in zip(reversed(range(len(convs))), self._decoder_widths(), strict=True):
            if self.up == "indices":
                if x.shape[-1] != self.features[i]:
                    raise InputError(
                        f"model: unpooling by indices takes back the {self.features[i]} channels "
                        f"that level {i} pooled, but {x.shape[-1]} arrive there; change "
                        "--model.bottom or --model.decoder, or set --model.up bilinear"
                    )
                x = layers.max_unpool(x, indices[i])
            else:
                x = layers.upsampling(self.up, x.shape[-1], dtype=self.dtype, name=f"up_{i}")(x)
            if widths:
                x = block(widths, name=f"decoder_{i}")(x)
        x = layers.conv(self.outputs or 1, self.head, dtype=self.dtype, name="head")(x)
        return x[crop].astype(jnp.float32)

    def _decoder_widths(self) -> list[tuple[int, ...]]:
        """Channels after each convolution of each decoder block, from the deepest level up.

        If the decoder mirrors the encoder, each level ends with the channels of the level above,
        and the head is the last convolution of the last level.
        """
        convs = layers.per_level("convs", self.convs, len(self.features))
        last = self.decoder or (*self.features[-2::-1], 0)
        last = layers.per_level("decoder", last, len(self.features))
        levels = reversed(range(len(self.features)))
        mirrored = self.decoder is None
        return [
            (self.features[i],) * (convs[i] - 1 if end or mirrored else 0) + ((end,) if end else ())
            for i, end in zip(levels, last, strict=True)
        ]


def lesson_segnet(**changes) -> SegNet:
    """The SegNet of the AI-For-Beginners lesson on segmentation: 780,865 parameters for one map.

    Each level has one convolution, ReLU and BatchNorm; bilinear up-sampling with aligned corners
    replaces pooling indices. https://github.com/microsoft/AI-For-Beginners, lesson 12.

    Args:
      **changes: fields of `SegNet` with other values.
    """
    lesson = SegNet(
        features=(16, 32, 64, 128),
        convs=1,
        bottom=256,
        decoder=(128, 64, 32, 0),
        norm_after_relu=True,
        up="bilinear_aligned",
        head=1,
    )
    return lesson.clone(**changes)


def original_segnet(**changes) -> SegNet:
    """The SegNet of the paper: VGG16's 13 convolutions, mirrored, with pooling indices.

    Args:
      **changes: fields of `SegNet` with other values.
    """
    return SegNet(features=(64, 128, 256, 512, 512), convs=(2, 2, 3, 3, 3)).clone(**changes)
