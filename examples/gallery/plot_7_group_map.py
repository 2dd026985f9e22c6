"""
Read the outputs with nilearn and make a group map
==================================================

`bids-sr` writes maps of every participant, and a preprocessed series with confounds under the file
names of fMRIPrep. nilearn reads both. This example combines the maps of three simulated
participants in a second-level model.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
from nilearn.glm.second_level import SecondLevelModel
from nilearn.interfaces.fmriprep import load_confounds

temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
data, out = folder / "data", folder / "out"

# %%
# From BIDS to maps
# -----------------
# To keep the example short, the simulation is small and has no structural scans, and its series
# are only interpolated. For your own data, remove the last line of the command and use the maps
# with `desc-sbl`.
#
# The positions of these heads differ by less than 2 mm, so their maps can be stacked without
# registration. For real participants, add `--output-spaces MNI152NLin2009cAsym` and use the maps
# in that space.
phantom = ["bids-sr-phantom", data, "--preset", "tiny", "--subjects", "3", "--volumes", "45"]
subprocess.run(phantom, check=True, capture_output=True)
for anat in data.glob("sub-*/anat"):
    shutil.rmtree(anat)

program = [
    *("bids-sr", data, out, "participant", "-w", folder / "work", "--contrasts", "thumb-little"),
    *("--smoothing", "0", "--set", "activation.kinds=glm", "--truth", "none", "--nprocs", "2"),
    *("--sr-method", "bspline", "zerofill", "--sr-factor", "2", "--skip-bids-validation"),
]
subprocess.run(program, check=True, capture_output=True)

# %%
# A series and its confounds
# --------------------------
# They are in a separate dataset, `derivatives/bids-sr-METHOD`.
func = out / "derivatives" / "bids-sr-bspline" / "sub-01" / "func"
bold = func / "sub-01_task-tap_space-boldref_desc-preproc_bold.nii.gz"
confounds, steady = load_confounds(str(bold), strategy=("motion",), motion="basic")
print(nib.load(bold).shape, list(confounds.columns), sep="\n")

# %%
# The maps
# --------
# The BIDS names contain the contrast, the statistic, and the series (`desc-`).
name = "*_contrast-thumbMinusLittle_stat-effect_desc-bspline_statmap.nii.gz"
paths = sorted(out.glob(f"sub-*/func/{name}"))
for path in paths:
    print(path.name)

# %%
# Fit the second level
# --------------------
# Voxels outside a participant's brain are 0. We use the voxels that are inside the brain of all
# participants.
maps = [nib.load(path) for path in paths]
covered = np.all([each.get_fdata() != 0 for each in maps], axis=0)
mask = nib.Nifti1Image(covered.astype("uint8"), maps[0].affine)
model = SecondLevelModel(mask_img=mask, smoothing_fwhm=6).fit(
    maps, design_matrix=pd.DataFrame({"mean": [1] * len(maps)})
)
group = model.compute_contrast("mean", output_type="effect_size")

# %%
# The group map
# -------------
# The contrast is thumb against little finger. The map shows a red and a blue region next to each
# other, as simulated. Three participants are too few for a test, so we show the mean effect, in
# the slice where it is largest.
effect = group.get_fdata()
z = int(np.abs(effect).max(axis=(0, 1)).argmax())
most = np.abs(effect).max()
figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout="constrained")
titles = [path.name.partition("_")[0] for path in paths]
for one, title, axis in zip([*maps, group], [*titles, "group"], axes, strict=True):
    values = one.get_fdata()[:, :, z]
    shown = axis.imshow(values.T, origin="lower", cmap="RdBu_r", vmin=-most, vmax=most)
    axis.set_title(title)
    axis.set_axis_off()
figure.colorbar(shown, ax=axes, label="thumb - little finger (percent)")
plt.show()
temporary.cleanup()
