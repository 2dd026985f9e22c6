"""Maps of a phantom against the activity that was put in, for every series and smoothing.

python benchmarks/phantom_truth.py PHANTOM OUT      (OUT: of --level full, which stores the maps of
all series)

The true maps lie in the pose of the first steady volume; the estimated head motion of that volume
tells where a point of the run's own reference lies in it.  The focus of a condition is searched
among the voxels that are nearer to it than to any other focus of that condition, within 15 mm.
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from _table import keep
from scipy import ndimage
from scipy.spatial import cKDTree

from bids_sr.io.nifti import load_image
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import read_itk

FAR_MM = 8.0
NEAR_MM = 15.0
BIG = 5


def world(shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """World coordinates of every voxel center, (X, Y, Z, 3)."""
    return nib.affines.apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))


class Truth:
    """What was put into one run, in the frame of the run's own reference."""

    def __init__(self, phantom: Path, out: Path) -> None:
        folder = phantom / "derivatives" / "ground-truth" / "sub-01" / "func"
        self.stem = "sub-01_task-tap"
        self.folder, self.func = folder, out / "sub-01" / "func"
        sidecar = json.loads((folder / f"{self.stem}_desc-truth_motion.json").read_text())
        reference = int(sidecar.get("ReferenceVolume", 2))
        self.to_truth = read_itk(
            self.func / f"{self.stem}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt"
        )[reference]
        foci = pd.read_csv(folder / f"{self.stem}_desc-truth_foci.tsv", sep="\t")
        centers = nib.affines.apply_affine(
            np.linalg.inv(self.to_truth), foci[["x", "y", "z"]].to_numpy()
        )
        self.foci = {
            condition: {
                row.label: center
                for row, center in zip(foci.itertuples(), centers, strict=True)
                if condition in row.conditions.split("+")
            }
            for condition in ("thumb", "little")
        }

    def effect(self, condition: str, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
        """True change on a grid of the run's reference."""
        path = (
            self.folder
            / f"{self.stem}_res-hr_contrast-{condition}_stat-effect_desc-truth_statmap.nii.gz"
        )
        data, own = load_image(path)
        return sample_volume(data, own, shape, affine, self.to_truth)


def clusters_far(significant: np.ndarray, near: np.ndarray) -> int:
    """Clusters of more than ``BIG`` voxels (26 neighbors) of which no voxel is near the truth."""
    labels, _ = ndimage.label(significant, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())
    touching = set(np.unique(labels[near])) - {0}
    return sum(1 for k in range(1, len(sizes)) if sizes[k] > BIG and k not in touching)


def peaks(
    t: np.ndarray, mask: np.ndarray, affine: np.ndarray, foci: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Offset (mm) of the highest t from each focus."""
    points = world(t.shape, affine)
    distances = np.stack([np.linalg.norm(points - center, axis=-1) for center in foci.values()])
    found = {}
    for k, (name, center) in enumerate(foci.items()):
        own = mask & (distances.argmin(0) == k) & (distances[k] < NEAR_MM)
        best = np.unravel_index(np.where(own, t, -np.inf).argmax(), t.shape)
        found[name] = points[best] - center
    return found


def main() -> int:
    phantom, out = Path(sys.argv[1]), Path(sys.argv[2])
    truth = Truth(phantom, out)
    func, stem = truth.func, truth.stem
    roi, roi_affine = load_image(func / f"{stem}_desc-roi_mask.nii.gz")
    low = np.asarray(
        nib.load(func / f"{stem}_desc-hmc_boldref.nii.gz").header.get_zooms()[:3], float
    )
    rows, misses = [], []
    for condition, foci in truth.foci.items():
        for name, center in foci.items():
            voxel = np.round(nib.affines.apply_affine(np.linalg.inv(roi_affine), center)).astype(
                int
            )
            if not roi[tuple(voxel)] > 0.5:
                misses.append(f"{condition}: focus {name} lies outside the motor region")
    for path in sorted(func.glob(f"{stem}*_contrast-*_stat-t_desc-*_statmap.nii.gz")):
        entities = dict(part.split("-", 1) for part in path.name.split("_") if "-" in part)
        condition, desc, grid = (
            entities["contrast"],
            entities["desc"],
            "res-hr_" if "res" in entities else "",
        )
        if condition not in truth.foci or "space" in entities:
            continue
        t, affine = load_image(path)
        brain = "brain" if grid else "rawBrain"
        mask = load_image(func / f"{stem}_{grid}desc-{brain}_mask.nii.gz")[0] > 0.5
        true = truth.effect(condition, t.shape, affine)
        points = world(t.shape, affine)
        core = points[true > 0.5 * true.max()]
        near = np.zeros(t.shape, bool)
        candidates = np.argwhere(mask)
        gaps, _ = cKDTree(core).query(points[mask])
        near[tuple(candidates[gaps <= FAR_MM].T)] = True
        label = func / f"{stem}_{grid}label-{condition}_desc-{desc}Fdr_mask.nii.gz"
        significant = load_image(label)[0] > 0.5
        offsets = peaks(t, mask, affine, truth.foci[condition])
        rows.append(
            {
                "contrast": condition,
                "series": desc,
                "r of t with truth": round(float(np.corrcoef(t[mask], true[mask])[0, 1]), 3),
                **{
                    f"offset {name} (mm)": round(float(np.linalg.norm(gap)), 2)
                    for name, gap in offsets.items()
                },
                "within a voxel": all((np.abs(gap) <= low).all() for gap in offsets.values()),
                "far clusters at FDR .05": clusters_far(significant, near),
                "FDR voxels": int(significant.sum()),
            }
        )
    keys = list(dict.fromkeys(key for row in rows for key in row))
    rows = [{key: row.get(key, "") for key in keys} for row in rows]
    remarks = [f"Low-resolution voxel: {' x '.join(f'{z:.2f}' for z in low)} mm.", *misses]
    keep(
        "phantom_truth",
        "Maps of the phantom against the activity that was put in",
        rows,
        remarks=remarks,
    )
    return int(bool(misses))


if __name__ == "__main__":
    sys.exit(main())
