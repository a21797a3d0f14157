"""A tiny PH² in the shape of its archive."""

import numpy as np
from PIL import Image

from seg_jax.datasets.ph2 import IDS

LEGEND = "\r\n\r\nLegends for Clinical Diagnosis: \r\n   0 - Common Nevus;\r\n   2 - Melanoma.\xb2"
HEADER = (
    "||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment Network | "
    "Dots/Globules | Streaks | Regression Areas | Blue-Whitish Veil ||           Colors ||\r\n"
)
ROW = "|| {} ||      {:>14} ||       {} ||   {} |   AT |    A |   P |   A |  P ||  3  4 ||\r\n"


def image_file(root, name):
    """Where the archive has an image, below the folder of all images."""
    return root / name / f"{name}_Dermoscopic_Image" / f"{name}.bmp"


def mask_file(root, name):
    """Where the archive has a mask, below the folder of all images."""
    return root / name / f"{name}_lesion" / f"{name}_lesion.bmp"


def pixels(index):
    """An image of 8×6 and its mask, different for each index."""
    random = np.random.RandomState(index)
    return random.randint(0, 256, (6, 8, 3), np.uint8), random.rand(6, 8) < 0.5


def diagnosis(index):
    """0 is a common nevus, 1 an atypical nevus and 2 a melanoma."""
    return 0 if index < 80 else 1 if index < 160 else 2


def write(top):
    """Writes all images, with every third mask stored with 24 bits; returns the folder."""
    root = top / "PH2Dataset" / "PH2 Dataset images"
    rows = []
    for index, name in enumerate(IDS):
        image, mask = pixels(index)
        for path, picture in (
            (image_file(root, name), Image.fromarray(image)),
            (mask_file(root, name), Image.fromarray(mask)),
        ):
            path.parent.mkdir(parents=True)
            (picture.convert("RGB") if index % 3 == 0 else picture).save(path)
        histology = "Melanoma" if diagnosis(index) == 2 else ""
        rows.append(ROW.format(name, histology, diagnosis(index), index % 3))
    roi = root / IDS[0] / f"{IDS[0]}_roi" / f"{IDS[0]}_R1_Label4.bmp"
    roi.parent.mkdir()
    Image.new("1", (8, 6)).save(roi)
    table = HEADER + "".join(reversed(rows)) + LEGEND
    (top / "PH2Dataset" / "PH2_dataset.txt").write_bytes(table.encode("latin-1"))
    return top
