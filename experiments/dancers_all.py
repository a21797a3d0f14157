"""One U-Net finds the body parts, objects and skeletons of drawn dancers.

    python experiments/dancers_all.py

Protocol: as `dancers_panoptic.py`.

Score, seed 0: PQ 0.893 [0.882, 0.904], Dice over classes 0.912, OKS AP 0.057 [0.045, 0.074],
PCK@0.2 0.367, after 38 minutes on 2 CPU cores that tested other things at the same time. One
network for each, with as many steps: PQ 0.902 and Dice 0.925 after 31 minutes, AP 0.236 and PCK
0.526 after 35.
"""

import dataclasses

from dancers_panoptic import experiment as panoptic

from seg_jax import cli
from seg_jax.tasks import PanopticPose, Pose

experiment = dataclasses.replace(
    panoptic,
    name="dancers_all",
    task=PanopticPose(panoptic=panoptic.task, pose=Pose(max_people=8, sigma=2.5, width=2)),
)

if __name__ == "__main__":
    cli.run(experiment)
