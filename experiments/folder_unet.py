"""A U-Net learns from a folder of your own: images/ and masks/, paired by name.

    python experiments/folder_unet.py --data.path PATH/TO/FOLDER
    python experiments/folder_unet.py --data.path PATH/TO/FOLDER --data.classes background road car
    python experiments/folder_unet.py --data.path PATH/TO/FOLDER --size 1024 1024 \\
        --augment.crop 256 256

Protocol: masks hold 0 and 1 (or 0 and 255) for one class, class numbers for several. 70 % of the
images are for training, 10 % for validation and 20 % for testing, chosen by their names, unless the
folder is split into train/, val/ and test/. Every file that can't be used is named before training
starts. With --augment.crop, the network is trained on random crops.
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
    model=UNet(features=(16, 32, 64, 128, 256)),
    data=Folder(path=Path("data/mine"), classes=("foreground",)),
    size=(256, 256),
    epochs=50,
    batch_size=8,
    task=Semantic(Loss(cross_entropy=1.0, dice=1.0)),
    optimiser=AdamW(learning_rate=1e-3),
    augment=Augment(
        flip=True, rotate=20, scale=(0.8, 1.25), brightness=0.2, contrast=0.2, saturation=0.2
    ),
    ema_decay=0.99,
    evaluate_every=5,
)

if __name__ == "__main__":
    cli.run(experiment)
