"""How sure a score is: bootstrap intervals over images (Efron 1979)."""

import numpy as np


def bootstrap_interval(
    values, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of per-image values (Efron 1979).

    Args:
      values: (N,) scores of images; NaN is left out.
      confidence: coverage, between 0 and 1.
      resamples: number of samples of N drawn with replacement.
      seed: the same seed gives the same interval.

    Returns:
      Its low and high end; NaN where no value is left.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(values.size, size=values.size)].mean() for _ in range(resamples)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap(score, count: int, *, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a score that isn't a mean over images.

    Args:
      score: called with the numbers of `count` images drawn with replacement.
      count: number of images.
      resamples: how often they are drawn.
      seed: the same seed gives the same interval.
    """
    rng = np.random.default_rng(seed)
    values = [score(rng.integers(count, size=count)) for _ in range(resamples)]
    low, high = np.nanquantile(values, [0.025, 0.975])
    return round(float(low), 6), round(float(high), 6)


def rounded_interval(values) -> list[float]:
    """`bootstrap_interval` as a run keeps it."""
    return [round(end, 6) for end in bootstrap_interval(values)]
