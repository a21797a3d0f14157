"""A SegNet with pooling indices segments nevi in dermoscopic images: PH², 200 images.

    python experiments/ph2_segnet.py --data.raw PATH/TO/PH2Dataset
    python experiments/ph2_segnet.py --data.split ordered --epochs 80 --workdir runs/ordered

Protocol: as `ph2_unet.py`; everything but the network is the same.

Score on the lesson's 20 test images, seed 0: Dice 0.921 [0.890, 0.946], IoU 0.860, accuracy 0.947.
Training took 29 minutes on 2 CPU cores that were busy with other work.
"""

import dataclasses

from ph2_unet import experiment as unet

from seg_jax import cli
from seg_jax.models import SegNet

experiment = dataclasses.replace(
    unet,
    name="ph2_segnet",
    model=SegNet(features=(8, 16, 32, 64, 128), convs=(1, 2, 2, 2, 2)),
)

if __name__ == "__main__":
    cli.run(experiment)
