"""A SegNet with pooling indices segments the human body in the frames of MADS.

    python experiments/mads_segnet.py --data.raw PATH/TO/archive.zip

Protocol: as `mads_unet.py`; everything but the network is the same.

It hasn't been trained to the end yet, so no score is given here.
"""

import dataclasses

from mads_unet import experiment as unet

from seg_jax import cli
from seg_jax.models import SegNet

experiment = dataclasses.replace(
    unet,
    name="mads_segnet",
    model=SegNet(features=(8, 24, 48, 96, 128, 128), convs=(1, 2, 2, 2, 2, 2)),
)

if __name__ == "__main__":
    cli.run(experiment)
