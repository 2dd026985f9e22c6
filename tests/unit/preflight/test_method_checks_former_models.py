"""Models that earlier versions called srgan are models of dcnet, and preflight reports this."""

from __future__ import annotations

from pathlib import Path

import pytest
from bidsmaker import BidsMaker
from formermodels import save_former_srgan

from bids_sr.cli.parser import parse_settings
from bids_sr.preflight import Plan, check

DCNET_TEXT = "available as the method dcnet"


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    data = BidsMaker(tmp_path / "bids")
    data.subject()
    return data


@pytest.fixture
def former_model(tmp_path: Path) -> Path:
    """Save an untrained model as an earlier version did."""
    (tmp_path / "models").mkdir()
    return save_former_srgan(tmp_path / "models")


def plan_call(maker: BidsMaker, *extra: str) -> Plan:
    out = str(maker.root.parent / "out")
    line = [str(maker.root), out, "participant", "--skip-bids-validation", *extra]
    return check(parse_settings(line).resolve(run_uuid="x"))


def test_a_former_model_is_used_for_dcnet_with_a_note(
    maker: BidsMaker, former_model: Path
) -> None:
    plan = plan_call(maker, "--sr-method", "dcnet", "--pretrained", str(former_model))
    assert plan.problems == ()
    (note,) = [notice for notice in plan.warnings if DCNET_TEXT in notice.why]
    assert note.what == f"--pretrained {former_model}"
    assert note.level == "note"


def test_a_former_model_is_rejected_for_srgan_with_a_fix(
    maker: BidsMaker, former_model: Path
) -> None:
    (problem,) = plan_call(
        maker, "--sr-method", "srgan", "--pretrained", str(former_model)
    ).problems
    assert problem.what == f"--pretrained {former_model}"
    assert problem.why.endswith(f"{DCNET_TEXT}, but --sr-method does not include this method")
    assert problem.remedy.startswith("Add dcnet to --sr-method")


def test_srgan_does_not_reuse_a_former_model(maker: BidsMaker, former_model: Path) -> None:
    reuse = ("--model-source", "reuse", "--model-dir", str(former_model.parent))
    (problem,) = plan_call(maker, "--sr-method", "srgan", *reuse).problems
    assert problem.what == f"--model-source reuse: {former_model}"
    assert DCNET_TEXT in problem.why
    assert "--sr-method dcnet" in problem.remedy
    assert plan_call(maker, "--sr-method", "dcnet", *reuse).problems == ()
