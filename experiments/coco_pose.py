"""A U-Net finds the 17 joints of all people in COCO's photographs (Lin et al. 2014).

    python experiments/coco_pose.py --data.root PATH/TO/coco --batch-size 256

Protocol: train2017 for training, except 1 % of it for validation; val2017 for testing; from
scratch. The folder holds train2017/, val2017/ and
annotations/person_keypoints_{train,val}2017.json. At the first start every host resizes all images
and writes them into --cache, from which the steps read them (4 bytes a pixel, 31 GB at 256×256;
computed, not measured). Crowds and people without joints count in no loss.

It hasn't been trained here. It was only run on a few images with COCO's annotations, so there is
no score to expect.
"""

from pathlib import Path

from seg_jax import cli
from seg_jax.datasets import CocoKeypoints
from seg_jax.models import UNet
from seg_jax.optimiser import AdamW
from seg_jax.pipeline.augment import Augment
from seg_jax.run.config import Experiment
from seg_jax.tasks import Pose

experiment = Experiment(
    name="coco_pose",
    model=UNet(
        features=(64, 128, 256, 512, 512, 512),
        stride=4,
        dtype="bfloat16",
    ),
    data=CocoKeypoints(root=Path("data/coco"), val=0.01),
    task=Pose(max_people=30, sigma=4, width=3),
    cache=Path("data/coco_pose_256"),
    size=(256, 256),
    epochs=60,
    batch_size=256,
    optimiser=AdamW(learning_rate=2e-3),
    augment=Augment(
        flip=True,
        rotate=30,
        scale=(0.7, 1.6),
        translate=0.2,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
    ),
    ema_decay=0.999,
    evaluate_every=5,
)

if __name__ == "__main__":
    cli.run(experiment)
