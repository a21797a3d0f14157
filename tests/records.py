"""Records of the images of a batch, as evaluation makes them."""

import jax
import numpy as np


def images_of(tree):
    """What belongs to each image of a batch, in NumPy without the batch axis."""
    tree = jax.tree.map(np.asarray, tree)
    count = len(jax.tree.leaves(tree)[0])
    return [jax.tree.map(lambda x, k=k: x[k], tree) for k in range(count)]


def records_of(task, labels, measured):
    """The records of the images that were measured in a batch."""
    return [task.record(labels, each) for each in images_of(measured)]
