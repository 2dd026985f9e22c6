"""
Compare a series of another program
===================================

Does denoising, smoothing or another upsampling make the maps of a run more accurate? Pass a series
that any program made from the run with `--compare`; the output then contains a verdict on each
series.

This example compares two series: the run smoothed, and the run reduced to its principal
components.
"""

import json
import shutil
import subprocess
import tempfile
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import pandas as pd
from nilearn import image
from nilearn.maskers import NiftiMasker
from sklearn.decomposition import PCA

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
data, out = folder / "data", folder / "out"

# %%
# Two runs
# --------
# A second run of the same task shows whether denoising helps, because its noise is independent. It
# is the cheapest reference. The example has only one run, so we divide it into two.
shutil.copytree("../studyforrest", data, ignore=shutil.ignore_patterns("anat", "derivatives"))
func, stem = data / "sub-01/func", "sub-01_task-localizer"
whole = nib.load(func / f"{stem}_bold.nii.gz")
run, other_run = whole.slicer[..., :82], whole.slicer[..., 82:]
events = pd.read_csv(func / f"{stem}_events.tsv", sep="\t").assign(trial_type="images")
parts = ((run, events[events.onset < 164]), (other_run, events[events.onset > 164]))
for number, (series, part_events) in enumerate(parts, 1):
    series.to_filename(func / f"{stem}_run-{number}_bold.nii.gz")
    shutil.copy(func / f"{stem}_bold.json", func / f"{stem}_run-{number}_bold.json")
    onset = part_events.onset - 164 * (number - 1)
    part_events.assign(onset=onset).to_csv(
        func / f"{stem}_run-{number}_events.tsv", sep="\t", index=False
    )
for file in func.glob(f"{stem}_[be]*"):
    file.unlink()

# %%
# Series of other programs
# ------------------------
# nilearn smooths the run. scikit-learn keeps twelve principal components of its time series.
image.smooth_img(run, fwhm=9).to_filename(folder / "smoothed.nii.gz")

masker = NiftiMasker(mask_strategy="epi", standardize=None).fit(run)
values = masker.transform(run)
components = PCA(n_components=12, random_state=0).fit(values)
denoised = masker.inverse_transform(components.inverse_transform(components.transform(values)))
denoised.header.set_zooms((*denoised.header.get_zooms()[:3], 2.0))
denoised.to_filename(folder / "components.nii.gz")

# %%
# The verdicts
# ------------
# Smoothing by itself raises many measures of agreement. Each series is therefore compared with the
# run as acquired *and* with the acquired run smoothed to the same resolution.
# Both series move like the run; a series that is corrected for head motion needs `:corrected`.
command = ["bids-sr", data, out, "participant", "-w", folder / "work", "--level", "minimal"]
command += ["--run-id", "1", "--sr-method", "bspline", "zerofill", "--sr-factor", "2"]
command += ["--set", "activation.kinds=glm", "--smoothing", "0", "--skip-bids-validation"]
for name in ("smoothed", "components"):
    command += ["--compare", f"{name}={folder / name}.nii.gz"]
subprocess.run(command, check=True, capture_output=True)

results = out / "sub-01/func"
metrics = json.loads((results / f"{stem}_run-1_desc-verdict_metrics.json").read_text())
for verdict in metrics["compared"]:
    print(textwrap.fill(verdict["text"], 88), end="\n\n")

# %%
# The numbers behind them
# -----------------------
# This table shows how much of the other run's effects each series explains in active voxels.
# `zerofill` represents the run as acquired; `smoothedSame` and `componentsSame` are the smoothed
# controls.
table = pd.read_csv(results / f"{stem}_run-1_desc-evaluation_metrics.tsv", sep="\t")
wanted = (
    "statistic == 'ev' and band == 'within' and reference == 'otherRun' and minus.isna()"
    " and region == 'active40'"
)
explained = table.query(wanted).set_index("series")[["value", "lower", "upper"]]
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
temporary.cleanup()
