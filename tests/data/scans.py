"""Write scans of made-up heads and untrained models, for tests of training and evaluation."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bids_sr.io.nifti import save_image
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model

FACTOR = (2.0, 2.0, 1.0)
AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 4, -12], [0, 0, 0, 1]])
"""Voxels of 3 x 3 x 4 mm."""


def scan(seed: int = 0, shape: Sequence[int] = (24, 28, 6)) -> np.ndarray:
    """Return a textured cylinder with noise on a dark background; texture depends on `seed`."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(shape, float)
    x_unit, y_unit = (2 * at / (n - 1) - 1 for at, n in zip((x, y), shape, strict=False))
    texture = 500 + 100 * np.sin(x * (0.5 + 0.1 * seed)) * np.cos(0.7 * y) + 20 * z
    values = np.where((x_unit**2 + y_unit**2) < 0.8, texture, 5) + rng.normal(0, 5, shape)
    return np.asarray(values, np.float32)


def save_pair(folder: Path, participant: str, contrast: str, seed: int = 0) -> tuple[Path, Path]:
    """Write a scan and its k-space crop by `FACTOR`; return both files."""
    fine, low = (
        folder / f"{participant}_acq-{resolution}_{contrast}.nii.gz"
        for resolution in ("high", "low")
    )
    values, affine = kspace_crop(scan(seed), AFFINE, factor=FACTOR)
    save_image(scan(seed), AFFINE, fine)
    save_image(values.astype(np.float32), affine, low)
    return fine, low


def save_untrained(
    stem: Path, method: str = "srgan", *, channels: int = 1, **card: object
) -> Path:
    """Write a model with random weights, and return the file of the weights."""
    import torch

    torch.manual_seed(0)
    recipe = get_method(method).recipes["fast"]
    network = recipe.build_generator(channels, FACTOR)
    for parameter in network.parameters():  # otherwise, the last layer of most networks is zero
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.01)
    content = {
        "method": method,
        "recipe": "fast",
        "channels": channels,
        "factor": list(FACTOR),
        "contrast": "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [6.0, 6.0, 4.0]},
        "settings": {"edition": recipe.edition},
        **card,
    }
    return save_model(stem, network.state_dict(), content)[0]


def read_rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a table."""
    with file.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))
