r"""
Train a network on a pair
=========================

A network learns from a pair of T2\*-weighted images of the participant, one at the resolution of
the run and one at the desired resolution, how detail follows from the acquired image. `bids-sr`
trains such networks as part of a run. [`bids-sr-models`](../../docs/models.md) trains, applies and
evaluates them separately.
"""

import json
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from bids_sr import Evaluator, SuperResolver

study = Path("../studyforrest")
anat = study / "sub-01/anat"
highres = anat / "sub-01_acq-highres_T2starw.nii.gz"
lowres = anat / "sub-01_acq-lowres_T2starw.nii.gz"
temporary = tempfile.TemporaryDirectory()
model = Path(temporary.name) / "pair.safetensors"

# %%
# Train
# -----
# Every fifth slice is held out, and the weights that are most accurate there are kept. The model
# is written together with a model card, which lists its training data and its accuracy, and with
# the log.
command = ["bids-sr-models", "train", "dcnet", model, "--fine", highres, "--coarse", lowres]
subprocess.run(command, check=True, capture_output=True)

card = json.loads(model.with_suffix(".json").read_text())
log = pd.read_csv(model.with_suffix(".tsv"), sep="\t", na_values="n/a")
for name in ("bspline", "network"):
    print(f"held-out slices, {name}: {card['held_out'][name]['psnr']:.1f} dB")

# %%
# An accurate image
# -----------------
# In held-out slices, the network is closer to the measured image than B-spline interpolation.
bspline = card["held_out"]["bspline"]["psnr"]
figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.plot(log.iteration, log.psnr, "o-", label="dcnet")
axis.axhline(bspline, color="0.5", linestyle="--", label="B-spline")
axis.set(xlabel="iteration", ylabel="PSNR of held-out slices (dB)")
axis.legend()
plt.show()

# %%
# An accurate map?
# ----------------
# With `pretrained`, `fit` trains nothing. Effects are compared only above the acquired spatial
# frequencies: this is the part that the network has to infer. We include `sdmod`, a baseline that
# needs neither a network nor a pair.
func = study / "sub-01/func"
bold = func / "sub-01_task-localizer_bold.nii.gz"
events = pd.read_csv(func / "sub-01_task-localizer_events.tsv", sep="\t")
events = events[events.onset > -5].assign(trial_type="images")
measured = study / "derivatives/highres-reference/sub-01/func/sub-01_task-localizer_bold.nii.gz"

network = SuperResolver(method="dcnet", factor=2, pretrained=model).fit(bold)
evaluator = Evaluator(factor=2, baselines=["bspline", "sdmod"], n_boot=200).fit(
    bold, series={"dcnet": network}, events=events, truth=measured
)
wanted = (
    "statistic == 'ev' and band == 'beyond' and reference == 'measured' and minus == 'n/a'"
    " and region == 'active40' and series in ['bspline', 'sdmod', 'dcnet', 'measured']"
)
detail = evaluator.table_.query(wanted).set_index("series")[["value", "lower", "upper"]]
print(detail.round(2))

# %%
# The network has learned the anatomy, but little about the places where the signal changes. It
# explains more of the measured detail than B-spline and less than `sdmod`. An accurate image does
# not imply an accurate map.
shown = detail.loc[["bspline", "sdmod", "dcnet", "measured"]]
errors = [shown.value - shown.lower, shown.upper - shown.value]
colors = ["0.7", "0.7", "tab:orange", "0.3"]
figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.bar(shown.index, shown.value, yerr=errors, color=colors, capsize=4)
axis.axhline(0, color="black", linewidth=0.8)
axis.set_ylabel("measured detail explained")
plt.show()
temporary.cleanup()
