"""How sure a score is: bootstrap intervals over images (Efron 1979)."""

from collections.abc import Callable, Mapping

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


def rounded_interval(values) -> list[float]:
    """`bootstrap_interval` with 6 digits after the point, as a run keeps it."""
    return [round(end, 6) for end in bootstrap_interval(values)]


def bootstrap(
    scores: Callable[[np.ndarray], Mapping[str, float]],
    count: int,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, list[float]]:
    """95 % percentile bootstrap intervals of scores that aren't means over images.

    Args:
      scores: called with the numbers of `count` images drawn with replacement, (count,) int64;
        gives scores by name, NaN where a score isn't defined for these images.
      count: number of images.
      resamples: how often the images are drawn.
      seed: the same seed gives the same intervals.

    Returns:
      `NAME_ci95` for each score NAME: its low and high end with 6 digits after the point; NaN
      where the score is never defined.
    """
    rng = np.random.default_rng(seed)
    drawn = [scores(rng.integers(max(count, 1), size=count)) for _ in range(resamples)]
    intervals = {}
    for name in drawn[0]:
        values = np.array([each[name] for each in drawn])
        known = values[~np.isnan(values)]
        ends = np.quantile(known, [0.025, 0.975]) if known.size else np.full(2, np.nan)
        intervals[f"{name}_ci95"] = [round(end, 6) for end in ends.tolist()]
    return intervals


def sum_of_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`values[rows].sum(0)` in float64, quick also for many rows.

    Args:
      values: (N, ...) of images; quickest in float64 and contiguous.
      rows: (N,) numbers of images drawn with replacement, as `bootstrap` gives them.
    """
    times = np.bincount(rows, minlength=len(values)).astype(np.float64)
    return np.einsum("n,n...->...", times, values)
