"""A U-Net finds the skeletons of drawn dancers, however many there are and however they overlap.

    python experiments/dancers_pose.py

Protocol: as `dancers_panoptic.py`.

Score, seed 0: OKS AP 0.012 [0.007, 0.019], AP50 0.069, PCK@0.2 0.314 after 14 minutes on 2 CPU
cores that tested other things meanwhile. That is a beginning, not a result: heads and necks are
found, elbows and wrists hardly, and limbs join different people. It wants far longer training.
"""

import dataclasses

from dancers_panoptic import experiment as panoptic

from seg_jax import cli
from seg_jax.tasks import Pose

experiment = dataclasses.replace(
    panoptic,
    name="dancers_pose",
    model=panoptic.model.clone(
        outputs=40,  # 14 joints, 13 limbs' fields of two directions
        decoder=(128, 96, 64, 32, 0),  # these maps are smooth; a 1×1 head is enough, much cheaper
    ),
    task=Pose(people=8, sigma=2.5, width=2),
)

if __name__ == "__main__":
    cli.run(experiment)
