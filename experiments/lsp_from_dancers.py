"""`dancers_pose.py` trained further on the 200 training photographs of `lsp_pose.py`.

    python experiments/dancers_pose.py
    python experiments/lsp_from_dancers.py --data.raw PATH/TO/lsp

Protocol: as `lsp_pose.py`, but 192×192, with the network of `dancers_pose.py` and from its weights.

Score, seed 0: OKS AP 0.070 [0.032, 0.117], AP50 0.155, PCK@0.2 0.309 (neck 0.63, head 0.50,
shoulders 0.39, wrists 0.31, ankles 0.17), after 13 minutes on 2 CPU cores that tested other things
at the same time. From scratch (`--weights-from None`), AP is 0.000 and PCK 0.009; with three times
the steps at three times the learning rate, 0.015 and 0.182.
"""

import dataclasses
from pathlib import Path

from dancers_pose import experiment as dancers
from lsp_pose import experiment as lsp

from seg_jax import cli
from seg_jax.optimiser import Muon

experiment = dataclasses.replace(
    lsp,
    name="lsp_from_dancers",
    model=dancers.model,
    task=dataclasses.replace(dancers.task, max_people=4, min_score=0.1),
    size=dancers.size,
    weights_from=Path("runs/dancers_pose"),
    epochs=20,
    optimiser=Muon(learning_rate=0.01, adam_learning_rate=1e-3),
    evaluate_every=5,
)

if __name__ == "__main__":
    cli.run(experiment)
