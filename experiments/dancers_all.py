"""One U-Net finds body parts, objects and skeletons of drawn dancers at once.

    python experiments/dancers_all.py

Protocol: as `dancers_panoptic.py`. It runs, but hasn't been trained to the end, so what sharing a
network costs or gains isn't known yet.
"""

import dataclasses

from dancers_panoptic import experiment as panoptic
from dancers_pose import experiment as pose

from seg_jax import cli
from seg_jax.tasks import Together

experiment = dataclasses.replace(
    panoptic,
    name="dancers_all",
    model=panoptic.model.clone(outputs=panoptic.model.outputs + pose.model.outputs),
    task=Together(panoptic=panoptic.task, pose=pose.task),
)

if __name__ == "__main__":
    cli.run(experiment)
