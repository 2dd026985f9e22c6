"""How often silent voxels of the phantom pass a threshold, with and without aCompCor in the model.

python benchmarks/null_rate.py PHANTOM OUT

Voxels count as silent where the true effect is below 1 % of its maximum and farther than 8 mm from its core.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from _table import keep
from phantom_truth import FAR_MM, Truth, world
from scipy import ndimage
from scipy.spatial import cKDTree

from bids_sr.interfaces.head_motion import ImportSeries
from bids_sr.interfaces.statmap_interfaces import ActivationMaps, default_confounds
from bids_sr.io.nifti import load_image
from bids_sr.stats.glm.design import MOTION


def main() -> int:
    phantom, out = Path(sys.argv[1]), Path(sys.argv[2])
    truth = Truth(phantom, out)
    func, stem = truth.func, truth.stem
    table = func / f"{stem}_desc-confounds_timeseries.tsv"
    n_dummy = sum("non_steady" in name for name in pd.read_csv(table, sep="\t", nrows=1).columns)
    mask_file = str(func / f"{stem}_res-hr_desc-brain_mask.nii.gz")
    mask, affine = load_image(mask_file)
    true = truth.effect("thumb", mask.shape, affine)
    points = world(mask.shape, affine)
    gaps, _ = cKDTree(points[true > 0.5 * true.max()]).query(points.reshape(-1, 3))
    silent = (mask > 0.5) & (true < 0.01 * true.max()) & (gaps.reshape(mask.shape) > FAR_MM)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        source = str(func / f"{stem}_res-hr_desc-bspline_bold.nii.gz")
        series = ImportSeries(in_file=source).run(cwd=scratch).outputs.out_file
        for name, names in (("motion", MOTION), ("motion and aCompCor", default_confounds(str(table)))):
            for fwhm in (0.0, 5.0):
                folder = Path(scratch, f"{len(names)}-{fwhm}")
                folder.mkdir()
                found = ActivationMaps(
                    in_file=series, mask=mask_file, roi=mask_file, n_dummy=n_dummy, tr=2.0, series="bspline",
                    events_file=str(phantom / "sub-01" / "func" / f"{stem}_events.tsv"), confounds_tsv=str(table),
                    confound_names=list(names), fwhm_mm=fwhm, contrasts={"thumb": {"thumb": 1.0}}, kinds=["glm"],
                    high_pass=1 / 128, slice_time_ref=0.5, has_stc=True, thresholds=["fdr"], factor=(2.0, 2.0, 1.0),
                ).run(cwd=str(folder)).outputs  # fmt: skip
                files = {e.get("stat", "fdr"): p for p, e in zip(found.out_files, found.out_entities, strict=True)}
                z, significant = load_image(files["z"])[0], load_image(files["fdr"])[0] > 0.5
                labels, _ = ndimage.label(significant & silent, np.ones((3, 3, 3)))
                rows.append({
                    "confounds": name, "fwhm (mm)": fwhm, "sd of z": round(float(z[silent].std()), 3),
                    "rate of z > 3.09 over nominal": round(float((z[silent] > 3.0902).mean() / 0.001), 2),
                    "silent voxels at FDR .05": f"{int((significant & silent).sum())} of {int(significant.sum())}",
                    "largest silent cluster": int(np.bincount(labels.ravel())[1:].max(initial=0)),
                })  # fmt: skip
    keep("null_rate", "Silent voxels of the phantom above threshold (bspline, thumb)", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
