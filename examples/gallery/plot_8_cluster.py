"""
A job array on a cluster
========================

`bids-sr-slurm` makes each participant a task of a SLURM array and requests memory and time based
on estimates. In this example, the short script `stand_in_slurm.sh` replaces SLURM. On a cluster,
omit the section about it. See also [on a cluster](../../docs/hpc.md).
"""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt


def call(*words):
    """What a command prints."""
    done = subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)
    return done.stdout.replace(str(folder), ".")


temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
data, out, work = folder / "data", folder / "out", folder / "work"

# %%
# Two participants
# ----------------
# To keep the example short, they are simulated, small, and without structural scans.
call("bids-sr-phantom", data, "--preset", "tiny", "--subjects", 2, "--volumes", 31)
for anat in data.glob("sub-*/anat"):
    shutil.rmtree(anat)

# %%
# A replacement for SLURM
# -----------------------
# `bids-sr-slurm` calls `sbatch`, `squeue` and `scontrol`. In this example, all of them are the
# same script, in the first folder of the path.
for name in ("sbatch", "squeue", "scontrol"):
    (folder / "slurm").mkdir(exist_ok=True)
    (folder / "slurm" / name).write_text(Path("stand_in_slurm.sh").read_text())
    (folder / "slurm" / name).chmod(0o755)
os.environ["PATH"] = f"{folder / 'slurm'}:{os.environ['PATH']}"

# %%
# Check before you submit
# -----------------------
# The options of `bids-sr` are passed to every task. The whole dataset is checked first, and
# nothing is submitted if there is a problem. `--print-only` writes the scripts and stops. Without
# `--no-group`, a job for the group level follows the array.
options = [
    *("-w", work, "--cpus", 1, "--no-group", "--level", "minimal", "--truth", "none"),
    *("--sr-method", "bspline", "zerofill", "--sr-factor", 2, "--contrasts", "thumb-little"),
    *("--smoothing", 0, "--set", "activation.kinds=glm"),
]
call("bids-sr-slurm", data, out, *options, "--print-only")

script = next(out.glob("logs/slurm/*/array-1.sbatch")).read_text()
print("\n".join(line for line in script.splitlines() if line.startswith("#SBATCH")))

# %%
# Submit
# ------
# With `--wait`, the command returns when all jobs have ended. Without it, check the state with
# `bids-sr-slurm status`. `bids-sr-slurm retry` submits failed tasks again.
print(call("bids-sr-slurm", data, out, *options, "--wait"))
print(call("bids-sr-slurm", "status", out))

# %%
# When each task ran
# ------------------
# Each task writes a record. The replacement starts all tasks at once. A cluster starts as many
# tasks as it has resources for.
records = [json.loads(path.read_text()) for path in out.glob("logs/slurm/*/status/*.json")]
records.sort(key=lambda record: record["started"])
first = records[0]["started"]
figure, axis = plt.subplots(figsize=(8, 2), layout="constrained")
for row, record in enumerate(records):
    seconds = record["ended"] - record["started"]
    axis.barh(row, seconds, left=record["started"] - first, color="tab:blue")
axis.set_yticks(range(len(records)), [record["participant"] for record in records])
axis.invert_yaxis()
axis.set_xlabel("seconds after the first start")
plt.show()
temporary.cleanup()
