"""A U-Net finds the skeletons of any number of drawn dancers, also where they overlap.

    python experiments/dancers_pose.py

Protocol: as `dancers_panoptic.py`, but 12000 training images of 192×192, which take five minutes to
draw.

Score, seed 0: OKS AP 0.650 [0.607, 0.684], AP50 0.872, PCK@0.2 0.794 (shoulders 0.86, ankles 0.74,
wrists 0.63), after 113 minutes on 2 CPU cores that tested other things at the same time. The
validation score rose until the end.
"""

import dataclasses

from dancers_panoptic import experiment as panoptic

from seg_jax import cli
from seg_jax.tasks import Pose

experiment = dataclasses.replace(
    panoptic,
    name="dancers_pose",
    data=dataclasses.replace(panoptic.data, train=12000, size=192),
    model=panoptic.model.clone(
        features=(16, 32, 64, 128, 192, 192),
        decoder=(192, 128, 96),
        stride=4,
    ),
    task=Pose(max_people=8, sigma=4, width=3),
    size=(192, 192),
    epochs=6,
    evaluate_every=1,
    test_scales=(1.0, 4 / 3),
)

if __name__ == "__main__":
    cli.run(experiment)
