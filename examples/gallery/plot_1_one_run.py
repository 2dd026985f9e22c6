"""
One run from Python
===================

`SuperResolver` brings a single BOLD series to a higher resolution in plane. It follows
scikit-learn: parameters in the constructor, data in `fit`, results in attributes that end with
`_`. No BIDS data set is needed, only a series.

The run has voxels of 6 mm; we ask for 3 mm.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from nilearn import image
from nilearn.glm.first_level import FirstLevelModel
from nilearn.maskers import NiftiMasker

from bids_sr import SuperResolver

func = Path("../studyforrest/sub-01/func")
bold = func / "sub-01_task-localizer_bold.nii.gz"

# %%
# Fit
# ---
# `fit` finds the reference, head motion and the brain, and then what the method needs. `sbl`
# learns where the run fluctuates. Whether that knowledge helps is tested before it is used, on
# stretches of the run that were held out and one level of resolution down. If it does not help,
# the method falls back to zero filling, and `applied_` is False.
resolver = SuperResolver(method="sbl", factor=2, verbose=1).fit(bold)

held_out = resolver.facts_["held_out"]
print("applied:", resolver.applied_)
print(f"explained beyond zero filling: {held_out['explained_over_zerofill']:.0%}")

# %%
# Transform
# ---------
# The result is a NIfTI image on the high-resolution grid of the reference, head motion undone.
# With `out_file`, it is written volume by volume and not held in memory.
#
# B-spline interpolation of the same run is the series to beat. Reference, head motion and brain
# are those of the first estimator and are not estimated again.
fine = resolver.transform(bold)
spline = SuperResolver(method="bspline", factor=2).fit_transform(
    bold, motion=resolver.motion_, boldref=resolver.boldref_, mask=resolver.mask_img_
)
print(fine.shape, [round(float(size), 1) for size in fine.header.get_zooms()])

# %%
# Map activation with nilearn
# ---------------------------
# Every program that reads NIfTI images can go on from here. We take one linear model for both
# series, images of any category against rest, without the block before the first volume.
events = pd.read_csv(func / "sub-01_task-localizer_events.tsv", sep="\t")
events = events[events.onset > -5].assign(trial_type="images")
brain = NiftiMasker(
    image.resample_to_img(resolver.mask_img_, spline, interpolation="nearest")
).fit()
effects = {}
for name, series in {"B-spline": spline, "sbl": fine}.items():
    model = FirstLevelModel(t_r=2.0, mask_img=brain, noise_model="ols", signal_scaling=False)
    effects[name] = model.fit(series, events).compute_contrast("images", output_type="effect_size")
effects["sbl - B-spline"] = image.math_img("a - b", a=effects["sbl"], b=effects["B-spline"])

# %%
# A close-up of the right visual cortex, in one slice. Both maps have voxels of 3 mm, but only
# that of `sbl` has detail of this size. Whether the detail is true is another question:
# [the next example](plot_2_truth.py).
window = (slice(12, 34), slice(4, 20), 7)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for (name, effect), axis in zip(effects.items(), axes, strict=True):
    values = effect.get_fdata()[window]
    shown = axis.imshow(values.T, origin="lower", cmap="RdBu_r", vmin=-250, vmax=250)
    axis.set_title(name)
    axis.set_axis_off()
figure.colorbar(shown, ax=axes, label="effect of images (signal units)")
plt.show()
