"""Known offsets come back, in the stated direction; what is carried lands where it should."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from heads import brain, grid, seen, t2star
from nibabel.affines import apply_affine as apply

from bids_sr.io.nifti import SeriesReader, load_image, save_image
from bids_sr.io.volume import Volume
from bids_sr.registration import bold_to_anat
from bids_sr.registration.rigid import _Fit
from bids_sr.report.registration_facts import registration_warnings
from bids_sr.spatial import coarse_grids, masks, similarity
from bids_sr.spatial.itk_files import write_itk
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import displacement, hr_grid, invert, rigid_matrix
from bids_sr.sr.matrices import kspace_crop
from bids_sr.steps import registration as steps

FACTOR = (2.0, 2.0, 1.0)
SMALL = grid((48, 56, 24), (4.0, 4.0, 5.0), (0, -18, 12))
DEGREES = np.pi / 180


Made = tuple[Volume, Volume, Volume, np.ndarray, dict[str, object]]


def write(path: Path, image: Volume) -> Path:
    save_image(image.data, image.affine, path)
    return path


def error(found: np.ndarray, true: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> float:
    return float(displacement(found, true, apply(affine, np.argwhere(mask))).max())


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray, Path]:
    """highres turned by 3 degrees and shifted by 3 mm against lowres; the transform from lowres to
    highres points.
    """
    folder = tmp_path_factory.mktemp("pair")
    true = rigid_matrix(
        np.array([2, -1, 2, 0, 0, 0]) + np.array([0, 0, 0, 2, 1, -2]) * DEGREES, [0, -18, 12]
    )
    shape, affine = hr_grid(SMALL.data.shape, SMALL.affine, FACTOR)
    fine = Volume(np.zeros(shape), affine)
    highres = seen(t2star(), fine, invert(true), noise=8, seed=1)
    still = seen(t2star(), fine, np.eye(4), noise=8, seed=2)
    low, low_affine = kspace_crop(still.data, still.affine, factor=FACTOR)
    lowres = Volume(np.abs(low), low_affine)
    write(folder / "still.nii", still)
    return (
        write(folder / "highres.nii", highres),
        write(folder / "lowres.nii", lowres),
        true,
        folder,
    )


@pytest.fixture(scope="module")
def prepared(pair: tuple[Path, Path, np.ndarray, Path]) -> Made:
    highres, lowres, _, folder = pair
    return steps.register_pair(highres, lowres, here=folder, factor=FACTOR, random_seed=1)


def test_offset_of_the_pair_is_recovered_in_the_stated_direction(
    prepared: Made, pair: tuple[Path, ...]
) -> None:
    _, _, mask, found, facts = prepared
    assert error(found[0], pair[2], mask.data, mask.affine) < 0.2
    assert facts["resampled"]
    assert not facts["truncated"]
    assert abs(facts["offset_deg"] - 3) < 0.1
    assert abs(facts["offset_mm"] - 3) < 0.3


def test_highres_is_brought_to_the_frame_of_lowres(prepared: Made, pair: tuple[Path, ...]) -> None:
    high, low, *_ = prepared
    shape, expected = hr_grid(low.data.shape, low.affine, FACTOR)
    assert high.data.shape == shape
    assert np.allclose(high.affine, expected)
    still = load_image(pair[3] / "still.nii")[0]
    inside = masks.grow(still > 300, high.affine, -4.0)
    before = load_image(pair[0])[0]
    assert np.corrcoef(high.data[inside], still[inside])[0, 1] > 0.97
    assert np.corrcoef(before[inside], still[inside])[0, 1] < 0.8


def test_a_pair_in_register_is_taken_bit_for_bit(pair: tuple[Path, ...], tmp_path: Path) -> None:
    still = pair[3] / "still.nii"
    high, *_, facts = steps.register_pair(
        still, pair[1], here=tmp_path, factor=FACTOR, random_seed=1
    )
    assert np.array_equal(high.data, load_image(still)[0])
    assert not facts["resampled"]
    assert facts["displacement_max_mm"] < 0.05


def test_nothing_is_estimated_of_a_pair_that_is_said_to_be_in_register(
    pair: tuple[Path, ...], tmp_path: Path
) -> None:
    high, low, _, xfm, facts = steps.register_pair(
        pair[0], pair[1], here=tmp_path, factor=FACTOR, random_seed=1, registered=True
    )
    assert np.array_equal(xfm[0], np.eye(4))
    assert facts["displacement_max_mm"] == 0
    assert high.data.shape == tuple(
        round(n * f) for n, f in zip(low.data.shape, FACTOR, strict=True)
    )
    assert [*tmp_path.iterdir()] == []


def test_a_truncated_pair_is_the_scanners_crop(pair: tuple[Path, ...]) -> None:
    high, low, _, xfm, facts = steps.truncate_pair(pair[0], factor=FACTOR)
    data, affine = load_image(pair[0])
    expected, low_affine = kspace_crop(data, affine, factor=FACTOR)
    assert np.allclose(low.data, np.maximum(expected, 0), atol=1e-3)
    assert np.allclose(low.affine, low_affine)
    assert np.array_equal(high.data, data)
    assert facts["truncated"]
    assert np.array_equal(xfm[0], np.eye(4))


@pytest.mark.parametrize("slices", [pytest.param(24, marks=pytest.mark.slow), 14])
def test_bold_and_t1w_come_into_register_also_with_few_slices(slices: int, tmp_path: Path) -> None:
    t1w, t1w_mask = brain(2.0)
    few = grid((48, 56, slices), (4.0, 4.0, 5.0), (0, -18, 25))
    true = rigid_matrix(
        np.array([3, -2, 4, 0, 0, 0]) + np.array([0, 0, 0, 4, -2, 3]) * DEGREES, [0, -18, 12]
    )
    # `true` takes a T1w point to its boldref point
    boldref = seen(t2star(), few, invert(true), noise=15)
    xfm, facts = steps.register_to_t1w(
        boldref, t1w, t1w.like(t1w_mask), here=tmp_path, random_seed=1
    )
    assert error(xfm[0], true, t1w_mask, t1w.affine) < (0.3 if slices > 20 else 0.45)
    assert not facts["bold_t1w_poor"]
    assert not facts["bold_t1w_kept"]
    assert facts["bold_t1w_start"] == "headers"
    assert facts["bold_t1w_mask_dice"] > 0.9


def test_headers_stay_where_the_registration_finds_nothing_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    t1w, t1w_mask = brain(3.0)
    boldref = seen(t2star(), SMALL, np.eye(4), noise=15)
    lost = _Fit(xfm=rigid_matrix([6, -4, 5, 0.1, 0, 0], [0, -18, 12]), nmi=1.01, start="headers")
    monkeypatch.setattr(bold_to_anat, "rigid", lambda *_args, **_how: lost)
    xfm, facts = bold_to_anat.register_to_t1w(
        boldref, t1w, t1w_mask, seed=1, prefix=str(tmp_path / "x_")
    )
    assert np.array_equal(xfm, np.eye(4))
    assert facts["bold_t1w_kept"]
    assert facts["bold_t1w_displacement_rms_mm"] == 0
    assert facts["bold_t1w_nmi"] > 1.01


def test_headers_that_leave_no_overlap_are_not_believed(tmp_path: Path) -> None:
    t1w, t1w_mask = brain(3.0)
    far = rigid_matrix([130, 90, -60, 0.05, 0, 0], [0, -18, 12])
    moved = Volume(data=seen(t2star(), SMALL, np.eye(4), noise=15).data, affine=far @ SMALL.affine)
    xfm, facts = steps.register_to_t1w(
        moved, t1w, t1w.like(t1w_mask), here=tmp_path, random_seed=1
    )
    assert facts["bold_t1w_start"] == "centers of mass"
    assert error(xfm[0], far, t1w_mask, t1w.affine) < 0.5


@pytest.mark.parametrize("axis", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2))])
def test_a_header_that_is_wrong_by_a_quarter_turn_is_seen_through(
    axis: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """T1w points move with the header, so that the transform is the turn (and back)."""
    t1w, t1w_mask = brain(3.0)
    few = grid((32, 38, 18), (6.0, 6.0, 6.0), (0, -18, 20))
    turn = rigid_matrix([4, -3, 5, *(90 * DEGREES * np.eye(3)[axis])], [0, 0, 0])
    boldref = seen(t2star(), few, np.eye(4), noise=15)
    turned = Volume(t1w.data, turn @ t1w.affine)
    xfm, facts = steps.register_to_t1w(
        boldref, turned, turned.like(t1w_mask), here=tmp_path, random_seed=1
    )
    assert error(xfm[0], invert(turn), t1w_mask, turned.affine) < 1
    assert facts["bold_t1w_start"] == "turned headers"
    assert abs(facts["bold_t1w_offset_deg"] - 90) < 2
    assert "rotated the head by 90 degrees" in caplog.text
    assert "appears to be wrong" in " ".join(registration_warnings(facts))


def test_pair_and_bold_come_into_register_across_contrasts(tmp_path: Path) -> None:
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
    found, guide, _ = steps.register_to_pair(
        boldref,
        write(tmp_path / "highres.nii", highres),
        to_lowres[None],
        here=tmp_path,
        factor=FACTOR,
        random_seed=1,
    )
    mask = masks.brain_mask(boldref.data, boldref.affine)
    assert error(found[0], to_bold, mask, boldref.affine) < 0.2
    truth = seen(t2star(), Volume(np.zeros(shape), affine), to_bold)
    assert np.allclose(guide.affine, affine)
    assert np.corrcoef(guide.data[truth.data > 300], truth.data[truth.data > 300])[0, 1] > 0.95


def test_bold_mask_keeps_to_brain_and_signal_and_survives_a_failed_registration(
    tmp_path: Path,
) -> None:
    t1w, t1w_mask = brain(2.0)
    boldref = seen(t2star(), SMALL, np.eye(4), noise=15)
    dropout = boldref.data.copy()
    dropout[20:28, 40:48, :6] = 5
    given, brain_of_t1w = boldref.like(dropout), t1w.like(t1w_mask)
    good, bad = (
        steps.mask_bold(given, brain_of_t1w, xfm[None], factor=FACTOR)
        for xfm in (np.eye(4), rigid_matrix([70, 0, 0, 0, 0, 0], [0, 0, 0]))
    )
    alone = steps.mask_bold(given, factor=FACTOR)
    inside = coarse_grids.coverage(t1w_mask, t1w.affine, SMALL.data.shape, SMALL.affine) >= 0.5
    found, fine, _ = good
    assert not (found.data & ~inside).any()
    assert similarity.dice(found.data, inside) > 0.93
    assert fine.data.shape == (96, 112, 24)
    assert (
        similarity.dice(coarse_grids.block_average(fine.data, (2, 2, 1)) >= 0.5, found.data) > 0.95
    )
    assert np.array_equal(bad[0].data, alone[0].data)
    assert bad[2]["mask_source"] == "boldref"
    assert found.data.dtype == bool


@pytest.fixture
def masks_on_bold() -> tuple[Volume, Volume]:
    shape, affine = hr_grid(SMALL.data.shape, SMALL.affine, FACTOR)
    return SMALL.like(np.ones(SMALL.data.shape, dtype=bool)), Volume(
        np.ones(shape, dtype=bool), affine
    )


def box_region(middle: tuple[float, float, float]) -> Volume:
    """A mask of 24 x 24 x 20 mm around a point, 1 mm voxels, in T1w space."""
    region = grid((60, 60, 60), (1.0, 1.0, 1.0), middle)
    data = region.data.copy()
    data[18:42, 18:42, 20:40] = 1
    return Volume(data, region.affine)


def test_a_region_lands_where_two_transforms_put_it(
    masks_on_bold: tuple[Volume, Volume], tmp_path: Path
) -> None:
    # Turned and moved, so that the order of the two matters
    # takes a T1w point to its boldref point
    to_bold = rigid_matrix([8, -4, 10, 0, 0, 0.4], [0, 0, 0])
    # takes a T1w point to the region's space
    to_std = rigid_matrix([0, 16, -5, 0, 0, -0.4], [0, 0, 0])
    write_itk(tmp_path / "std.txt", to_std)
    low, high, facts = steps.region_to_bold(
        box_region((2, -10, 12)),
        to_bold[None],
        *masks_on_bold,
        [tmp_path / "std.txt"],
        here=tmp_path,
        random_seed=1,
    )
    center = apply(to_bold, apply(invert(to_std), np.array([[2.0, -10, 12]])))
    for region in (low, high):
        assert (
            np.abs(apply(region.affine, np.argwhere(region.data)).mean(axis=0) - center).max()
            < 1.3
        )
        assert (
            abs(region.data.sum() * abs(np.linalg.det(region.affine[:3, :3])) / (24 * 24 * 20) - 1)
            < 0.2
        )
    assert facts["roi_fraction_in_fov"] == 1
    assert not facts["roi_is_brain"]


@pytest.mark.parametrize(("up", "share"), [(60.0, 0.5), (200.0, 0.0)])
def test_what_the_field_of_view_misses_of_a_region_is_told(
    up: float, share: float, masks_on_bold: tuple[Volume, Volume], tmp_path: Path
) -> None:
    region = box_region((0, -18, 12 + up))
    low, _, facts = steps.region_to_bold(
        region, np.eye(4)[None], *masks_on_bold, here=tmp_path, random_seed=1
    )
    assert abs(facts["roi_fraction_in_fov"] - share) < 0.15
    assert facts["roi_is_brain"] is (share == 0)
    assert low.data.all() == (share == 0)


def test_tissues_become_fractions_of_bold_voxels() -> None:
    fine = grid((200, 40, 40), (1.0, 1.0, 1.0), (0, 0, 0))
    at = apply(fine.affine, np.argwhere(np.ones(fine.data.shape))).reshape(*fine.data.shape, 3)
    half = fine.like((at[..., 0] < 3).astype(np.float32))
    coarse = grid((9, 3, 3), (8.0, 8.0, 8.0), (0, 0, 0))
    to_bold = rigid_matrix([1, 0, 0, 0, 0, 0], [0, 0, 0])  # the edge lies at x = 4 in the BOLD
    (share,) = steps.tissues_to_bold(coarse, [half], to_bold[None])
    for i in range(9):
        low = apply(share.affine, np.array([[i, 1, 1]]))[0, 0] - 4
        assert abs(share.data[i, 1, 1] - np.clip((3.5 - low) / 8, 0, 1)) < 0.1


def test_facts_are_gathered() -> None:
    assert steps.gather_registration({"a": 1}, coreg_facts={"b": 1}) == {"a": 1, "b": 1}


def test_a_step_is_a_node_of_its_files(
    masks_on_bold: tuple[Volume, Volume], tmp_path: Path
) -> None:
    """Region to BOLD through its interface: a list that is empty, masks and transforms on disk."""
    write_itk(tmp_path / "b2t.txt", np.eye(4))
    low, high = (write(tmp_path / f"{k}.nii", mask) for k, mask in enumerate(masks_on_bold))
    node = steps.region_to_bold.interface(
        roi_source=write(tmp_path / "roi.nii", box_region((0, -18, 12))),
        roi_xfms=[],
        bold_mask=low,
        bold_mask_hr=high,
        boldref2t1w_xfm=tmp_path / "b2t.txt",
        random_seed=1,
    )
    out = node.run(cwd=str(tmp_path)).outputs
    facts = json.loads(Path(out.region_facts).read_text())
    region = load_image(Path(out.roi_bold))[0]
    assert (facts["roi_voxels"], facts["roi_is_brain"]) == (region.sum(), False)
    assert SeriesReader(Path(out.roi_bold)).dtype == np.uint8


_TWICE = """
import hashlib, sys
import numpy as np
from bids_sr.io.volume import Volume
from bids_sr.registration.ants import Stage, apply, read_linear, register
rng = np.random.default_rng(0)
from scipy.ndimage import gaussian_filter
affine = np.diag([4.0, 4.0, 4.0, 1.0])
fixed = Volume(data=gaussian_filter(rng.random((24, 26, 22)), 2), affine=affine)
noisy = np.roll(fixed.data, 1, 0) + 0.01 * rng.random((24, 26, 22))
moving = Volume(data=gaussian_filter(noisy, 1), affine=affine)
levels = dict(iterations=(20, 10), shrink=(2, 1), mm=(4.0, 2.0), masked=False)
rigid = Stage(transform="Rigid[0.1]", sampling=0.3, **levels)
syn = Stage(transform="SyN[0.2,3,0]", metric="CC", **levels)
linear = register(fixed, moving, [rigid], seed=0, prefix=sys.argv[1])
warp = register(fixed, moving, [syn], seed=0, prefix=sys.argv[1])
image = apply(moving, fixed, [warp[0]], seed=0)
print(hashlib.sha256(read_linear(linear[0]).tobytes() + image.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_two_processes_give_the_same_bits(tmp_path: Path) -> None:
    hashes = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", _TWICE, str(tmp_path / name / "reg_")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        hashes.add(done.stdout.strip().splitlines()[-1])
    assert len(hashes) == 1
    assert len(hashes.pop()) == 64


def test_importing_the_steps_costs_no_heavy_package() -> None:
    code = (
        "import sys, bids_sr.steps.registration, bids_sr.steps.anatomy;"
        "heavy = ('ants', 'torch', 'nilearn', 'skimage', 'matplotlib', 'templateflow', 'nipype');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
