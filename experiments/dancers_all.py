"""One U-Net finds body parts, objects and skeletons of drawn dancers at once.

    python experiments/dancers_all.py

Protocol: as `dancers_panoptic.py`.

Score, seed 0: PQ 0.893 [0.882, 0.904], Dice over classes 0.912, OKS AP 0.057 [0.045, 0.074],
PCK@0.2 0.367, after 38 minutes on 2 CPU cores that tested other things meanwhile. One network for
each, with as many steps, has PQ 0.902 and Dice 0.925, AP 0.236 and PCK 0.526, after 31 and 35.
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
