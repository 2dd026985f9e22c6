"""Voxels of one run, without an index of its data set."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bids_sr.io.notices import Notice
from bids_sr.survey.bids.inputs import Pair, Subject
from bids_sr.survey.bids.precomputed import PrecomputedAnat, PrecomputedRun
from bids_sr.survey.bids.related_runs import read_run
from bids_sr.survey.preflight.plan import Plan
from bids_sr.survey.preflight.voxel_checks import check_data

CheckRun = Callable[..., tuple[Notice, ...]]


@pytest.fixture
def check_run() -> CheckRun:
    """Return a function that checks the voxels of a series, and of images of the participant."""

    def check(
        path: Path,
        *,
        t1w: tuple[Path, ...] = (),
        pair: Pair | None = None,
        anatomy: PrecomputedAnat | None = None,
        derivatives: PrecomputedRun | None = None,
    ) -> tuple[Notice, ...]:
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        run = replace(read_run(path, sidecar), pair=pair, precomputed=derivatives)
        subject = Subject(label="01", t1w=t1w, runs=(run,), precomputed=anatomy)
        return check_data(Plan(subjects=(subject,)))

    return check
