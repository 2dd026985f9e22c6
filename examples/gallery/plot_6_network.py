r"""
Train a network on a pair
=========================

A network learns from a pair of T2\*-weighted images of the participant, one at the resolution of
the run and one at the desired resolution, how detail follows from the acquired image. `bids-sr`
trains such networks as part of a run. [`bids-sr-models`](../../docs/models.md) trains, applies and
evaluates them separately.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

study = Path("../studyforrest")
anat = study / "sub-01/anat"
highres = anat / "sub-01_acq-highres_T2starw.nii.gz"
lowres = anat / "sub-01_acq-lowres_T2starw.nii.gz"
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
model = folder / "pair.safetensors"

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
# With `--pretrained`, `bids-sr` trains nothing. Effects are compared only above the acquired
# spatial frequencies: this is the part that the network has to infer. We include `sdmod`, a
# baseline that needs neither a network nor a pair. All images are one condition.
data, out = folder / "data", folder / "out"
shutil.copytree(study, data, ignore=shutil.ignore_patterns("anat"))
events_file = data / "sub-01/func/sub-01_task-localizer_events.tsv"
events = pd.read_csv(events_file, sep="\t").assign(trial_type="images")
events.to_csv(events_file, sep="\t", index=False)

command = ["bids-sr", data, out, "participant", "-w", folder / "work", "--level", "minimal"]
command += ["--sr-method", "bspline", "zerofill", "sdmod", "dcnet", "--pretrained", model]
command += ["--sr-factor", "2", "--set", "activation.kinds=glm", "--smoothing", "0"]
subprocess.run([*command, "--skip-bids-validation"], check=True, capture_output=True)

table = pd.read_csv(
    out / "sub-01/func/sub-01_task-localizer_desc-evaluation_metrics.tsv", sep="\t"
)
wanted = (
    "statistic == 'ev' and band == 'beyond' and reference == 'measured' and minus.isna()"
    " and region == 'active40'"
)
detail = table.query(wanted).set_index("series")[["value", "lower", "upper"]]
print(detail.round(2))

# %%
# The network has learned the anatomy, but little about the places where the signal changes. It
# explains less of the measured detail than `sdmod`, and not clearly more than B-spline. An
# accurate image does not imply an accurate map.
shown = detail.loc[["bspline", "sdmod", "dcnet", "measured"]]
errors = [shown.value - shown.lower, shown.upper - shown.value]
colors = ["0.7", "0.7", "tab:orange", "0.3"]
figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.bar(shown.index, shown.value, yerr=errors, color=colors, capsize=4)
axis.axhline(0, color="black", linewidth=0.8)
axis.set_ylabel("measured detail explained")
plt.show()
temporary.cleanup()
