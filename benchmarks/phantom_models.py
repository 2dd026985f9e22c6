"""Train a model on a simulated head, which the package distributes as a control of srgan.

python benchmarks/phantom_models.py PHANTOM OUT

PHANTOM is made by `bids-sr-phantom` (preset demo). OUT.safetensors and OUT.json are written. In
the series `srganPhantom`, this model replaces the participant's model: its accuracy cannot depend
on the participant's pair. `boilerplate/models/dcnet_phantom`, the control of dcnet, was made by
version 0.1.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from bids_sr.io.nifti import load_image
from bids_sr.spatial.itk_files import read_itk
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.models.model import save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.images import TrainingImage, pair_image
from bids_sr.sr.networks.training.trainer import train_network

FACTOR = (2.0, 2.0, 1.0)


def only_file(root: Path, pattern: str) -> Path:
    """Return the only file that matches a pattern."""
    (path,) = root.glob(pattern)
    return path


def pair_of(root: Path, participant: str = "sub-*") -> TrainingImage:
    """Return a participant's pair, with the high-resolution image resampled to the low-resolution
    position.
    """
    lowres, affine = load_image(only_file(root, f"{participant}/anat/*acq-lowres_T2starw.nii.gz"))
    highres, highres_affine = load_image(
        only_file(root, f"{participant}/anat/*acq-highres_T2starw.nii.gz")
    )
    truth = root / "derivatives" / "ground-truth"
    to_highres = np.linalg.inv(
        read_itk(only_file(truth, f"{participant}/anat/*from-highres_to-lowres*.txt"))[0]
    )
    shape, grid = hr_grid(lowres.shape, affine, FACTOR)
    moved = sample_volume(highres, highres_affine, shape, grid, to_highres)
    return pair_image(lowres, moved, brain_mask(lowres, affine) > 0, affine, FACTOR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("phantom", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    about = json.loads((arguments.phantom / "dataset_description.json").read_text())["Name"]
    request = ModelRequest(method="srgan", factor=FACTOR, omp_nthreads=1)
    work = arguments.out.with_name(
        f"{arguments.out.name}.work"
    )  # a stopped training resumes from there
    trained = train_network(request, (pair_of(arguments.phantom),), work)
    weights, _ = save_model(
        arguments.out, trained.state, dict(trained.card) | {"trained_with": about}
    )
    sys.stdout.write(f"{weights}: {weights.stat().st_size} bytes, {trained.card['held_out']}\n")


if __name__ == "__main__":
    main()
