"""Images, labels, maps and points of one size at another."""

import numpy as np
from PIL import Image


def resize_image(image: np.ndarray, size: tuple[int, int], *, cubic: bool = False) -> np.ndarray:
    """Antialiased resizing of (H, W, C) uint8, or of maps in float32, to (*size, C).

    Bilinear, or bicubic: that keeps a peak's place between the pixels, but goes beyond the values
    around a step.
    """
    how = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., c])).resize(size[::-1], how)
        for c in range(image.shape[-1])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def resize_label(label: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour resizing of (H, W) uint8, uint16 or int32 to `size`."""
    return np.asarray(Image.fromarray(label).resize(size[::-1], Image.Resampling.NEAREST))


def resize_points(points: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Points (..., 2) of x and y, pixel centres at whole numbers, in the same picture resized."""
    scale = np.array([new[1] / old[1], new[0] / old[0]], np.float32)
    return (points + 0.5) * scale - 0.5
