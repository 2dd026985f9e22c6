"""
A run at rest
=============

A run without events is mapped by its connectivity: the correlation of every voxel with the mean
signal of a small sphere, the seed. `SuperResolver` does not need events.

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

from bids_sr import SuperResolver

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
times = 2.0 * np.arange(as_acquired.shape[3]) + 1.0
task = make_first_level_design_matrix(
    times, events, hrf_model="spm + derivative", drift_model=None
).drop(columns="constant")
settings = {"confounds": task, "detrend": False, "standardize": None, "t_r": 2.0}
bold, measured = (image.clean_img(each, **settings) for each in (as_acquired, as_measured))

# %%
# Map it
# ------
# The center of the seed is given in scanner coordinates (RAS, mm). It is in the right visual
# cortex of this participant. Each half of the run is mapped.
resolver = SuperResolver(method="sbl", factor=2).fit(bold)
known = {"motion": resolver.motion_, "boldref": resolver.boldref_, "mask_img": resolver.mask_img_}
series = {
    "B-spline": SuperResolver(method="bspline", factor=2).fit_transform(bold, **known),
    "sbl": resolver.transform(bold),
    "measured": measured,
}
mask = image.resample_to_img(resolver.mask_img_, series["sbl"], interpolation="nearest")
cleaning = {"standardize": "zscore_sample", "high_pass": 0.008, "t_r": 2.0}
half = bold.shape[3] // 2
maps = {}
for title, one in series.items():
    for part in (one.slicer[..., :half], one.slicer[..., half:]):
        voxels = NiftiMasker(mask, **cleaning).fit()
        values = voxels.transform(part)
        seed = NiftiSpheresMasker([(24, -73, -9)], radius=6, **cleaning).fit_transform(part)
        correlation = voxels.inverse_transform(values.T @ seed[:, 0] / (len(seed) - 1))
        maps.setdefault(title, []).append(correlation.get_fdata())

# %%
# Which map is more accurate?
# ---------------------------
# The map of one half is compared with the *measured* map of the other half, which has independent
# noise, in the voxels that are connected with the seed there. Only detail above the acquired
# spatial frequencies is compared.


def select_detail(values):
    """Remove the spatial frequencies that the 6 mm voxels contain."""
    spectrum = np.fft.fft2(values, axes=(0, 1))
    x, y = (np.abs(np.fft.fftfreq(size)) <= 0.25 for size in values.shape[:2])
    spectrum[np.ix_(x, y)] = 0
    return np.fft.ifft2(spectrum, axes=(0, 1)).real


agreement = {}
for title, halves in maps.items():
    correlations = []
    for values, reference in zip(halves, maps["measured"][::-1], strict=True):
        connected = np.abs(reference) > 0.3
        pair = (select_detail(one)[connected] for one in (values, reference))
        correlations.append(np.corrcoef(*pair)[0, 1])
    agreement[title] = np.mean(correlations)
print(pd.Series(agreement).round(2))

# %%
# The figure shows the map of the first half in one slice of the three series.
window = (slice(8, 56), slice(2, 22), 7)
figure, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for (title, (first_half, _)), axis in zip(maps.items(), axes, strict=True):
    shown = axis.imshow(first_half[window].T, origin="lower", cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set_title(f"{title} (r = {agreement[title]:.2f})")
    axis.set_axis_off()
figure.colorbar(shown, ax=axes, label="correlation with the seed")
plt.show()
