"""Large images tile by tile, in memory that depends on the tile and the image's width alone.

Tiles overlap, and the predictions of overlapping tiles are averaged with the weights of a Gaussian
around each tile's centre, as in nnU-Net (Isensee et al. 2021): a network knows least at the border
of what it sees. At a tile's borders inside the image, a quarter of the overlap is not used at all.
So a network whose receptive field is below half the overlap predicts what it would predict for the
whole image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from seg_jax.errors import InputError
from seg_jax.inference.predictor import Predictor

TILES_AT_ONCE = 4
"""Tiles that a network is applied to at once."""


def tiled(predictor: Predictor, tile: tuple[int, int], *, overlap: float = 0.5) -> Predictor:
    """Sees images of any size tile by tile, at the image's own size.

    An image that is smaller than a tile is padded by repeating its border.

    Args:
      predictor: for images of the tile's size.
      tile: height and width of a tile in pixels.
      overlap: of neighbouring tiles, at least, as a fraction of the tile.

    Raises:
      InputError: if the tile or the overlap can't be used.
    """
    if not 0 <= overlap <= 0.9:
        raise InputError(f"--overlap is {overlap}; it must be from 0 to 0.9, such as 0.5")
    if min(tile) < 1 or any(side % predictor.multiple for side in tile):
        raise InputError(
            f"--tile is {' '.join(map(str, tile))}; height and width must be above 0 and multiples "
            f"of the network's stride, {predictor.multiple}"
        )

    def rows(image: np.ndarray) -> Iterator[np.ndarray]:
        """The predictions (rows, w, K) of an image from top to bottom."""
        height, width = image.shape[:2]
        short = [(0, max(0, tile[0] - height)), (0, max(0, tile[1] - width)), (0, 0)]
        if np.any(short):
            image = np.pad(image, short, mode="edge")
        down, across = (windows(image.shape[k], tile[k], overlap) for k in (0, 1))
        band, top = None, 0
        for k, (row, row_weight) in enumerate(down):
            found = _band(predictor, image[row : row + tile[0]], tile[1], across)
            if band is None:
                band = np.zeros_like(found)
            # What lies above this row of tiles is finished.
            if row > top:
                yield band[: row - top, :width]
                band = np.concatenate([band[row - top :], np.zeros_like(band[: row - top])])
                top = row
            band += row_weight[:, None, None] * found
            if k == len(down) - 1:
                yield band[: height - top, :width]

    def maps(images: Sequence[np.ndarray]) -> list[Array]:
        return [jnp.asarray(np.concatenate(list(rows(image)))) for image in images]

    return replace(predictor, maps=maps, rows=rows)


def windows(length: int, tile: int, overlap: float) -> list[tuple[int, np.ndarray]]:
    """Where the tiles along one axis begin, and the weight of each of their pixels.

    Args:
      length: of the axis, at least `tile`.
      tile: length of a tile.
      overlap: of neighbouring tiles, at least, as a fraction of the tile.

    Returns:
      Starts, and weights (tile,) float32, which add up to 1 at every pixel of the axis.
    """
    step = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // step) + 1
    starts = [round(k * (length - tile) / max(1, count - 1)) for k in range(count)]
    # A standard deviation of an eighth of the tile, as in nnU-Net.
    place = np.arange(tile) - (tile - 1) / 2
    gaussian = np.exp(-(place**2) / (2 * (tile / 8) ** 2))
    margin = (tile - step) // 4
    weights = []
    for start in starts:
        weight = gaussian.copy()
        if margin and start > 0:
            weight[:margin] = 0
        if margin and start + tile < length:
            weight[-margin:] = 0
        weights.append(weight)
    total = np.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + tile] += weight
    return [
        (start, (weight / total[start : start + tile]).astype(np.float32))
        for start, weight in zip(starts, weights, strict=True)
    ]


def _band(
    predictor: Predictor,
    image: np.ndarray,
    side: int,
    across: list[tuple[int, np.ndarray]],
) -> np.ndarray:
    """The predictions (tile height, w, K) of one row of tiles."""
    band, count = None, min(TILES_AT_ONCE, len(across))
    for first in range(0, len(across), count):
        group = across[first : first + count]
        # The last group is padded by repeating a tile, so all share one compiled program.
        starts = [start for start, _ in group] + [group[0][0]] * (count - len(group))
        tiles = np.stack([image[:, start : start + side] for start in starts])
        found = np.asarray(jax.device_get(predictor.maps(tiles)))
        if band is None:
            band = np.zeros((image.shape[0], image.shape[1], found.shape[-1]), np.float32)
        for (start, weight), maps in zip(group, found, strict=False):
            band[:, start : start + side] += weight[:, None] * maps
    return band
