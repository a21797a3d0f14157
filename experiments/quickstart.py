"""A U-Net learns to segment drawn moles, without any download; `make demo` runs it.

    python experiments/quickstart.py

Protocol: the data set `Nevi`, which is drawn: 160 images for training, 20 for validation, 60 for
testing; 128×128.

Score on the test images, seed 0: Dice 0.969 [0.962, 0.975], IoU 0.941, accuracy 0.984. Training
takes one minute on 2 CPU cores.
"""

from seg_jax import cli
from seg_jax.datasets import Nevi
from seg_jax.losses import Loss
from seg_jax.models import UNet
from seg_jax.optimiser import AdamW
from seg_jax.pipeline.augment import Augment
from seg_jax.run.config import Experiment
from seg_jax.tasks import Semantic

experiment = Experiment(
    name="quickstart",
    model=UNet(features=(8, 16, 32, 64, 128)),
    data=Nevi(train=160, val=20, test=60),
    size=(128, 128),
    epochs=12,
    batch_size=8,
    task=Semantic(Loss(cross_entropy=1.0, dice=1.0)),
    optimiser=AdamW(learning_rate=3e-3),
    augment=Augment(flip=True, rotate90=True),
    evaluate_every=3,
    log_every=10,
)

if __name__ == "__main__":
    cli.run(experiment)
