"""The model trained on a phantom that ships with the package: benchmarks/phantom_models.py PHANTOM
[OUT].

PHANTOM is made by `bids-sr-phantom`. OUT, boilerplate/models by default, gets srgan_phantom,
weights and card. It is the placebo "not this subject": what it reaches is owed to no one's own
pair. It may be used with --pretrained, at their own risk: the head it learned from was simulated.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _files import FACTOR, one
from _pair import Pair

from bids_sr.io.nifti import load_image
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import hr_grid, read_itk
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.trainer import fit

MODELS = Path(__file__).parents[1] / "boilerplate" / "models"
NAME, LIMIT = "srgan_phantom", 2_000_000  # bytes


def pair_of(root: Path) -> Pair:
    """The phantom's pair, the fine image brought into the pose of the coarse one by the known
    transform.
    """
    lowres, affine = load_image(one(root, "sub-*/anat/*acq-lowres_T2starw.nii.gz"))
    highres, own = load_image(one(root, "sub-*/anat/*acq-highres_T2starw.nii.gz"))
    truth = root / "derivatives" / "ground-truth"
    to_highres = np.linalg.inv(read_itk(one(truth, "sub-*/anat/*from-highres_to-lowres*.txt"))[0])
    shape, grid = hr_grid(lowres.shape, affine, FACTOR)
    return Pair(
        lowres=lowres,
        highres=sample_volume(highres, own, shape, grid, to_highres),
        mask=brain_mask(lowres, affine),
        lowres_affine=affine,
        factor=FACTOR,
    )


def save_within(
    limit: int, stem: Path, state: Mapping[str, Any], card: Mapping[str, Any], more: str = ""
) -> None:
    """Save a model for the package and say how large it is; ends the program where it is larger
    than it may be.
    """
    weights = save_model(stem, state, card)[0]
    size = weights.stat().st_size
    sys.stdout.write(f"{weights.name}: {size} bytes{more}\n")
    if size > limit:
        sys.exit(f"{weights} has {size} bytes; {limit} are allowed")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phantom", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=MODELS)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    given.out.mkdir(exist_ok=True, parents=True)
    about = json.loads((given.phantom / "dataset_description.json").read_text())["Name"]
    method = get_method("srgan")
    with tempfile.TemporaryDirectory() as work:
        made = fit(
            TrainingRequest(
                method=method, recipe="fast", changed=method.recipes["fast"], threads=given.threads
            ),
            pair_of(given.phantom),
            Path(work),
        )
    card = dict(made.card) | {"trained_with": about}
    save_within(LIMIT, given.out / NAME, made.state, card, f", held out {made.card['held_out']}")


if __name__ == "__main__":
    main()
