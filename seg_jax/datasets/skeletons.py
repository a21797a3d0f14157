"""Skeletons that several data sets share."""

from seg_jax.labels import Skeleton

LSP_SKELETON = Skeleton(
    # Names and order: Johnson and Everingham, "Clustered Pose and Nonlinear Appearance Models for
    # Human Pose Estimation", BMVC 2010, the data set's README.
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "neck", "head_top",
    ),
    # The kinematic tree with its root at the neck.
    limbs=(
        (0, 1), (1, 2), (2, 12), (5, 4), (4, 3), (3, 12),
        (6, 7), (7, 8), (8, 12), (11, 10), (10, 9), (9, 12), (12, 13),
    ),
    # Follows from the names: a mirror image swaps right and left.
    mirrored=(5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13),
    # COCO's keypoint evaluation (`Params.setKpParams` in pycocotools' cocoeval.py), which has no
    # neck and no head top: CrowdPose's evaluation gives both a sigma of 0.079, the shoulder's.
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089,
        0.062, 0.072, 0.079, 0.079, 0.072, 0.062, 0.079, 0.079,
    ),
)  # fmt: skip
"""The 14 joints of the Leeds Sports Pose data set, right and left being the person's own."""
