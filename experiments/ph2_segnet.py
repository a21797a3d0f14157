"""A SegNet with pooling indices segments moles in dermoscopic images: PH², 200 images.

    python experiments/ph2_segnet.py --data.raw PATH/TO/PH2Dataset
    python experiments/ph2_segnet.py --data.split ordered --epochs 120 \\
        --workdir runs/ph2_segnet_ordered

Protocol: as `ph2_unet.py`; everything but the network is the same.

Score, seed 0: on the 20 test images of `lesson` Dice 0.931 [0.903, 0.952], IoU 0.875, accuracy
0.952, after 22 minutes on 2 CPU cores that compiled and tested other things at the same time; on
the 100 of `ordered` Dice 0.910 [0.891, 0.926], IoU 0.845, accuracy 0.931, after 14 minutes.
"""

import dataclasses

from ph2_unet import experiment as unet

from seg_jax import cli
from seg_jax.models import SegNet

experiment = dataclasses.replace(
    unet,
    name="ph2_segnet",
    model=SegNet(features=(8, 24, 48, 96, 128, 128), convs=(1, 2, 2, 2, 2, 2)),
)

if __name__ == "__main__":
    cli.run(experiment)
