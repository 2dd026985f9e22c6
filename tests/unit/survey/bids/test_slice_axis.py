"""Test all 48 axis orders of one series: they are processed in one order, and outputs have the
original order.
"""

from __future__ import annotations

import dataclasses
from itertools import permutations, product
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, only_run, survey_for
from data.dataset import BidsMaker

from bids_sr.io.copies import save_reordered
from bids_sr.io.grids import AxisOrder, inverse_order, reorder, reorder_affine
from bids_sr.io.image_header import Header
from bids_sr.survey.bids import slice_axis, timing

ORDERS = [
    (order, flips) for order in permutations(range(3)) for flips in product((1, -1), repeat=3)
]
TIMES = (0.0, 0.8, 0.2, 1.0, 0.4)


def oblique() -> np.ndarray:
    """Return the affine of an oblique grid of 3 x 3.2 x 5 mm."""
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (12, -7, 9), degrees=True).as_matrix() @ np.diag(
        [3.0, 3.2, 5.0]
    )
    affine[:3, 3] = -40, -50, 12
    return affine


def reoriented(
    data: np.ndarray,
    affine: np.ndarray,
    order: tuple[int, ...],
    flips: tuple[int, ...],
    tr: float = 2.0,
) -> nb.Nifti1Image:
    """Return the image with axes in another order; axes with -1 are flipped."""
    orientation = np.array([[order.index(axis), flips[order.index(axis)]] for axis in range(3)])
    image = nb.Nifti1Image(data, affine).as_reoriented(orientation)
    image.header.set_xyzt_units("mm", "sec")
    if data.ndim == 4:
        image.header["pixdim"][4] = tr
    return image


def header_of(image: nb.Nifti1Image) -> Header:
    affine = np.asarray(image.affine)
    return Header(
        path=Path("x_bold.nii.gz"),
        shape=image.shape,
        zooms=tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist()),
        tr=2.0,
        affine=affine,
        slice_axis=None,
        complex=False,
    )


def series() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(7, 6, 5, 3)).astype(np.float32)


@pytest.mark.parametrize(("order", "flips"), ORDERS)
def test_all_48_orders_are_processed_with_slices_last(
    order: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    data, affine = series(), oblique()
    image = reoriented(data, affine, order, flips)
    slices, sign = order.index(2), flips[order.index(2)]
    sidecar = {
        "SliceEncodingDirection": "ijk"[slices] + ("-" if sign < 0 else ""),
        "SliceTiming": list(TIMES),
    }
    header = slice_axis.with_slices_last(header_of(image), sidecar)
    assert header.shape == data.shape
    assert header.zooms == pytest.approx((3.0, 3.2, 5.0))
    assert len([*slice_axis.note_axis_order(header)]) == (order != (0, 1, 2))
    cosines = (header.affine[:3, :3] / header.zooms).T @ (affine[:3, :3] / (3.0, 3.2, 5.0))
    assert np.abs(np.diag(cosines)) == pytest.approx(np.ones(3))
    processed = reorder(np.asarray(image.dataobj), header.order)
    transform = np.linalg.inv(affine) @ header.affine
    for index in ((0, 0, 0), (6, 2, 1), (3, 5, 4)):  # world coordinates of voxels are unchanged
        original_index = tuple((transform @ (*index, 1))[:3].round().astype(int))
        assert processed[index] == pytest.approx(data[original_index])
    sidecar_in_order = slice_axis.sidecar_in_order(sidecar, header.order)
    choice = timing.choose_slice_times(header, sidecar_in_order, 2.0)
    assert not choice.notices
    slice_numbers = [int(np.rint((transform @ (0, 0, k, 1))[2])) for k in range(5)]
    assert choice.value == tuple(TIMES[k] for k in slice_numbers)  # slice times follow the slices
    assert reorder_affine(header.affine, inverse_order(header.order)) == pytest.approx(
        image.affine
    )


def test_reordering_a_mask_preserves_its_type(tmp_path: Path) -> None:
    mask = (series()[..., 0] > 0).astype(np.uint8)
    nb.save(nb.Nifti1Image(mask, oblique()), tmp_path / "mask.nii")
    save_reordered(tmp_path / "mask.nii", tmp_path / "back.nii.gz", order=(2, 0, 1))
    restored = nb.load(tmp_path / "back.nii.gz")
    assert restored.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(restored.dataobj), mask.transpose(2, 0, 1))
    assert restored.affine == pytest.approx(oblique()[:, [2, 0, 1, 3]], abs=1e-4)


@pytest.mark.parametrize("phase", ["i", "j-", "k"])
@pytest.mark.parametrize("order", [(1, 2, 0), (0, 2, 1), (1, 0, 2)])
def test_phase_encoding_directions_are_renamed_for_the_new_order(
    order: AxisOrder, phase: str
) -> None:
    sidecar = slice_axis.sidecar_in_order(
        {"PhaseEncodingDirection": phase, "TaskName": "tap"}, order
    )
    axis = "ijk".index(phase[0])
    assert sidecar == {
        "PhaseEncodingDirection": "ijk"[order.index(axis)] + phase[1:],
        "TaskName": "tap",
    }


def reorder_file(path: Path, order: AxisOrder) -> None:
    """Store an image with its axes in another order."""
    image = nb.load(path)
    turned = reoriented(np.asarray(image.dataobj), image.affine, order, (1, -1, 1), tr=1.0)
    nb.save(turned, path)


def test_run_and_pair_with_different_axis_orders_are_matched(maker: BidsMaker) -> None:
    plain = only_run(survey_for(maker))
    reorder_file(maker.path("sub-01_task-tap_bold.nii.gz", "func"), (2, 0, 1))
    reorder_file(maker.path("sub-01_acq-highres_T2starw.nii.gz", "anat"), (0, 2, 1))
    reorder_file(maker.path("sub-01_acq-lowres_T2starw.nii.gz", "anat"), (1, 0, 2))
    result = survey_for(maker)
    assert result.problems == []
    run = only_run(result)
    assert run.axis_order == (1, 2, 0)
    assert (run.shape, run.zooms) == (plain.shape, pytest.approx(plain.zooms))
    assert run.pair is not None
    assert plain.pair is not None
    assert (run.pair.factor, run.pair.orders) == (plain.pair.factor, ((0, 2, 1), (1, 0, 2)))
    assert len(about(result.notices, "sub-01_task-tap_bold.nii.gz")) == 1


def test_a_calibration_in_another_order_is_found(maker: BidsMaker) -> None:
    maker.bold(zooms=(6.0, 6.0, 3.0))
    maker.remove_pair()
    # isotropic voxels: the voxel size does not determine the slice axis
    path = maker.bold("sub-01_task-tap_acq-highres", zooms=(3.0, 3.0, 3.0))
    plain = only_run(survey_for(maker)).calibration
    reorder_file(path, (2, 1, 0))
    calibration = only_run(survey_for(maker)).calibration
    assert plain is not None
    assert calibration is not None
    header_in_order = dataclasses.replace(calibration.header, order=(0, 1, 2))
    assert dataclasses.replace(calibration, header=header_in_order) == plain
    assert calibration.header.order == (2, 1, 0)


def test_reordered_echoes_are_combined(maker: BidsMaker) -> None:
    for echo, time in ((1, 0.012), (2, 0.03)):
        sidecar = {"EchoTime": time, "SliceEncodingDirection": "i"}
        reorder_file(maker.bold(f"sub-01_task-tap_echo-{echo}", sidecar=sidecar), (2, 0, 1))
    maker.path("sub-01_task-tap_bold.nii.gz", "func").unlink()
    result = survey_for(maker)
    assert result.problems == []
    run = only_run(result)
    assert (len(run.echoes), run.axis_order) == (2, (1, 2, 0))
