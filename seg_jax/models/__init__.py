"""Networks from pixels to maps; they know no data, no loss and no task."""

from seg_jax.models.net import Net
from seg_jax.models.segnet import SegNet, lesson_segnet, original_segnet
from seg_jax.models.unet import UNet, lesson_unet, original_unet

__all__ = [
    "Net",
    "SegNet",
    "UNet",
    "lesson_segnet",
    "lesson_unet",
    "original_segnet",
    "original_unet",
]
