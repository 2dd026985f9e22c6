"""A notebook exports its backend of matplotlib, which other environments may not have."""

import subprocess
import sys

import pytest

from bids_sr.cli import phantom as phantom

BACKEND = "module://backend_of_a_notebook"


def test_importing_the_package_changes_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", BACKEND)
    code = (
        "import os, sys, bids_sr, bids_sr.api.super_resolver, bids_sr.cli.main\n"
        f"sys.exit(os.environ['MPLBACKEND'] != {BACKEND!r})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
