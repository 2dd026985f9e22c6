"""Every node of a graph declares what was measured of its kind."""

import pytest
from loadnode import Load
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_sr.config.memory_model import ANATOMICAL, OTHER, Need, Sizes, largest_gb, step_gb
from bids_sr.config.superres import SuperRes
from bids_sr.workflows.wiring import declare_memory


def test_nodes_at_every_depth_declare_by_kind() -> None:
    inner, outer = pe.Workflow("inner"), pe.Workflow("outer")
    deep = pe.Node(Load(), name="deep")
    inner.add_nodes([deep])
    here = pe.Node(niu.Merge(2), name="here", run_without_submitting=True)
    outer.add_nodes([inner, here])
    declare_memory(outer, {"Load": 0.75, "Merge": 9.0}.__getitem__)
    assert deep.mem_gb == 0.75
    assert here.mem_gb < 0.05, "it runs in the scheduler, whose share is kept for it"


def test_larger_grids_need_more_and_none_is_above_the_largest() -> None:
    small, large = Sizes(t1w=1.0, low=0.02, high=0.1), Sizes(t1w=8.0, low=0.12, high=0.5)
    for kind in (*ANATOMICAL, *OTHER, "AnyOther"):
        assert step_gb(kind, small) <= step_gb(kind, large) <= largest_gb(large)
    assert step_gb("SegmentTissues", large) > step_gb("SegmentTissues", small) + 0.1
    assert step_gb("AnyOther", large) == step_gb("AnyOther", Sizes(high=0.5))
    assert largest_gb(Sizes(high=0.5)) < largest_gb(large), "without a T1w image its steps do not count"
    assert largest_gb(large) < largest_gb(Sizes(t1w=8.0, low=0.12, high=0.5, learned=4.0)), "only where there are such"
    assert Need(always=0.1, high=0.0).gigabytes(large) > 0.1


def test_dense_networks_of_the_paper_count_where_they_are_trained_and_applied() -> None:
    plain, dense = Sizes(high=0.2), Sizes(high=0.2, dense=0.2)
    assert step_gb("TrainOnVolumes", dense) > step_gb("TrainOnVolumes", plain) + 2.8
    assert step_gb("SuperResolve", dense) > step_gb("SuperResolve", plain) + 0.3
    large = [Sizes(high=n, dense=n) for n in (1.0, 2.0)]
    parts = [step_gb("SuperResolve", each) - step_gb("SuperResolve", Sizes(high=each.high)) for each in large]
    assert parts[0] == pytest.approx(parts[1]), "larger volumes go through it in parts"
    assert SuperRes(methods=("tv",), recipe="paper").dense
    assert not SuperRes(methods=("tv",)).dense
    assert not SuperRes(methods=("srgan",), recipe="paper").dense
