"""Tasks: which maps a network predicts, how they are learnt, scored and drawn."""

from seg_jax.tasks.panoptic import Panoptic
from seg_jax.tasks.panoptic_pose import Together
from seg_jax.tasks.pose import Pose
from seg_jax.tasks.semantic import Semantic
from seg_jax.tasks.task import Task

__all__ = ["Panoptic", "Pose", "Semantic", "Task", "Together"]
