"""Submissions for tests, and shell scripts that replace bids-sr."""

import os
import stat
import subprocess
from pathlib import Path

from bids_sr.engine.slurm.job_requests import Request
from bids_sr.engine.slurm.submission import Site, Submission, divide_into_tasks

REQUEST = Request(cpus=2, memory_mb=4096, minutes=30)


def program(path: Path, body: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def submission(
    root: Path,
    names: tuple[str, ...] = ("sub-01", "sub-02"),
    *,
    batch: int = 1,
    **more: object,
) -> Submission:
    """Return a submission below a folder: one array and a group job."""
    values = {
        "id": "20260101-000000-abcdef",
        "bids_dir": root / "data",
        "output_dir": root / "out",
        "work_dir": root / "work",
        "tasks": divide_into_tasks(names, batch),
        "request": REQUEST,
        "group_request": REQUEST,
        "site": Site(),
        **more,
    }
    return Submission(**values)  # type: ignore[arg-type]


def start(
    script: Path, task: int, path: Path | None = None, **variables: str
) -> subprocess.Popen[str]:
    """Start a script like task `task` of a SLURM array; programs in `path` take precedence."""
    environment = {
        **os.environ,
        "SLURM_ARRAY_TASK_ID": str(task),
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
    )
