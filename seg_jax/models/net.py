"""What every network looks like to the rest of seg_jax."""

from typing import ClassVar

import flax.linen as nn

from seg_jax.models.layers import Dtype


class Net(nn.Module):
    """A network from images (B, H, W, C) to float32 maps (B, H / stride, W / stride, outputs).

    Its fields are what an experiment sets. It is called as `net(images, train=…, axis_name=…)`,
    where `axis_name` is the device axis over which BatchNorm averages, or None.
    """

    stride: ClassVar[int] = 1
    """Pixels of the image for one pixel of the maps, along each axis; a network whose maps may be
    coarser than the image has a field of this name."""

    outputs: int | None = None
    """Number of maps. An experiment sets it to what its task needs; outside of experiments it is 1
    if not given."""
    dtype: Dtype = "float32"
    """What the network computes in; parameters and maps are float32."""
    remat: bool = False
    """Recompute activations inside blocks in the backward pass: less memory, a third more work."""
