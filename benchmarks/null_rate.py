"""How often silent voxels of the phantom pass a threshold, with and without aCompCor in the model.

python benchmarks/null_rate.py PHANTOM OUT      (OUT: of --level full, which stores the series of
B-spline)

Voxels count as silent where the true effect is below 1 % of its maximum and farther than 8 mm from
its core.
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

from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import load_image
from bids_sr.stats.glm.design import MOTION, default_confounds
from bids_sr.stats.glm.regressors import read_events
from bids_sr.stats.glm.statmaps import ActivationSettings, map_activation
from bids_sr.stats.regions.activation_regions import fdr_region
from bids_sr.steps.motion import import_series


def main() -> int:
    phantom, out = Path(sys.argv[1]), Path(sys.argv[2])
    truth = Truth(phantom, out)
    func, stem = truth.func, truth.stem
    table = pd.read_csv(func / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", na_values="n/a")
    n_dummy = sum("non_steady" in name for name in table)
    mask, affine = load_image(func / f"{stem}_res-hr_desc-brain_mask.nii.gz")
    true = truth.effect("thumb", mask.shape, affine)
    points = world(mask.shape, affine)
    gaps, _ = cKDTree(points[true > 0.5 * true.max()]).query(points.reshape(-1, 3))
    silent = (mask > 0.5) & (true < 0.01 * true.max()) & (gaps.reshape(mask.shape) > FAR_MM)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        source = func / f"{stem}_res-hr_desc-bspline_bold.nii.gz"
        series = import_series(source, Path(scratch), tr=2.0, axis_order=AS_STORED)
        events = read_events(phantom / "sub-01" / "func" / f"{stem}_events.tsv")
        for name, names in (("motion", MOTION), ("motion and aCompCor", default_confounds(table))):
            for fwhm in (0.0, 5.0):
                how = ActivationSettings(
                    kinds=("glm",),
                    confound_names=names,
                    n_dummy=n_dummy,
                    tr=2.0,
                    fwhm_mm=fwhm,
                    has_stc=True,
                )
                found = map_activation(
                    series,
                    mask > 0.5,
                    events,
                    {"thumb": {"thumb": 1.0}},
                    how,
                    scratch=Path(scratch, "courses.raw"),
                    confounds=table,
                )
                z = found.maps["thumb", "z"]
                significant, _ = fdr_region(z, mask > 0.5)
                labels, _ = ndimage.label(significant & silent, np.ones((3, 3, 3)))
                rows.append(
                    {
                        "confounds": name,
                        "fwhm (mm)": fwhm,
                        "sd of z": round(float(z[silent].std()), 3),
                        "rate of z > 3.09 over nominal": round(
                            float((z[silent] > 3.0902).mean() / 0.001), 2
                        ),
                        "silent voxels at FDR .05": (
                            f"{int((significant & silent).sum())} of {int(significant.sum())}"
                        ),
                        "largest silent cluster": int(
                            np.bincount(labels.ravel())[1:].max(initial=0)
                        ),
                    }
                )
    keep("null_rate", "Silent voxels of the phantom above threshold (bspline, thumb)", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
