"""
Compare a series of another program
===================================

Does denoising, smoothing or another upsampling make the maps of a run more accurate? Pass a series
that any program made from the run as `compared`; `compared_` then contains a verdict on each
series. On the command line, `bids-sr-evaluate` does the same.

This example compares two series: the run smoothed, and the run reduced to its principal
components.
"""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import pandas as pd
from nilearn import image
from nilearn.maskers import NiftiMasker
from sklearn.decomposition import PCA

from bids_sr import Evaluator

study = Path("../studyforrest")
name = "sub-01/func/sub-01_task-localizer_bold.nii.gz"
events = pd.read_csv(study / name.replace("bold.nii.gz", "events.tsv"), sep="\t")
events = events[events.onset > -5].assign(trial_type="images")

# %%
# Two runs
# --------
# A second run of the same task shows whether denoising helps, because its noise is independent. It
# is the cheapest reference. The example has only one run, so we divide it into two.
whole = nib.load(study / name)
run, other_run = whole.slicer[..., :68], whole.slicer[..., 68:]
events, other_events = events[events.onset < 136], events[events.onset > 136]
other_events = other_events.assign(onset=other_events.onset - 136)

# %%
# Series of other programs
# ------------------------
# nilearn smooths the run. scikit-learn keeps twelve principal components of its time series.
smoothed = image.smooth_img(run, fwhm=9)

masker = NiftiMasker(mask_strategy="epi", standardize=None).fit(run)
values = masker.transform(run)
components = PCA(n_components=12, random_state=0).fit(values)
denoised = masker.inverse_transform(components.inverse_transform(components.transform(values)))

# %%
# The verdicts
# ------------
# Smoothing by itself raises many measures of agreement. Each series is therefore compared with the
# run as acquired *and* with the acquired run smoothed to the same resolution.
evaluator = Evaluator(factor=2, baselines=["zerofill"], n_boot=500).fit(
    run,
    compared={"smoothed": smoothed, "components": denoised},
    events=events,
    other_run=other_run,
    other_events=other_events,
)
for verdict in evaluator.compared_:
    print(textwrap.fill(verdict["text"], 88), end="\n\n")

# %%
# The numbers behind them
# -----------------------
# This table shows how much of the other run's effects each series explains in active voxels.
# `zerofill` represents the run as acquired; `smoothedSame` and `componentsSame` are the smoothed
# controls.
wanted = (
    "statistic == 'ev' and band == 'within' and reference == 'otherRun' and minus == 'n/a'"
    " and region == 'active40'"
)
explained = evaluator.table_.query(wanted).set_index("series")[["value", "lower", "upper"]]
explained = explained.rename(index={"zerofill": "as acquired"})
print(explained.round(2))

# %%
# Heavy smoothing removes effects that the acquired run shows. For the principal components, two
# short runs show neither a gain nor a loss.
order = ["as acquired", "smoothed", "smoothedSame", "components", "componentsSame"]
shown = explained.loc[order]
errors = [shown.value - shown.lower, shown.upper - shown.value]
colors = ["0.3", "tab:orange", "0.7", "tab:green", "0.7"]
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.bar(shown.index, shown.value, yerr=errors, color=colors, capsize=4)
axis.set_ylabel("effects of the other run explained")
axis.set_title("Acquired frequencies, active voxels")
plt.show()
