"""Every node of a graph declares what was measured of its kind."""

import pytest
from loadnode import Load
from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe

from bids_sr.config import memory_model
from bids_sr.config.memory_model import Need, Sizes
from bids_sr.config.needs_of_classes import ANATOMICAL, OTHER, class_gb, needs
from bids_sr.config.superres import SuperRes
from bids_sr.workflows.wiring import declare_memory


def largest_gb(sizes: Sizes) -> float:
    return memory_model.largest_gb(needs(sizes), sizes)


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
        assert class_gb(kind, small) <= class_gb(kind, large) <= largest_gb(large)
    assert class_gb("SegmentTissues", large) > class_gb("SegmentTissues", small) + 0.1
    assert class_gb("AnyOther", large) == class_gb("AnyOther", Sizes(high=0.5))
    assert largest_gb(Sizes(high=0.5)) < largest_gb(large), "without a T1w image its steps do not count"
    assert largest_gb(large) < largest_gb(Sizes(t1w=8.0, low=0.12, high=0.5, learned=4.0)), "only where there are such"
    assert Need(always=0.1, high=0.0).gigabytes(large) > 0.1


def test_dense_networks_of_the_paper_count_where_they_are_trained_and_applied() -> None:
    plain, dense = Sizes(high=0.2), Sizes(high=0.2, dense=0.2)
    assert class_gb("TrainOnVolumes", dense) > class_gb("TrainOnVolumes", plain) + 2.8
    assert class_gb("SuperResolve", dense) > class_gb("SuperResolve", plain) + 0.3
    large = [Sizes(high=n, dense=n) for n in (1.0, 2.0)]
    parts = [class_gb("SuperResolve", each) - class_gb("SuperResolve", Sizes(high=each.high)) for each in large]
    assert parts[0] == pytest.approx(parts[1]), "larger volumes go through it in parts"
    assert SuperRes(methods=("tv",), recipe="paper").dense
    assert not SuperRes(methods=("tv",)).dense
    assert not SuperRes(methods=("srgan",), recipe="paper").dense
