"""One whole run on the smallest phantom, shared by all end-to-end tests."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished call of the command line."""

    bids_dir: Path
    out: Path
    command: list[str]
    code: int
    text: str
    seconds: float


def call(command: list[str]) -> tuple[int, str, float]:
    """Exit code, output and wall time (s) of a command."""
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout, time.monotonic() - start


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """The phantom `tiny`, as its command makes it."""
    root = tmp_path_factory.mktemp("data") / "tiny"
    code, text, _ = call([str(BIN / "bids-sr-phantom"), str(root), "--preset", "tiny"])
    assert code == 0, text
    return root


@pytest.fixture(scope="session")
def finished(tiny, tmp_path_factory) -> Finished:
    """The participant level on the phantom, once."""
    base = tmp_path_factory.mktemp("run")
    command = [
        str(BIN / "bids-sr"), str(tiny), str(base / "out"), "participant", "-w", str(base / "work"), "--sloppy",
        "--output-spaces", "MNI152NLin2009aSym", "--nprocs", "2",
    ]  # fmt: skip
    code, text, seconds = call(command)
    return Finished(bids_dir=tiny, out=base / "out", command=command, code=code, text=text, seconds=seconds)


@pytest.fixture(scope="session")
def validated(finished) -> dict:
    """What the real validator says of the derivatives."""
    done = subprocess.run(
        [str(BIN / "bids-validator-deno"), "--json", str(finished.out)], capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout)
