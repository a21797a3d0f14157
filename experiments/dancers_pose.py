"""A U-Net finds the skeletons of drawn dancers, however many there are and however they overlap.

    python experiments/dancers_pose.py

Protocol: as `dancers_panoptic.py`, but 6000 pictures to train.

Score, seed 0: OKS AP 0.497 [0.460, 0.532], AP50 0.781, PCK@0.2 0.701 (shoulders 0.79, ankles 0.65,
wrists 0.46), after 63 minutes on 2 CPU cores that tested other things meanwhile. Which side is left
is learnt last; validation rose to the end.
"""

import dataclasses

from dancers_panoptic import experiment as panoptic

from seg_jax import cli
from seg_jax.tasks import Pose

experiment = dataclasses.replace(
    panoptic,
    name="dancers_pose",
    data=dataclasses.replace(panoptic.data, train=6000),
    model=panoptic.model.clone(
        outputs=40,  # 14 joints, 13 limbs' fields of two directions
        decoder=(128, 96, 64, 32, 0),  # these maps are smooth; a 1×1 head is enough, much cheaper
    ),
    task=Pose(people=8, sigma=2.5, width=2),
)

if __name__ == "__main__":
    cli.run(experiment)
