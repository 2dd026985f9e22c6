"""
A job array on a cluster
========================

`bids-sr-slurm` makes each participant a task of a SLURM array and requests memory and time based
on estimates. In this example, the short script `stand_in_slurm.sh` replaces SLURM. On a cluster,
omit the section about it. See also [on a cluster](../../docs/hpc.md).
"""

import os
import shutil
import subprocess
import tempfile
import time
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
# Options of `bids-sr` follow after `--` and apply to every task. The whole dataset is checked
# first, and nothing is submitted if there is a problem. `--print-only` writes the scripts and
# stops. Without `--no-group`, a job for the group level follows the array.
options = [
    *("-w", work, "--nprocs", 1, "--level", "minimal", "--truth", "none"),
    *("--sr-method", "bspline", "zerofill", "--sr-factor", 2, "--contrasts", "thumb-little"),
    *("--smoothing", 0, "--activation", "glm"),
]
call("bids-sr-slurm", data, out, "--no-group", "--print-only", "--", *options)

script = next(out.glob("logs/slurm/*/array.sbatch")).read_text()
print("\n".join(line for line in script.splitlines() if line.startswith("#SBATCH")))

# %%
# Submit
# ------
# The command returns at once. Use `squeue` to see the tasks: each line has the number of a task
# and its state.
print(call("bids-sr-slurm", data, out, "--no-group", "--", *options))
start, samples = time.monotonic(), []
while tasks := call("squeue").splitlines():
    states = [task.split("|")[1] for task in tasks]
    samples.append((time.monotonic() - start, states.count("PENDING"), states.count("RUNNING")))
    time.sleep(0.5)
samples.append((time.monotonic() - start, 0, 0))

# %%
# The same command again
# ----------------------
# The same command again submits the participants that are not done, for example after a time
# limit. Here, both are done.
again = call("bids-sr-slurm", data, out, "--no-group", "--", *options)
print(again)

# %%
# How many tasks ran
# ------------------
# The replacement starts all tasks at once. A cluster starts as many tasks as it has resources for.
seconds, pending, running = zip(*samples, strict=True)
figure, axis = plt.subplots(figsize=(8, 2), layout="constrained")
axis.step(seconds, pending, where="post", label="pending", color="tab:gray")
axis.step(seconds, running, where="post", label="running", color="tab:blue")
axis.set(xlabel="seconds after the submission", ylabel="tasks", yticks=range(3))
axis.legend()
plt.show()
temporary.cleanup()
