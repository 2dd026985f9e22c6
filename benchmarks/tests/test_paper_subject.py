"""Test benchmarks/paper_subject.py: every step belongs to a stage."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RUN, SUBJECT = "bids_sr_wf.sub_01_wf.sub_01_task_tap_wf", "bids_sr_wf.sub_01_wf"


@pytest.mark.parametrize(
    ("node", "stage"),
    [
        (f"{RUN}.srgan.super_resolve", "super-resolution: srgan"),
        (f"{RUN}.correct_motion", "super-resolution: acquired"),
        (f"{SUBJECT}.pair_1_wf.srgan.train_on_pair", "training"),
        (f"{RUN}.sdmod.estimate_variance", "prior SD maps of the run"),
        (f"{RUN}.draw_variance", "figures and reports"),
        (f"{RUN}.inject.map_series", "activation maps"),
        (f"{RUN}.compare_halves", "evaluation"),
        (f"{SUBJECT}.anat_figures_wf.draw_normalization", "figures and reports"),
        (f"{RUN}.estimate_motion", "head motion, slice timing, confounds"),
        (f"{RUN}.register_to_t1w", "registration of run and pair"),
        (f"{SUBJECT}.pair_1_wf.register_pair", "registration of run and pair"),
        (f"{SUBJECT}.anat_wf.normalize_t1w", "anatomy: bias field, brain, template, tissues"),
    ],
)
def test_every_step_belongs_to_a_stage(
    node: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import paper_subject

    assert paper_subject.stage_of(node, node.rpartition(".")[2]) == stage
    assert paper_subject.stage_of(f"{RUN}.inject.store_series", "store") == "writing the results"
