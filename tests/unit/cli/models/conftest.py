"""Scans and models that all tests of the commands share."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from data.scans import save_pair, save_untrained

from bids_sr.cli.models.commands.main import main
from bids_sr.io.nifti import load_image, save_image


@dataclass(frozen=True)
class Files:
    """A pair, a short series, and models: with random weights, and trained for three steps."""

    high: Path
    low: Path
    bold: Path
    untrained: Path
    trained: Path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("scans")
    high, low = save_pair(folder, "sub-01", "T2starw")
    values, affine = load_image(low)
    series = np.stack([values * (1 + 0.01 * t) for t in range(3)], -1).astype(np.float32)
    save_image(series, affine, bold := folder / "sub-01_task-x_bold.nii.gz", tr=1.5)
    untrained = save_untrained(folder / "srgan")
    trained = folder / "unet.safetensors"
    settings = ("filters=4", "iterations=3", "batch=1")
    line = ["train", "unet", str(trained), "--fine", str(high), "--coarse", str(low)]
    assert main([*line, "--set", *settings]) == 0
    return Files(high, low, bold, untrained, trained)
