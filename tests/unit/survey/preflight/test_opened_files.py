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


def check_counts(opened: Counter[Path], most: int) -> None:
    """Check that images were opened `most` times at most, and tables and sidecars once."""
    images = {path: number for path, number in opened.items() if ".nii" in path.name}
    texts = {path: number for path, number in opened.items() if path not in images}
    assert any(path.name.endswith("_events.tsv") for path in texts)
    assert (max(images.values()) <= most, max(texts.values())) == (True, 1), opened


@pytest.mark.parametrize(("options", "most"), [((), 2), (("--dummy-scans", "0"), 1)])
def test_a_dry_run_opens_files_rarely(
    maker: BidsMaker, options: tuple[str, ...], most: int
) -> None:
    """Volumes are only read to count dummy volumes, once per series."""
    for number in (1, 2):
        sidecar = {"EchoTime": number / 100}
        maker.bold(f"sub-01_task-rest_echo-{number}", sidecar=sidecar)
    reference = BidsMaker(maker.root / "derivatives" / "highres-reference")
    reference.bold(zooms=(3.0, 3.0, 4.0))
    with count_opened(maker.root) as opened:
        plan = plan_for(maker, *options)
    assert plan.problems == ()
    assert [run.truth is not None for run in plan.runs] == [False, True]
    check_counts(opened, most)


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
    check_counts(opened, 3)
