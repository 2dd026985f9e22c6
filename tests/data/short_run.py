"""Write a short block-design run of a made-up head on a small grid, for tests of whole methods."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from bids_sr.io.nifti import save_image
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.matrices import kspace_crop

FACTOR = (2.0, 2.0, 1.0)
COUNT, DUMMIES, TR = 84, 2, 2.0
FINE = np.diag([1.5, 1.5, 4, 1.0])
EVENTS = pd.DataFrame(
    [
        {"onset": 8.0 + 20.0 * k, "duration": 10.0, "trial_type": ("thumb", "little")[k % 2]}
        for k in range(8)
    ]
)


def make_run(folder: Path, shape: tuple[int, int, int] = (60, 56, 5)) -> Path:
    """Write the files of the run and return the folder.

    The files are fine.nii and low.nii (a pair), truth.nii, bold.nii, mask.nii, events.tsv and
    hmc.txt. On a smaller matrix, the head is also smaller.
    """
    rng = np.random.default_rng(0)
    x, y, _ = np.indices(shape, dtype=float) * 60 / shape[0]
    head = ((x - 29) / 23) ** 2 + ((y - 28) / 25) ** 2 < 1
    anatomy = (
        head * (600 + 300 * gaussian_filter(rng.standard_normal(head.shape), (1.2, 1.2, 0)))
    ).astype(np.float32)
    where = head * (np.abs(np.sin(x / 3.1 + 0.8 * np.sin(y / 7))) > 0.85) * (1 + (x > 30))
    white = gaussian_filter(rng.standard_normal((12, *head.shape)), (0, 1.5, 1.5, 0))
    modes = 20 * where * white / white.std()
    time = TR * np.arange(COUNT)
    courses = rng.standard_normal((COUNT, 12))
    for k, condition in enumerate(("thumb", "little")):
        courses[:, k] = 0.3 * courses[:, k]
        for onset in EVENTS.onset[EVENTS.trial_type == condition]:
            courses[(time >= onset + 4) & (time < onset + 14), k] += 2.0
    lowres, affine = kspace_crop(anatomy, FINE, factor=FACTOR)
    fine = np.stack([anatomy + np.tensordot(course, modes, 1) for course in courses], -1).astype(
        np.float32
    )
    bold = np.stack([kspace_crop(fine[..., t], FINE, factor=FACTOR)[0] for t in range(COUNT)], -1)
    bold = (1.5 * bold + rng.normal(0, 0.5, bold.shape)).astype(np.float32)
    bold[..., :DUMMIES] *= 1.3
    poses = np.repeat(np.eye(4)[None], COUNT, 0)
    poses[:, 0, 3] = 0.005 * np.arange(COUNT)
    save_image(anatomy, FINE, folder / "fine.nii")
    save_image(lowres, affine, folder / "low.nii")
    save_image(1.5 * fine, FINE, folder / "truth.nii", tr=TR)
    save_image(head[::2, ::2].astype(np.uint8), affine, folder / "mask.nii", dtype=np.uint8)
    save_image(bold, affine, folder / "bold.nii", tr=TR)
    save_image(bold, affine, folder / "bold.nii.gz", tr=TR)
    save_image(bold[..., DUMMIES:].mean(-1), affine, folder / "boldref.nii")
    EVENTS.to_csv(folder / "events.tsv", sep="\t", index=False)
    write_itk(folder / "hmc.txt", poses)
    write_itk(folder / "still.txt", np.eye(4)[None])
    return folder
