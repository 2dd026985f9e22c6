"""Submissions for tests, shell scripts that replace bids-sr, and a queue that tests write."""

import os
import stat
import subprocess
from pathlib import Path

from bids_sr.slurm.submission import ArrayJob, Request, Site, Submission

REQUEST = Request(cpus=2, memory_mb=4096, minutes=30)


def program(path: Path, body: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def submission(
    root: Path,
    tasks: tuple[tuple[str, ...], ...] = (("sub-01",), ("sub-02",)),
    **changes: object,
) -> Submission:
    """Return a submission below a folder: an array and a group job."""
    values = {
        "id": "20260101-000000-abcdef",
        "bids_dir": root / "data",
        "output_dir": root / "out",
        "work_dir": root / "work",
        "settings_toml": "",
        "digests": ("participants", "group"),
        "array": ArrayJob(tasks=tasks, request=REQUEST),
        "group": REQUEST,
        "site": Site(),
        **changes,
    }
    return Submission(**values)  # type: ignore[arg-type]


def start(
    script: Path, task: int = 1, path: Path | None = None, **variables: str
) -> subprocess.Popen[str]:
    """Start a script like task `task` of the SLURM array 7; programs in `path` take precedence."""
    environment = {
        **os.environ,
        "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_JOB_ID": "7",
        "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"],
        **variables,
    }
    return subprocess.Popen(
        ["bash", str(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def sbatch(folder: Path) -> Path:
    """Write a replacement of sbatch that gives numbers from 1, and keeps the jobs as pending.

    The replacements of squeue and scancel use the same file, ``queue``, with tasks listed singly.
    """
    queue, calls = folder / "queue", folder / "sbatch"
    queue.write_text("")
    body = f"""
echo "$@" >>"{calls}"
number=$(grep -c . "{calls}") script=${{!#}}
name=$(sed -n 's/^#SBATCH --job-name=//p' "$script")
range=$(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\).*/\\1/p' "$script")
if [ -n "$range" ]; then
    for task in $(seq "$range"); do echo "${{number}}_$task|PENDING|$name"; done >>"{queue}"
else
    echo "$number|PENDING|$name" >>"{queue}"
fi
echo "$number"
"""
    program(folder / "bin" / "squeue", f'cat "{queue}"')
    scancel = f'echo "$@" >>"{folder}/scancel"; sed -i "/^${{!#}}|PENDING/d" "{queue}"'
    program(folder / "bin" / "scancel", scancel)
    program(folder / "bin" / "scontrol", "echo 'MaxArraySize = 1001'")
    return program(folder / "bin" / "sbatch", body)
