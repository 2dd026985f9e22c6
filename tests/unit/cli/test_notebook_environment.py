"""A notebook exports its backend of matplotlib, which other environments may not have."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from bids_sr.cli import main as participants, phantom as phantom
from bids_sr.cli.models.commands import main as models
from bids_sr.cli.slurm import main as slurm

BACKEND = "module://backend_of_a_notebook"


@pytest.mark.parametrize("program", [participants.main, models.main, phantom.main, slurm.main])
def test_programs_and_their_child_processes_draw_to_files(
    program: Callable[[list[str]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", BACKEND)
    program(["--version"])
    assert os.environ["MPLBACKEND"] == "agg"


def test_importing_the_package_changes_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", BACKEND)
    code = (
        "import os, sys, bids_sr, bids_sr.api.super_resolver, bids_sr.cli.main\n"
        f"sys.exit(os.environ['MPLBACKEND'] != {BACKEND!r})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
