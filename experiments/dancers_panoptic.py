"""A U-Net tells drawn dancers apart: body parts, floor, wall, and who is who.

python experiments/dancers_panoptic.py
"""

from seg_jax import cli
from seg_jax.augment import Augment
from seg_jax.config import Experiment
from seg_jax.datasets import Dancers
from seg_jax.models import UNet
from seg_jax.optimiser import AdamW
from seg_jax.tasks import Panoptic

experiment = Experiment(
    name="dancers_panoptic",
    model=UNet(
        outputs=9,  # six classes, the centre and its two offsets
        features=(16, 32, 48, 64, 96, 128, 128),
        convs=(1, 2, 2, 2, 2, 2, 2),
    ),
    data=Dancers(train=800),
    task=Panoptic(objects=16),
    size=(192, 192),
    epochs=20,
    batch_size=8,
    optimiser=AdamW(learning_rate=2e-3),
    augment=Augment(flip=True),
    average=0.99,
    evaluate_every=4,
)

if __name__ == "__main__":
    cli.run(experiment)
