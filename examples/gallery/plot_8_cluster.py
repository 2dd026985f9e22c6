"""
A job array on a cluster
========================

`bids-sr-slurm` makes each participant a task of a SLURM array and requests memory and time based
on estimates. In this example, the short script `stand_in_slurm.sh` replaces SLURM. On a cluster,
omit the section about it. See also [Cluster and container](../../docs/cluster.md).
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from datetime import datetime
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
# `bids-sr-slurm` calls `sbatch` and `scontrol`, and this example calls `squeue`. All of them are
# the same script, in the first folder of the path.
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
    *("-w", work, "--nprocs", 1, "--level", "minimal", "--truth", "none"),
    *("--sr-method", "bspline", "zerofill", "--sr-factor", 2, "--contrasts", "thumb-little"),
    *("--smoothing", 0),
]
submit = ["bids-sr-slurm", data, out, "--no-group"]
call(*submit, "--print-only", "--", *options)

script = next(out.glob("logs/slurm/*/array.sbatch")).read_text()
print("\n".join(line for line in script.splitlines() if line.startswith("#SBATCH")))

# %%
# Submit
# ------
# The command returns at once. Check the jobs with `squeue` and `sacct`.
print(call(*submit, "--", *options))
while call("squeue").strip():
    time.sleep(0.5)

# %%
# The same command again
# ----------------------
# It submits what is not done, for example participants that reached the time limit. Here, all are
# done.
again = call(*submit, "--", *options)
print(again)

# %%
# When each task ran
# ------------------
# The logs contain the start and the end of each participant. The replacement starts all tasks at
# once. A cluster starts as many tasks as it has resources for.
records = []
for log in out.glob("logs/slurm/*/logs/array_*.log"):
    times = re.findall(r"^(\S+ \S+) (sub-\w+): (?:job|exit)", log.read_text(), re.MULTILINE)
    moments = [datetime.fromisoformat(moment).timestamp() for moment, _ in times]
    records.append({"participant": times[0][1], "started": moments[0], "ended": moments[1]})
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
