"""Runs with almost as many blocks as volumes: blocks are joined or split halves skipped."""

from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.dataset import BidsMaker
from data.fmriprep import planned

N_TYPES_JOINED, N_TYPES_TOO_MANY = 2, 9


@pytest.mark.parametrize(
    ("n_types", "outcome", "split"),
    [
        (N_TYPES_JOINED, "Split halves are composed of groups of consecutive blocks", True),
        (N_TYPES_TOO_MANY, "Split-half analysis is skipped", False),
    ],
)
def test_dense_events_are_reported_before_the_run(
    tmp_path: Path, n_types: int, outcome: str, split: bool
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()  # 30 volumes of 1 s
    maker.events(rows=[(1 + 1.2 * k, 0.5, f"type{k % n_types}") for k in range(18)])
    plan = planned(maker, "--sr-method", "bspline")
    (message,) = [notice.why for notice in plan.warnings if "blocks separately" in notice.why]
    assert message.startswith("30 volumes are not enough to estimate 18 blocks separately")
    assert outcome in message
    assert (plan.unsplit == frozenset()) is split


def test_few_blocks_are_not_reported(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    plan = planned(maker, "--sr-method", "bspline")
    assert not [notice for notice in plan.warnings if "blocks separately" in notice.why]


def test_non_steady_volumes_reduce_the_length_of_a_short_run(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    path = maker.bold(n_volumes=18)
    maker.events(rows=[(5.0, 2.0, "thumb"), (11.0, 2.0, "little")])
    assert planned(maker, "--sr-method", "bspline").problems == ()
    image = nb.load(path)
    brighter = np.asarray(image.dataobj).astype(np.float32)
    brighter[..., :4] *= 3
    nb.Nifti1Image(brighter, image.affine, image.header).to_filename(path)
    (problem,) = planned(maker, "--sr-method", "bspline").problems
    assert "requires at least 16 volumes" in problem.why
    assert "18 volumes minus 4 dummy volumes" in problem.why
