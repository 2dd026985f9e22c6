"""Adding a BIDS input requires exactly the changes that docs/extending.md lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker
from recipes import copy_with, files_of, told_by

TITLE = "Add an input"
CHECK = """
import sys
from pathlib import Path
from bids_sr.config import Paths, Selection, Settings
from bids_sr.preflight import check, check_data
from bids_sr.workflows.participant import make_graph
root, out = map(Path, sys.argv[1:])
paths = Paths(bids_dir=root, output_dir=out, work_dir=out.with_name("work"))
settings = Settings(paths=paths, selection=Selection(skip_bids_validation=True))
plan = check(settings)
names = [run.sbref and run.sbref.name for one in plan.subjects for run in one.runs]
print(*plan.problems, *names, sep="\\n")
print(*([] if plan.problems else check_data(plan)), sep="\\n")
graph = None if plan.problems else make_graph(settings, plan, "0")
for node in () if graph is None else graph.nodes:
    if node.step.__name__ == "estimate_motion":
        (reference,) = graph.wires[node]["boldref"].handles
        print(*([] if reference.node else [reference.source.name]))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the package and apply the changes of the recipe."""
    return copy_with(TITLE, tmp_path_factory.mktemp("package"))


def check_output(package: Path, maker: BidsMaker) -> str:
    return told_by(package, CHECK, str(maker.root), str(maker.root.parent / "out"))


def test_the_recipe_changes_only_the_listed_files() -> None:
    bids_files = {f"bids_sr/bids/{name}.py" for name in ("layout", "inputs", "collect")}
    assert files_of(TITLE) == {*bids_files, "workflows/fit_run.py"}


NAME, ZOOMS = "sub-01_task-tap_sbref.nii.gz", (6.0, 6.0, 4.0)


def test_the_new_input_is_found_and_reaches_its_step(package: Path, tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    maker.image(NAME, "func", ZOOMS)
    assert check_output(package, maker).split() == [NAME, NAME]


@pytest.mark.slow
def test_the_new_input_may_be_missing_and_is_checked(package: Path, tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    assert check_output(package, maker).split() == ["None"]
    maker.image(NAME, "func", ZOOMS, data=np.full((8, 8, 6), np.nan))
    assert "contains NaN or infinite values" in check_output(package, maker)
    maker.image(NAME, "func", ZOOMS, n_volumes=30)
    assert "a 3D magnitude image is expected" in check_output(package, maker)
