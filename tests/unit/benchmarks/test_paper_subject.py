"""Test benchmarks/paper_subject.py: every step belongs to a stage, and operations are counted as
executed.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
RUN, SUBJECT = "bids_sr_wf.sub_01_wf.sub_01_task_tap_wf", "bids_sr_wf.sub_01_wf"


@pytest.fixture
def roofline(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the module that counts operations."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _roofline

    return _roofline


@pytest.mark.parametrize(
    ("node", "stage"),
    [
        (f"{RUN}.srgan.super_resolve", "super-resolution: srgan"),
        (f"{RUN}.correct_motion", "super-resolution: raw"),
        (f"{SUBJECT}.pair_1_wf.srgan.train_on_pair", "training"),
        (f"{RUN}.sdmod.estimate_variance", "variance maps of the run"),
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
    node: str, stage: str, roofline: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import paper_subject

    assert paper_subject.stage_of(node, node.rpartition(".")[2]) == stage
    assert paper_subject.stage_of(f"{RUN}.inject.store_series", "store") == "writing the results"


def test_operations_of_a_convolution_equal_the_closed_form(roofline: ModuleType) -> None:
    layer, image = nn.Conv2d(2, 3, 3, padding=1, bias=False), torch.zeros(1, 2, 8, 8)
    with torch.no_grad():
        work = roofline.counted(lambda: layer(image))
    assert work.flops == 2 * 9 * 2 * 3 * 64
    assert work.bytes == 4 * (2 * 64 + 3 * 64 + 9 * 6)


def test_views_move_no_bytes_and_in_place_operations_do(roofline: ModuleType) -> None:
    image = torch.zeros(4, 4)
    assert roofline.counted(lambda: image.T.unsqueeze(0)[:, 1:]).bytes == 0
    assert roofline.counted(lambda: image.T.reshape(2, 8)).bytes == 2 * 4 * 16
    assert roofline.counted(lambda: image.add_(1)).bytes == 2 * 4 * 16


def test_matrices_along_axes_are_counted_as_successive_products(roofline: ModuleType) -> None:
    work = roofline.along((4, 5, 3), (8, 10, 3))
    assert work.flops == 2 * (4 * 8) * 15 + 2 * (5 * 10) * 24
    assert work.bytes == 4 * ((60 + 120) + (120 + 240))


def test_a_kernel_is_compared_with_the_lower_roof(roofline: ModuleType) -> None:
    peaks = roofline.Peaks(convolution=100.0, product=50.0, copy=10.0, triad=8.0, cached=40.0)
    slow = roofline.Kernel(
        name="n",
        unit="u",
        parts=(),
        work=roofline.Work(flops=1e9, bytes=1e9),
        run=lambda: np.zeros(1),
    )
    row = roofline.row(slow, peaks, 0.2)
    assert (row["roof"], row["GFLOP/s"], row["% of its roof"]) == ("memory", 5.0, 50.0)
