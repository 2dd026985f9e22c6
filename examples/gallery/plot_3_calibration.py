"""
With a calibration run
======================

`sbl` adds detail where the run fluctuates. It can estimate these places from the run itself, or
more accurately from a *calibration run*: about 20 volumes of the same slices at the high
resolution, [the most useful extra scan](../../docs/acquire.md#the-calibration).

The example has no calibration run, but it was measured at 3 mm. We therefore divide it: its last
20 volumes, as measured, are the calibration run, and the volumes before them are the run.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd

from bids_sr import Evaluator, SuperResolver

study = Path("../studyforrest")
func = study / "sub-01/func"
name = "sub-01_task-localizer_bold.nii.gz"

run = nib.load(func / name).slicer[..., :116]
measured = nib.load(study / "derivatives/highres-reference/sub-01/func" / name)
truth, calibration = measured.slicer[..., :116], measured.slicer[..., 116:]

# %%
# Two estimators
# --------------
# `fit` registers the calibration run to the run; `facts_` contains the result. Head motion of the
# run was estimated for the first estimator and is passed to the second.
plain = SuperResolver(method="sbl", factor=2).fit(run)
known = {"motion": plain.motion_, "boldref": plain.boldref_, "mask": plain.mask_img_}
calibrated = SuperResolver(method="sbl", factor=2).fit(run, calibration=calibration, **known)
for fact in ("usable", "n_used", "n_patterns", "displacement_rms_mm"):
    print(f"{fact}: {calibrated.facts_['calibration'][fact]}")

# %%
# Which is more accurate?
# -----------------------
# Both are compared with the measured volumes of the run, as in
# [the previous example](plot_2_truth.py).
events = pd.read_csv(func / "sub-01_task-localizer_events.tsv", sep="\t")
events = events[(events.onset > -5) & (events.onset < 230)].assign(trial_type="images")
evaluator = Evaluator(factor=2, baselines=["bspline"], n_boot=500).fit(
    run, series={"sbl": plain, "sblCalibrated": calibrated}, events=events, truth=truth
)
wanted = (
    "statistic == 'ev' and band == 'beyond' and reference == 'measured' and minus == 'n/a'"
    " and series in ['bspline', 'sbl', 'sblCalibrated', 'measured']"
    " and region in ['active40', 'brain']"
)
detail = evaluator.table_.query(wanted).set_index(["region", "series"])
print(detail[["value", "lower", "upper"]].round(3))

# %%
# With the calibration run, `sbl` recovers more detail in active voxels. Over the whole brain,
# which contains mostly noise, the intervals are wide.
order = ["bspline", "sbl", "sblCalibrated", "measured"]
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for offset, region, color in ((-0.2, "active40", "tab:blue"), (0.2, "brain", "0.6")):
    found = detail.loc[region].loc[order]
    errors = [found.value - found.lower, found.upper - found.value]
    label = {"active40": "active voxels", "brain": "whole brain"}[region]
    axis.bar(np.arange(4) + offset, found.value, 0.38, yerr=errors, color=color, label=label)
axis.axhline(0, color="black", linewidth=0.8)
axis.set_xticks(range(4), order)
axis.set_ylabel("measured detail explained")
axis.legend(loc="upper left")
plt.show()
