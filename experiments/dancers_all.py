"""One U-Net finds body parts, objects and skeletons of drawn dancers at once.

    python experiments/dancers_all.py

Protocol: as `dancers_panoptic.py`.

It hasn't been trained with Muon yet. By AdamW, 12 epochs of 1200 pictures (commit d944f77), seed 0:
PQ 0.799 [0.784, 0.814], Dice over classes 0.800, OKS AP 0.011, PCK@0.2 0.266, after 24 minutes on 2
CPU cores that did other things meanwhile. One network for each had PQ 0.814 and Dice 0.828, AP
0.012 and PCK 0.314 in as many epochs.
"""

import dataclasses

from dancers_panoptic import experiment as panoptic
from dancers_pose import experiment as pose

from seg_jax import cli
from seg_jax.tasks import Pose, Together

experiment = dataclasses.replace(
    panoptic,
    name="dancers_all",
    model=panoptic.model.clone(outputs=panoptic.model.outputs + pose.model.outputs),
    task=Together(panoptic=panoptic.task, pose=Pose(people=8, sigma=2.5, width=2)),
)

if __name__ == "__main__":
    cli.run(experiment)
