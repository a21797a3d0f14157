"""A U-Net finds the joints of athletes: 300 photographs of Leeds Sports Pose.

    python experiments/lsp_pose.py --data.raw PATH/TO/lsp

Protocol: 200 photographs for training, 20 for validation, 80 for testing, by a committed list; one
annotated person each; 160×160, from scratch.

Score, seed 0: OKS AP 0.001, AP50 0.007, PCK@0.2 0.168 (neck 0.39, head 0.39, ankles 0.11, wrists
0.07), after 27 minutes on 2 CPU cores that did other things at the same time. This isn't usable:
there are too few photographs, and the training from scratch is too short.
"""

from seg_jax import cli
from seg_jax.datasets import Lsp
from seg_jax.models import UNet
from seg_jax.optimiser import Muon
from seg_jax.pipeline.augment import Augment
from seg_jax.run.config import Experiment
from seg_jax.tasks import Pose

experiment = Experiment(
    name="lsp_pose",
    model=UNet(
        features=(16, 32, 64, 96, 128, 128, 128),
        convs=(1, 2, 2, 2, 2, 2, 2),
        decoder=(128, 128, 96, 64, 32, 0),
    ),
    data=Lsp(),
    task=Pose(max_people=4, sigma=5, width=4, min_score=0.1),
    size=(160, 160),
    epochs=60,
    batch_size=8,
    optimiser=Muon(),
    augment=Augment(
        flip=True,
        rotate=40,
        scale=(0.7, 1.4),
        translate=0.1,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
        hue=15,
    ),
    ema_decay=0.99,
    evaluate_every=10,
)

if __name__ == "__main__":
    cli.run(experiment)
