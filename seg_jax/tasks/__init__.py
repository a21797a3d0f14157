"""Tasks: which maps a network predicts, how they are learnt, scored and drawn."""

from seg_jax.tasks.semantic import Semantic
from seg_jax.tasks.task import Task

__all__ = ["Semantic", "Task"]
