"""How often a dry run, and the start of a run with its voxel checks, open files."""

from __future__ import annotations

import gzip
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from data.calls import plan_for
from data.dataset import BidsMaker

from bids_sr.survey.preflight.voxel_checks import check_data


@contextmanager
def count_opened(folder: Path) -> Iterator[Counter[Path]]:
    """Count how often each file in a folder is opened, except by the index of pybids."""
    opened, is_counted = Counter[Path](), True

    def count(event: str, values: tuple[object, ...]) -> None:
        if not is_counted or event != "open" or not isinstance(values[0], (str, bytes)):
            return
        frame = sys._getframe(1)
        while frame.f_back is not None:
            if frame.f_globals.get("__name__", "").startswith("bids.layout"):
                return
            frame = frame.f_back
        path = Path(os.fsdecode(values[0]))
        if folder in path.parents and path.is_file():
            opened[path] += 1

    sys.addaudithook(count)  # cannot be removed
    yield opened
    is_counted = False


def check_counts(opened: Counter[Path]) -> None:
    """Check that images were opened three times at most, and tables and sidecars twice."""
    images = {path: number for path, number in opened.items() if ".nii" in path.name}
    texts = {path: number for path, number in opened.items() if path not in images}
    assert any(path.name.endswith("_events.tsv") for path in texts)
    assert (max(images.values()) <= 3, max(texts.values()) <= 2) == (True, True), opened


def test_a_dry_run_opens_files_rarely(maker: BidsMaker) -> None:
    with count_opened(maker.root) as opened:
        assert plan_for(maker, "--dummy-scans", "0").problems == ()
    check_counts(opened)


@pytest.mark.parametrize("compressed", [False, True])
def test_the_start_of_a_run_opens_files_rarely(maker: BidsMaker, compressed: bool) -> None:
    """Voxels are read in one pass, and the first volumes once more to count dummy volumes."""
    maker.bold("sub-01_task-tap_run-2")
    maker.events("sub-01_task-tap_run-2")
    for path in maker.root.rglob("*.nii") if compressed else ():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    with count_opened(maker.root) as opened:
        plan = plan_for(maker)
        assert check_data(plan) == ()
    assert len(plan.runs) == 2
    check_counts(opened)
