"""
A run at rest
=============

A run without events is mapped by its connectivity. With `seeds` instead of `events`, `Evaluator`
maps how every voxel changes with the mean signal of a small sphere, and compares segments of the
run instead of blocks.

The example was scanned during a task. We regress the task out of both series and use the remaining
fluctuations as a substitute for a resting-state run.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
from nilearn import image
from nilearn.glm.first_level import make_first_level_design_matrix
from nilearn.maskers import NiftiMasker, NiftiSpheresMasker

from bids_sr import Evaluator, SuperResolver

study = Path("../studyforrest")
name = "sub-01/func/sub-01_task-localizer_bold.nii.gz"
as_acquired = nib.load(study / name)
as_measured = nib.load(study / "derivatives/highres-reference" / name)

# %%
# Regress out the task
# --------------------
# The predicted time series of each category, and their derivatives, are regressed out of every
# voxel.
events = pd.read_csv(study / name.replace("bold.nii.gz", "events.tsv"), sep="\t")
events = events[events.onset > -5]
times = 2.0 * np.arange(as_acquired.shape[3]) + 1.0
task = make_first_level_design_matrix(
    times, events, hrf_model="spm + derivative", drift_model=None
).drop(columns="constant")
settings = {"confounds": task, "detrend": False, "standardize": None, "t_r": 2.0}
bold, measured = (image.clean_img(each, **settings) for each in (as_acquired, as_measured))

# %%
# Evaluate with a seed
# --------------------
# The center of the seed is given in scanner coordinates (RAS, mm). It is in the right visual
# cortex of this participant.
seeds = {"visual": (24, -73, -9)}
resolver = SuperResolver(method="sbl", factor=2).fit(bold)
evaluator = Evaluator(factor=2, tr=2.0, baselines=["bspline", "sdmod"], n_boot=500).fit(
    bold, series={"sbl": resolver}, seeds=seeds, truth=measured
)
print(evaluator.verdict_["headline"])

# %%
# This table shows how much of the measured connectivity each series explains above the acquired
# spatial frequencies. Segments of the run take the place of blocks.
wanted = (
    "statistic == 'ev' and band == 'beyond' and reference == 'measured' and minus == 'n/a'"
    " and region == 'active40' and contrast == 'visual'"
)
detail = evaluator.table_.query(wanted).set_index("series")[["value", "lower", "upper"]]
print(detail.round(2))

# %%
# Map it
# ------
# The figure shows the correlation of every voxel with the seed, in one slice of three series.
series = {
    "B-spline": SuperResolver(method="bspline", factor=2).fit_transform(
        bold, motion=resolver.motion_, boldref=resolver.boldref_, mask=resolver.mask_img_
    ),
    "sbl": resolver.transform(bold),
    "measured": measured,
}
mask = image.resample_to_img(resolver.mask_img_, series["sbl"], interpolation="nearest")
cleaning = {"standardize": "zscore_sample", "high_pass": 0.008, "t_r": 2.0}
window = (slice(8, 56), slice(2, 22), 7)
figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for (title, one), axis in zip(series.items(), axes, strict=True):
    voxels = NiftiMasker(mask, **cleaning).fit()
    values = voxels.transform(one)
    seed = NiftiSpheresMasker([seeds["visual"]], radius=6, **cleaning).fit_transform(one)
    correlation = voxels.inverse_transform(values.T @ seed[:, 0] / (len(seed) - 1))
    shown = axis.imshow(
        correlation.get_fdata()[window].T, origin="lower", cmap="RdBu_r", vmin=-1, vmax=1
    )
    axis.set_title(title)
    axis.set_axis_off()
figure.colorbar(shown, ax=axes, label="correlation with the seed")
plt.show()
