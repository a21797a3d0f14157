"""A SegNet with pooling indices cuts the human body out of the frames of MADS.

    python experiments/mads_segnet.py --data.raw PATH/TO/archive.zip

Protocol: as `mads_unet.py`; everything but the network is the same.

Not yet trained to the end, so no score is given here.
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
