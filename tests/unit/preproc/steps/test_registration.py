"""Test registration steps: known transforms are recovered in the documented direction, and regions
and tissues are mapped correctly.
"""

from pathlib import Path

import numpy as np
import pytest
from data.head import brain, grid, seen, t2star
from nibabel.affines import apply_affine as apply

from bids_sr.io.nifti import load_image, save_image
from bids_sr.io.volume import Volume
from bids_sr.preproc.steps import registration as steps
from bids_sr.preproc.steps.aligned_series import BrainMasks
from bids_sr.report.registration_facts import registration_warnings
from bids_sr.spatial import low_resolution_grids, masks, similarity
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import displacement, hr_grid, invert, rigid_matrix

FACTOR = (2.0, 2.0, 1.0)
SMALL = grid((48, 56, 24), (4.0, 4.0, 5.0), (0, -18, 12))
DEGREES = np.pi / 180


def write_image(path: Path, image: Volume) -> Path:
    save_image(image.data, image.affine, path)
    return path


def error_mm(
    estimated: np.ndarray, true_xfm: np.ndarray, mask: np.ndarray, affine: np.ndarray
) -> float:
    return float(displacement(estimated, true_xfm, apply(affine, np.argwhere(mask))).max())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray, Path]:
    """Write highres, rotated by 3 degrees and shifted by 3 mm relative to lowres; return their
    paths and the transform from lowres to highres points.
    """
    folder = tmp_path_factory.mktemp("pair")
    true_xfm = rigid_matrix(
        np.array([2, -1, 2, 0, 0, 0]) + np.array([0, 0, 0, 2, 1, -2]) * DEGREES, [0, -18, 12]
    )
    shape, affine = hr_grid(SMALL.data.shape, SMALL.affine, FACTOR)
    high_res_grid = Volume(np.zeros(shape), affine)
    highres = seen(t2star(), high_res_grid, invert(true_xfm), noise=8, seed=1)
    aligned = seen(t2star(), high_res_grid, np.eye(4), noise=8, seed=2)
    low_res, low_affine = kspace_crop(aligned.data, aligned.affine, factor=FACTOR)
    lowres = Volume(np.abs(low_res), low_affine)
    write_image(folder / "still.nii", aligned)
    return (
        write_image(folder / "highres.nii", highres),
        write_image(folder / "lowres.nii", lowres),
        true_xfm,
        folder,
    )


@pytest.fixture(scope="module")
def pair_outputs(pair: tuple[Path, Path, np.ndarray, Path]) -> steps.AlignedPair:
    highres, lowres, _, folder = pair
    return steps.register_pair(highres, lowres, here=folder, factor=FACTOR, random_seed=1)


def test_the_offset_of_a_pair_is_recovered_and_the_pair_is_resampled(
    pair_outputs: steps.AlignedPair, pair: tuple[Path, ...]
) -> None:
    mask, facts = pair_outputs.pair_mask, pair_outputs.pair_facts
    xfm = pair_outputs.highres2lowres_xfm
    assert error_mm(xfm[0], pair[2], mask.data, mask.affine) < 0.2
    assert facts["resampled"]
    assert not facts["truncated"]
    assert abs(facts["offset_deg"] - 3) < 0.1
    assert abs(facts["offset_mm"] - 3) < 0.3
    high_res, low_res = pair_outputs.train_highres, pair_outputs.train_lowres
    shape, expected = hr_grid(low_res.data.shape, low_res.affine, FACTOR)
    assert high_res.data.shape == shape
    assert np.allclose(high_res.affine, expected)
    aligned = load_image(pair[3] / "still.nii")[0]
    inside = masks.grow(aligned > 300, high_res.affine, -4.0)
    before = load_image(pair[0])[0]
    assert np.corrcoef(high_res.data[inside], aligned[inside])[0, 1] > 0.97
    assert np.corrcoef(before[inside], aligned[inside])[0, 1] < 0.8


def test_an_aligned_pair_is_not_resampled(pair: tuple[Path, ...], tmp_path: Path) -> None:
    aligned_path = pair[3] / "still.nii"
    outputs = steps.register_pair(
        aligned_path, pair[1], here=tmp_path, factor=FACTOR, random_seed=1
    )
    facts = outputs.pair_facts
    assert np.array_equal(outputs.train_highres.data, load_image(aligned_path)[0])
    assert not facts["resampled"]
    assert facts["displacement_max_mm"] < 0.05


def test_a_truncated_pair_equals_cropped_k_space(pair: tuple[Path, ...]) -> None:
    outputs = steps.truncate_pair(pair[0], factor=FACTOR)
    data, affine = load_image(pair[0])
    expected, low_affine = kspace_crop(data, affine, factor=FACTOR)
    assert np.allclose(outputs.train_lowres.data, np.maximum(expected, 0), atol=1e-3)
    assert np.allclose(outputs.train_lowres.affine, low_affine)
    assert np.array_equal(outputs.train_highres.data, data)
    assert outputs.pair_facts["truncated"]
    assert np.array_equal(outputs.highres2lowres_xfm[0], np.eye(4))


@pytest.mark.parametrize("slices", [pytest.param(24, marks=pytest.mark.slow), 14])
def test_bold_and_t1w_are_registered_even_with_few_slices(slices: int, tmp_path: Path) -> None:
    t1w, t1w_mask = brain(2.0)
    few_slices = grid((48, 56, slices), (4.0, 4.0, 5.0), (0, -18, 25))
    true_xfm = rigid_matrix(
        np.array([3, -2, 4, 0, 0, 0]) + np.array([0, 0, 0, 4, -2, 3]) * DEGREES, [0, -18, 12]
    )
    # `true_xfm` maps a T1w point to its boldref point.
    boldref = seen(t2star(), few_slices, invert(true_xfm), noise=15)
    xfm, facts = steps.register_to_t1w(
        boldref, t1w, t1w.like(t1w_mask), here=tmp_path, random_seed=1
    )
    assert error_mm(xfm[0], true_xfm, t1w_mask, t1w.affine) < (0.3 if slices > 20 else 0.45)
    assert not facts["bold_t1w_poor"]
    assert not facts["bold_t1w_kept"]
    assert facts["bold_t1w_start"] == "headers"
    assert facts["bold_t1w_mask_dice"] > 0.9


@pytest.mark.parametrize("axis", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2))])
def test_a_header_wrong_by_a_quarter_turn_is_corrected(
    axis: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """T1w points move with the header, so the transform is the inverse turn."""
    t1w, t1w_mask = brain(3.0)
    low_res_grid = grid((32, 38, 18), (6.0, 6.0, 6.0), (0, -18, 20))
    turn = rigid_matrix([4, -3, 5, *(90 * DEGREES * np.eye(3)[axis])], [0, 0, 0])
    boldref = seen(t2star(), low_res_grid, np.eye(4), noise=15)
    turned = Volume(t1w.data, turn @ t1w.affine)
    xfm, facts = steps.register_to_t1w(
        boldref, turned, turned.like(t1w_mask), here=tmp_path, random_seed=1
    )
    assert error_mm(xfm[0], invert(turn), t1w_mask, turned.affine) < 1
    assert facts["bold_t1w_start"] == "turned headers"
    assert abs(facts["bold_t1w_offset_deg"] - 90) < 2
    assert "90 degrees" in caplog.text
    assert registration_warnings(facts)


def test_pair_and_bold_are_registered_across_contrasts(tmp_path: Path) -> None:
    to_bold = rigid_matrix(
        np.array([1, 2, -2, 0, 0, 0]) + np.array([0, 0, 0, -2, 2, 1]) * DEGREES, [0, -18, 12]
    )
    to_lowres = rigid_matrix([5, -4, 6, 0.12, 0, -0.1], [0, -18, 12])
    shape, affine = hr_grid(SMALL.data.shape, SMALL.affine, FACTOR)
    highres = seen(t2star(), Volume(np.zeros(shape), affine), np.eye(4), noise=8)
    t1, _ = brain(2.0)
    contrast = sample_volume(t1.data, t1.affine, t2star().data.shape, t2star().affine)
    weighted = Volume(
        data=t2star().data * (1 - 0.3 * np.clip(contrast, 0, 1)), affine=t2star().affine
    )
    boldref = seen(weighted, SMALL, to_bold, noise=15, seed=4)
    xfm, guide, _ = steps.register_to_pair(
        boldref,
        write_image(tmp_path / "highres.nii", highres),
        to_lowres[None],
        here=tmp_path,
        factor=FACTOR,
        random_seed=1,
    )
    mask = masks.brain_mask(boldref.data, boldref.affine)
    assert error_mm(xfm[0], to_bold, mask, boldref.affine) < 0.2
    truth = seen(t2star(), Volume(np.zeros(shape), affine), to_bold)
    assert np.allclose(guide.affine, affine)
    assert np.corrcoef(guide.data[truth.data > 300], truth.data[truth.data > 300])[0, 1] > 0.95


def test_the_bold_mask_is_limited_to_brain_and_signal_and_ignores_a_failed_registration() -> None:
    t1w, t1w_mask = brain(2.0)
    boldref = seen(t2star(), SMALL, np.eye(4), noise=15)
    dropout = boldref.data.copy()
    dropout[20:28, 40:48, :6] = 5
    boldref_with_dropout, brain_of_t1w = boldref.like(dropout), t1w.like(t1w_mask)
    masked, failed = (
        steps.mask_bold(boldref_with_dropout, brain_of_t1w, xfm[None], factor=FACTOR)
        for xfm in (np.eye(4), rigid_matrix([70, 0, 0, 0, 0, 0], [0, 0, 0]))
    )
    without_t1w = steps.mask_bold(boldref_with_dropout, factor=FACTOR)
    inside = (
        low_resolution_grids.coverage(t1w_mask, t1w.affine, SMALL.data.shape, SMALL.affine) >= 0.5
    )
    mask, high_res_mask, _ = masked
    assert not (mask.data & ~inside).any()
    assert similarity.dice(mask.data, inside) > 0.93
    assert high_res_mask.data.shape == (96, 112, 24)
    assert (
        similarity.dice(
            low_resolution_grids.block_average(high_res_mask.data, (2, 2, 1)) >= 0.5, mask.data
        )
        > 0.95
    )
    assert np.array_equal(failed[0].data, without_t1w[0].data)
    assert failed[2]["mask_source"] == "boldref"
    assert mask.data.dtype == bool


@pytest.fixture
def masks_on_bold() -> BrainMasks:
    shape, affine = hr_grid(SMALL.data.shape, SMALL.affine, FACTOR)
    return BrainMasks(
        bold_mask=SMALL.like(np.ones(SMALL.data.shape, dtype=bool)),
        bold_mask_hr=Volume(np.ones(shape, dtype=bool), affine),
    )


def box_region(middle: tuple[float, float, float]) -> Volume:
    """Return a mask of 24 x 24 x 20 mm around a point, with 1 mm voxels, in T1w space."""
    region = grid((60, 60, 60), (1.0, 1.0, 1.0), middle)
    data = region.data.copy()
    data[18:42, 18:42, 20:40] = 1
    return Volume(data, region.affine)


def test_a_region_is_mapped_by_two_transforms_in_order(
    masks_on_bold: BrainMasks, tmp_path: Path
) -> None:
    # Both transforms rotate and shift, so their order matters. This one maps a T1w point to its
    # boldref point.
    to_bold = rigid_matrix([8, -4, 10, 0, 0, 0.4], [0, 0, 0])
    # maps a T1w point to the region's space
    to_std = rigid_matrix([0, 16, -5, 0, 0, -0.4], [0, 0, 0])
    write_itk(tmp_path / "std.txt", to_std)
    low_res, high_res, facts = steps.region_to_bold(
        box_region((2, -10, 12)),
        masks_on_bold,
        to_bold[None],
        [tmp_path / "std.txt"],
        here=tmp_path,
        random_seed=1,
    )
    center = apply(to_bold, apply(invert(to_std), np.array([[2.0, -10, 12]])))
    for region in (low_res, high_res):
        assert (
            np.abs(apply(region.affine, np.argwhere(region.data)).mean(axis=0) - center).max()
            < 1.3
        )
        assert (
            abs(region.data.sum() * abs(np.linalg.det(region.affine[:3, :3])) / (24 * 24 * 20) - 1)
            < 0.2
        )
    assert facts["roi_fraction_in_fov"] == 1


def test_a_region_in_the_space_of_the_run_is_not_moved(
    masks_on_bold: BrainMasks, tmp_path: Path
) -> None:
    mask, mask_hr = masks_on_bold.bold_mask, masks_on_bold.bold_mask_hr
    data = np.zeros(mask.data.shape, np.float32)
    data[tuple(size // 2 for size in data.shape)] = 1
    run = BrainMasks(bold_mask=mask, bold_mask_hr=mask_hr)
    region, region_hr, _ = steps.region_to_bold(mask.like(data), run, here=tmp_path, random_seed=1)
    np.testing.assert_array_equal(region.data, data > 0)
    ratio = abs(np.linalg.det(mask.affine) / np.linalg.det(mask_hr.affine))
    assert region_hr.data.sum() == pytest.approx(ratio)


@pytest.mark.parametrize(("up_mm", "share"), [(60.0, 0.5), (200.0, 0.0)])
def test_the_part_of_a_region_outside_the_field_of_view_is_reported(
    up_mm: float, share: float, masks_on_bold: BrainMasks, tmp_path: Path
) -> None:
    """The brain replaces a region without a voxel."""
    region = box_region((0, -18, 12 + up_mm))
    low_res, high_res, facts = steps.region_to_bold(
        region, masks_on_bold, np.eye(4)[None], here=tmp_path, random_seed=1
    )
    low_res, _, facts = steps.unite_regions(
        [low_res], [high_res], [facts], masks_on_bold, region_texts=["knob.nii"]
    )
    assert abs(facts["roi_fraction_in_fov"] - share) < 0.15
    assert facts["roi_voxels"] == low_res.data.sum() * (share > 0)
    assert facts["roi_is_brain"] is (share == 0)
    assert low_res.data.all() == (share == 0)


def test_the_union_of_regions_is_within_the_brain(masks_on_bold: BrainMasks) -> None:
    mask, mask_hr = masks_on_bold.bold_mask, masks_on_bold.bold_mask_hr
    regions, regions_hr = [], []
    for number in range(3):
        for grid_mask, grid_regions in ((mask, regions), (mask_hr, regions_hr)):
            data = np.zeros(grid_mask.data.shape, bool)
            if number < 2:
                data[number::3] = True
            grid_regions.append(grid_mask.like(data))
    facts = [{"roi_fraction_in_fov": fraction} for fraction in (0.5, 0.9, 0.7)]
    union, union_hr, found = steps.unite_regions(
        regions,
        regions_hr,
        facts,
        BrainMasks(bold_mask=mask, bold_mask_hr=mask_hr),
        region_texts=["left", "right", "air.nii"],
    )
    for image, both, brain_mask in ((union, regions, mask), (union_hr, regions_hr, mask_hr)):
        expected = (both[0].data | both[1].data) & (brain_mask.data > 0.5)
        np.testing.assert_array_equal(image.data, expected)
    assert found["roi_voxels"] == union.data.sum()
    assert (found["roi_fraction_in_fov"], found["roi_is_brain"]) == (0.5, False)
    assert found["rois_outside"] == ["air.nii"]


def test_tissues_become_fractions_of_bold_voxels() -> None:
    t1w_grid = grid((200, 40, 40), (1.0, 1.0, 1.0), (0, 0, 0))
    points = apply(t1w_grid.affine, np.argwhere(np.ones(t1w_grid.data.shape))).reshape(
        *t1w_grid.data.shape, 3
    )
    half = t1w_grid.like((points[..., 0] < 3).astype(np.float32))
    bold_grid = grid((9, 3, 3), (8.0, 8.0, 8.0), (0, 0, 0))
    # The edge is at x = 4 in the BOLD image.
    to_bold = rigid_matrix([1, 0, 0, 0, 0, 0], [0, 0, 0])
    (share,) = steps.tissues_to_bold(bold_grid, [half], to_bold[None])
    for i in range(9):
        lower_edge = apply(share.affine, np.array([[i, 1, 1]]))[0, 0] - 4
        assert abs(share.data[i, 1, 1] - np.clip((3.5 - lower_edge) / 8, 0, 1)) < 0.1
