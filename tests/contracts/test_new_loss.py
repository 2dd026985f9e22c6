"""A new loss touches two files, its class and the recipe that uses it (docs/extending.md)."""

from pathlib import Path

import pytest
from recipes import copy_with, files_of, told_by

TITLE = "Add a loss"
VALUE = """
import torch

from bids_sr.sr.method import get_method

terms = get_method("resnet3d").recipes["fast"].losses
assert [(term.kind, term.build.__name__, term.weight) for term in terms] == [
    ("content", "MSE", 1.0),
    ("content", "SlopeError", 0.1),
]
content, slope = (term.build() for term in terms)
target = torch.zeros(2, 1, 4, 3, 2)
ramp = target + torch.tensor([0.0, 1.0, 2.0, 6.0])[:, None, None]
weight = torch.ones_like(target)
assert slope(ramp, target, weight) == 2.0  # of slopes 1, 1 and 4
weight[:, :, 3] = 0
assert slope(ramp, target, weight) == 1.0
assert slope(ramp + 5, ramp, weight) == 0.0
assert content(ramp + 5, ramp, weight) == 25.0
"""
TRAINING = """
import json
from pathlib import Path

import nibabel as nib
from sandbox import AFFINE, SHAPE, head

from bids_sr.model_commands.cli.main import main

nib.save(nib.Nifti1Image(head(SHAPE), AFFINE), "a_T1w.nii.gz")
assert main(["train", "ccnn3d", "m", "--fine", "a_T1w.nii.gz", "--max-minutes", "0.0001"]) == 0
print(json.loads(Path("m.json").read_text())["settings"]["losses"])
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the package with the lines of the page."""
    return copy_with(TITLE, tmp_path_factory.mktemp("package"))


def test_the_loss_of_the_page_is_built_by_the_recipe(package: Path) -> None:
    assert files_of(TITLE) == {"bids_sr/networks/losses/image.py", "bids_sr/sr/methods/ccnn3d.py"}
    told_by(package, VALUE)


def test_a_model_is_trained_with_the_loss_of_the_page(package: Path) -> None:
    losses = told_by(package, TRAINING).splitlines()[-1]
    assert losses == "{'content:MSE': 1.0, 'content:SlopeError': 0.1}"
