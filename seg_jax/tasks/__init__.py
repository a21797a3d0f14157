"""Tasks: which maps a network predicts, how they are learnt, decoded and scored."""

from seg_jax.tasks.panoptic import Panoptic
from seg_jax.tasks.panoptic_pose import PanopticPose
from seg_jax.tasks.pose import Pose
from seg_jax.tasks.semantic import Semantic
from seg_jax.tasks.task import Batch, Candidates, Decoded, ScoreName, Task

__all__ = [
    "Batch",
    "Candidates",
    "Decoded",
    "Panoptic",
    "PanopticPose",
    "Pose",
    "ScoreName",
    "Semantic",
    "Task",
]
