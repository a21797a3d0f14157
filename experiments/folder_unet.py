"""A U-Net learns from a folder of your own: images/ and masks/, paired by name.

    python experiments/folder_unet.py --data.path PATH/TO/FOLDER
    python experiments/folder_unet.py --data.path PATH/TO/FOLDER --model.outputs 3 \
        --data.classes background road car

Protocol: masks of 0 and 1 (or 0 and 255) for one class, of class numbers for several; 70 % of the
images to train, 10 % to validate, 20 % to test, chosen by their names, unless the folder is split
into train/, val/ and test/. Every file that can't be used is named before training starts.
"""

from pathlib import Path

from seg_jax import cli
from seg_jax.datasets import Folder
from seg_jax.losses import Loss
from seg_jax.models import UNet
from seg_jax.optimiser import AdamW
from seg_jax.pipeline.augment import Augment
from seg_jax.run.config import Experiment
from seg_jax.tasks import Semantic

experiment = Experiment(
    name="folder_unet",
    model=UNet(features=(16, 32, 64, 128, 256), outputs=1),
    data=Folder(path=Path("data/mine"), classes=("foreground",)),
    size=(256, 256),
    epochs=50,
    batch_size=8,
    task=Semantic(Loss(cross_entropy=1.0, dice=1.0)),
    optimiser=AdamW(learning_rate=1e-3),
    augment=Augment(
        flip=True, rotate=20, scale=(0.8, 1.25), brightness=0.2, contrast=0.2, saturation=0.2
    ),
    average=0.99,
    evaluate_every=5,
)

if __name__ == "__main__":
    cli.run(experiment)
