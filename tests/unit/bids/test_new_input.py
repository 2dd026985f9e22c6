"""A new kind of BIDS input takes the lines that docs/extending.md names, and no others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bidsmaker import BidsMaker
from recipes import hunks, patched

ROOT = Path(__file__).parents[3]
CHECK = """
import sys
import bids_sr
from pathlib import Path
from bids_sr.config import Paths, Selection, Settings
from bids_sr.preflight import check, check_data
assert Path(bids_sr.__file__).is_relative_to(sys.argv[3]), bids_sr.__file__
root, out = map(Path, sys.argv[1:3])
paths = Paths(bids_dir=root, output_dir=out, work_dir=out.with_name("work"))
plan = check(Settings(paths=paths, selection=Selection(skip_bids_validation=True)))
print(*plan.problems, *(run.sbref and run.sbref.name for one in plan.subjects for run in one.runs), sep="\\n")
print(*([] if plan.problems else check_data(plan)), sep="\\n")
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the lines of the recipe."""
    return patched("Add an input", tmp_path_factory.mktemp("package"))


def told(package: Path, maker: BidsMaker) -> str:
    places = [str(maker.root), str(maker.root.parent / "out"), str(package)]
    command = [sys.executable, "-c", CHECK, *places]
    done = subprocess.run(command, capture_output=True, text=True, cwd=package, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_recipe_touches_no_more_than_it_says() -> None:
    assert {file for file, _, _ in hunks("Add an input")} == {
        f"bids_sr/bids/{name}.py" for name in ("layout", "inputs", "collect")
    }


@pytest.mark.slow
def test_the_new_input_is_found_and_checked(package: Path, tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    assert told(package, maker).split() == ["None"]
    name, zooms = "sub-01_task-tap_sbref.nii.gz", (6.0, 6.0, 4.0)
    maker.image(name, "func", zooms)
    assert told(package, maker).split() == [name]
    maker.image(name, "func", zooms, data=np.full((8, 8, 6), np.nan))
    assert "it holds voxels that are NaN or infinite" in told(package, maker)
    maker.image(name, "func", zooms, n_volumes=30)
    assert "one 3D magnitude image is expected" in told(package, maker)
