"""Tiny images and joints of Leeds Sports Pose."""

import numpy as np
import scipy.io
from PIL import Image

WIDTH, HEIGHT = 12, 9


def write(root, joints, names):
    """Writes images/ with images of these names, and joints.mat; returns the folder."""
    (root / "images").mkdir(parents=True)
    for name in names:
        Image.new("RGB", (WIDTH, HEIGHT), (200, 0, 0)).save(root / f"images/{name}.jpg")
    scipy.io.savemat(root / "joints.mat", {"joints": joints})
    return root


def extended_joints():
    """Joints of 300 people between (2, 3) and (6, 8); the last one's x tells the image's number."""
    random = np.random.RandomState(0)
    joints = np.ones((14, 3, 300))
    joints[:, :2] = random.uniform([[2], [3]], [[6], [8]], (14, 2, 300))
    joints[0, :2], joints[1, :2] = [[2], [3]], [[6], [8]]
    joints[2] = [[0], [-26.5], [0]]
    joints[13, 0] = np.arange(300) / 100 + 2
    return joints
