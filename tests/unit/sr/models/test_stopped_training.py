"""Test which networks are too inaccurate to be applied, by the entries of their model cards."""

import pytest

from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.stopped_training import explain_stopped


def scores(loss_db):
    return {"network": {"psnr": 25.0 - loss_db}, "zerofill": {"psnr": 25.0}, "iteration": 4}


def explain(stopped_by="time", **entries):
    phases = {"search": {"iterations": 4, "of": 100_000, "stopped_by": stopped_by}}
    return explain_stopped(ModelCard.from_json({"phases": phases, **entries}))


def test_a_stopped_training_must_not_be_worse_than_zero_filling_by_more_than_one_db():
    reason = explain(on_trained_slices=scores(7.04))
    assert "4 of 100,000 steps" in reason
    assert "7.0 dB" in reason
    assert explain(on_trained_slices=scores(1.01)) != ""
    assert explain(on_trained_slices=scores(0.99)) == ""


def test_a_second_pair_counts_before_held_out_slices_and_these_before_trained_slices():
    accurate, inaccurate = scores(-1.0), scores(2.0)
    assert explain(held_out=accurate, on_trained_slices=inaccurate) == ""
    assert explain(held_out=inaccurate, on_trained_slices=accurate) != ""
    assert explain(on_second_pair=accurate, held_out=inaccurate) == ""
    assert explain(on_second_pair=inaccurate, held_out=accurate) != ""


@pytest.mark.parametrize(
    "entries",
    [
        {"stopped_by": "iterations", "held_out": scores(9.0)},
        {"stopped_by": "plateau", "held_out": scores(9.0)},
        {"sloppy": True, "held_out": scores(9.0)},
        {"held_out": {"network": {"consistency_psnr": 40.0}}},
        {"held_out": {"network": {"psnr": 20.0}, "input": {"psnr": 25.0}}},
    ],
    ids=["complete", "plateau", "sloppy", "no high-resolution image", "same grid"],
)
def test_other_networks_may_be_applied(entries):
    assert explain(**entries) == ""
