"""Models that an earlier version called srgan and that are now of dcnet: preflight says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from formermodels import save_former_srgan

from bids_sr.cli.parser import parse_settings
from bids_sr.preflight import Plan, check

NOW = "available as the method dcnet"


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    made = BidsMaker(tmp_path / "bids")
    made.subject()
    return made


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An untrained model as an earlier version saved it."""
    (tmp_path / "models").mkdir()
    return save_former_srgan(tmp_path / "models")


def planned(maker: BidsMaker, *extra: str) -> Plan:
    out = str(maker.root.parent / "out")
    line = [str(maker.root), out, "participant", "--skip-bids-validation", *extra]
    return check(parse_settings(line).resolved(run_uuid="x"))


def test_given_for_dcnet_it_is_used_with_a_note(maker: BidsMaker, old: Path) -> None:
    plan = planned(maker, "--sr-method", "dcnet", "--pretrained", str(old))
    assert plan.problems == ()
    (note,) = [one for one in plan.warnings if NOW in one.why]
    assert note.what == f"--pretrained {old}"
    assert note.level == "note"


def test_given_for_srgan_it_is_refused_with_the_way_out(maker: BidsMaker, old: Path) -> None:
    (problem,) = planned(maker, "--sr-method", "srgan", "--pretrained", str(old)).problems
    assert problem.what == f"--pretrained {old}"
    assert problem.why.endswith(f"{NOW}, but --sr-method does not include this method")
    assert problem.remedy.startswith("Add dcnet to --sr-method")


def test_srgan_does_not_reuse_it(maker: BidsMaker, old: Path) -> None:
    reuse = ("--model-source", "reuse", "--model-dir", str(old.parent))
    (problem,) = planned(maker, "--sr-method", "srgan", *reuse).problems
    assert problem.what == f"--model-source reuse: {old}"
    assert NOW in problem.why
    assert "--sr-method dcnet" in problem.remedy
    assert planned(maker, "--sr-method", "dcnet", *reuse).problems == ()
