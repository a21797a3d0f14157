"""A U-Net separates the things and the stuff of COCO (Kirillov et al. 2019): 133 categories.

    python experiments/coco_panoptic.py --data.root PATH/TO/coco --batch-size 256

Protocol: train2017 for training, except 1 % of it for validation; val2017 for testing; from
scratch. The folder holds train2017/, val2017/ and annotations/ with panoptic_{train,val}2017.json
and their PNGs. At the first start every host resizes all images and writes them into --cache, from
which the steps read them: 118,287 images of 6 bytes a pixel, 47 GB at 256×256 (computed, not
measured).

It hasn't been trained here. It was only run on a few images with COCO's annotations, so there is
no score to expect. Plan it first, with COCO's annotations, which name the categories, in data/coco:
`seg-jax plan experiments/coco_panoptic.py --topology v5e:4x4 --batch-size 256`.
"""

from pathlib import Path

from seg_jax import cli
from seg_jax.datasets import CocoPanoptic
from seg_jax.models import UNet
from seg_jax.optimiser import AdamW
from seg_jax.pipeline.augment import Augment
from seg_jax.run.config import Experiment
from seg_jax.tasks import Panoptic

experiment = Experiment(
    name="coco_panoptic",
    model=UNet(
        features=(64, 128, 256, 512, 512, 512),
        dtype="bfloat16",
    ),
    data=CocoPanoptic(root=Path("data/coco"), val=0.01),
    task=Panoptic(max_objects=128),
    cache=Path("data/coco_panoptic_256"),
    size=(256, 256),
    epochs=60,
    batch_size=256,
    optimiser=AdamW(learning_rate=2e-3),
    augment=Augment(
        flip=True, scale=(0.7, 1.6), translate=0.2, brightness=0.3, contrast=0.3, saturation=0.3
    ),
    ema_decay=0.999,
    evaluate_every=5,
)

if __name__ == "__main__":
    cli.run(experiment)
