"""A U-Net separates cell nuclei, also touching ones: 200 images of the 2018 Data Science Bowl.

    python experiments/nuclei_panoptic.py --data.raw PATH/TO/stage1_train

Protocol: 140 images for training, 20 for validation, 40 for testing, by a committed list in which
each part has the same proportions of the kinds of images. All are fluorescence images of 256×256,
enlarged to 384×384; from scratch.

Score on the 40 at their own size (`own_size` in scores.json), seeds 0, 1 and 2: AP at 0.5 as in the
Bowl 0.822, 0.824 and 0.820, PQ 0.740, 0.740 and 0.732, after 15 to 21 minutes on 2 CPU cores that
did other things at the same time. The validation score rose until the end. The same network with a
border class and a watershed (`benchmarks/nuclei_watershed.py`), seed 0: 0.756. At 256×256 the three
seeds had 0.792, 0.808 and 0.806, and with a watershed 0.774. Published results on the whole data
set: 0.83 (Mask R-CNN) to 0.86 (StarDist).
"""

from seg_jax import cli
from seg_jax.datasets import Nuclei
from seg_jax.losses import Loss
from seg_jax.models import UNet
from seg_jax.optimiser import Muon
from seg_jax.pipeline.augment import Augment
from seg_jax.run.config import Experiment
from seg_jax.tasks import Panoptic

experiment = Experiment(
    name="nuclei_panoptic",
    model=UNet(
        features=(8, 24, 48, 96, 128, 128),
        convs=(1, 2, 2, 2, 2, 2),
        decoder=(128, 96, 48, 24, 0),  # at the full size a 1×1 head is enough, much cheaper
    ),
    data=Nuclei(),
    task=Panoptic(
        Loss(cross_entropy=1.0, dice=1.0),
        centre_weight=30,
        offset_weight=0.1,
        sigma=3.75,
        threshold=0.3,
        window=9,
        max_objects=128,
        min_area=27,
    ),
    size=(384, 384),
    standardise=True,
    epochs=20,
    batch_size=4,
    optimiser=Muon(),
    augment=Augment(
        flip=True,
        rotate90=True,
        rotate=45,
        scale=(0.7, 1.4),
        brightness=0.3,
        contrast=0.4,
        blur=0.7,
    ),
    ema_decay=0.99,
    evaluate_every=4,
)

if __name__ == "__main__":
    cli.run(experiment)
