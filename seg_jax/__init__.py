"""Dense prediction in JAX.

import seg_jax

predict = seg_jax.load("runs/ph2_unet")
found = predict(image)  # uint8 (height, width, 3) of any size, or a path, or a list of either
found.label, found.probabilities
"""

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Imports `load` when it is first used, so that `import seg_jax` itself costs nothing."""
    if name == "load":
        from seg_jax.run.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
