"""Share fixtures of the tests with other programs: their folder, a phantom, and a fast
`bids-sr`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import Run

BIN = Path(sys.executable).parent
QUICK = f'#!/bin/sh\nexec {BIN}/bids-sr "$@" --sloppy --truth none --sr-method sbl --smoothing 5\n'


@pytest.fixture(scope="session")
def programs() -> Path:
    """Return the folder with bosh, nipoppy, babs, datalad, snakemake and aws."""
    folder = Path(os.environ.get("BIDS_SR_TEST_OTHERS", "nowhere"))
    if not (folder / "bosh").is_file():
        pytest.skip("BIDS_SR_TEST_OTHERS does not name the folder of bosh, nipoppy, babs, …")
    return folder


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a `bids-sr` that adds options to run faster."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "bids-sr").write_text(QUICK)
    (folder / "bids-sr").chmod(0o755)
    return folder


@pytest.fixture
def run(programs: Path, quick: Path, tmp_path: Path) -> Run:
    """Return a function that calls a program in the folder of the test, which is also the home
    directory.
    """

    def call_program(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{quick}:{BIN}:{programs}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "USER": "tester",
            "OMP_NUM_THREADS": "1",
            "NUMBA_CACHE_DIR": str(quick / "numba"),
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "user.name",
            "GIT_CONFIG_VALUE_0": "tester",
            "GIT_CONFIG_KEY_1": "user.email",
            "GIT_CONFIG_VALUE_1": "tester@example.org",
            **variables,
        }
        return subprocess.run(
            [str(word) for word in words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    return call_program


@pytest.fixture(scope="session")
def phantom(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two participants without T1w images, which take longest. Tests only read them."""
    root = tmp_path_factory.mktemp("data") / "DATA"
    subprocess.run(
        [BIN / "bids-sr-phantom", root, "--preset", "tiny", "--subjects", "2"],
        check=True,
        capture_output=True,
    )
    for path in root.glob("sub-*/anat/*_T1w.*"):
        path.unlink()
    return root


@pytest.fixture
def data(phantom: Path, tmp_path: Path) -> Path:
    """Copy the data set to the folder of the test, under the name that the recipes use."""
    return Path(shutil.copytree(phantom, tmp_path / "DATA"))
