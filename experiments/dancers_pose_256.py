"""`dancers_pose.py` trained further at 256×256, where small people have more pixels.

    python experiments/dancers_pose.py
    python experiments/dancers_pose_256.py

Protocol: as `dancers_pose.py`, but the same images drawn at 256×256.

Score, seed 0: OKS AP 0.684 [0.644, 0.715], AP50 0.894, PCK@0.2 0.813 (shoulders 0.88, ankles 0.75,
wrists 0.65), after 69 minutes more on 2 CPU cores that tested other things at the same time. The
validation score was best after two thirds of the steps. Averaging predictions at other sizes didn't
improve it.
"""

import dataclasses
from pathlib import Path

from dancers_pose import experiment as at_192

from seg_jax import cli
from seg_jax.optimiser import Muon

experiment = dataclasses.replace(
    at_192,
    name="dancers_pose_256",
    data=dataclasses.replace(at_192.data, size=256),
    size=(256, 256),
    weights_from=Path("runs/dancers_pose"),
    epochs=2.25,
    optimiser=Muon(learning_rate=0.015, adam_learning_rate=1e-3),
    evaluate_every=0.75,
    test_scales=(1.0,),
)

if __name__ == "__main__":
    cli.run(experiment)
