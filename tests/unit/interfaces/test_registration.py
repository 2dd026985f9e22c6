"""Known offsets come back, in the stated direction; what is carried lands where it should."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from heads import brain, grid, seen, t2star

from bids_sr.interfaces.coregistration import (
    MapsToTemplate,
    MaskBold,
    MergeFacts,
    PreparePair,
    RegionToBold,
    RegisterBoldToT1w,
    RegisterPairToBold,
    TissuesToBold,
)
from bids_sr.io.nifti import load_image, save_image
from bids_sr.registration import bold_to_anat
from bids_sr.registration.ants import Image
from bids_sr.registration.rigid import Fit
from bids_sr.spatial import masks
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import apply, displacement, hr_grid, invert, read_itk, rigid_matrix, write_itk
from bids_sr.sr.resolution.matrices import kspace_crop

FACTOR = (2.0, 2.0, 1.0)
SMALL = grid((48, 56, 24), (4.0, 4.0, 5.0), (0, -18, 12))
DEGREES = np.pi / 180


def write(path: Path, image: Image) -> str:
    save_image(image.data, image.affine, path)
    return str(path)


def error(found: np.ndarray, true: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> float:
    return float(displacement(found, true, apply(affine, np.argwhere(mask))).max())


def run(interface: Any, folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    return interface.run(cwd=str(folder)).outputs


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, np.ndarray, Path]:
    """highres turned by 3 degrees and shifted by 3 mm against lowres; the transform from lowres to highres points."""
    folder = tmp_path_factory.mktemp("pair")
    true = rigid_matrix(np.array([2, -1, 2, 0, 0, 0]) + np.array([0, 0, 0, 2, 1, -2]) * DEGREES, [0, -18, 12])
    shape, affine = hr_grid(SMALL.data.shape, SMALL.affine, FACTOR)
    fine = Image(data=np.zeros(shape), affine=affine)
    highres = seen(t2star(), fine, invert(true), noise=8, seed=1)
    still = seen(t2star(), fine, np.eye(4), noise=8, seed=2)
    low, low_affine = kspace_crop(still.data, still.affine, factor=FACTOR)
    lowres = Image(data=np.abs(low), affine=low_affine)
    write(folder / "still.nii", still)
    return write(folder / "highres.nii", highres), write(folder / "lowres.nii", lowres), true, folder


@pytest.fixture(scope="module")
def prepared(pair: tuple[str, str, np.ndarray, Path]) -> Any:
    highres, lowres, _, folder = pair
    return run(PreparePair(highres=highres, lowres=lowres, factor=FACTOR), folder / "moved")


def test_offset_of_the_pair_is_recovered_in_the_stated_direction(prepared: Any, pair: Any) -> None:
    true = pair[2]
    mask, affine = load_image(prepared.pair_mask)
    found = read_itk(prepared.highres2lowres_xfm)[0]
    assert error(found, true, mask > 0.5, affine) < 0.2
    facts = json.loads(Path(prepared.pair_json).read_text())
    assert facts["resampled"]
    assert not facts["truncated"]
    assert abs(facts["offset_deg"] - 3) < 0.1
    assert abs(facts["offset_mm"] - 3) < 0.3


def test_highres_is_brought_to_the_frame_of_lowres(prepared: Any, pair: Any) -> None:
    low, affine = load_image(prepared.train_lowres)
    high, grid_ = load_image(prepared.train_highres)
    shape, expected = hr_grid(low.shape, affine, FACTOR)
    assert high.shape == shape
    assert np.allclose(grid_, expected)
    still = load_image(pair[3] / "still.nii")[0]
    inside = masks.grow(still > 300, grid_, -4.0)
    before = load_image(pair[0])[0]
    assert np.corrcoef(high[inside], still[inside])[0, 1] > 0.97
    assert np.corrcoef(before[inside], still[inside])[0, 1] < 0.8


def test_a_pair_in_register_is_taken_bit_for_bit(pair: Any, tmp_path: Path) -> None:
    still = str(pair[3] / "still.nii")
    out = run(PreparePair(highres=still, lowres=pair[1], factor=FACTOR), tmp_path)
    assert np.array_equal(load_image(out.train_highres)[0], load_image(still)[0])
    facts = json.loads(Path(out.pair_json).read_text())
    assert not facts["resampled"]
    assert facts["displacement_max_mm"] < 0.05


def test_a_truncated_pair_is_the_scanners_crop(pair: Any, tmp_path: Path) -> None:
    out = run(PreparePair(highres=pair[0], factor=FACTOR, truncate=True), tmp_path)
    data, affine = load_image(pair[0])
    low, low_affine = kspace_crop(data, affine, factor=FACTOR)
    got, got_affine = load_image(out.train_lowres)
    assert np.allclose(got, np.maximum(low, 0), atol=1e-3)
    assert np.allclose(got_affine, low_affine)
    assert np.array_equal(load_image(out.train_highres)[0], data)
    assert json.loads(Path(out.pair_json).read_text())["truncated"]
    assert np.array_equal(read_itk(out.highres2lowres_xfm)[0], np.eye(4))


@pytest.mark.parametrize("slices", [pytest.param(24, marks=pytest.mark.slow), 14])
def test_bold_and_t1w_come_into_register_also_with_few_slices(slices: int, tmp_path: Path) -> None:
    t1w, t1w_mask = brain(2.0)
    few = grid((48, 56, slices), (4.0, 4.0, 5.0), (0, -18, 25))
    true = rigid_matrix(np.array([3, -2, 4, 0, 0, 0]) + np.array([0, 0, 0, 4, -2, 3]) * DEGREES, [0, -18, 12])
    boldref = seen(t2star(), few, invert(true), noise=15)  # `true` takes a T1w point to its boldref point
    out = run(
        RegisterBoldToT1w(
            boldref=write(tmp_path / "boldref.nii", boldref),
            t1w_preproc=write(tmp_path / "t1w.nii", t1w),
            t1w_mask=write(tmp_path / "mask.nii", Image(data=t1w_mask, affine=t1w.affine)),
        ),
        tmp_path / "run",
    )
    assert error(read_itk(out.boldref2t1w_xfm)[0], true, t1w_mask, t1w.affine) < (0.3 if slices > 20 else 0.45)
    facts = json.loads(Path(out.out_json).read_text())
    assert not facts["bold_t1w_poor"]
    assert not facts["bold_t1w_kept"]
    assert facts["bold_t1w_start"] == "headers"
    assert facts["bold_t1w_mask_dice"] > 0.9


def test_headers_stay_where_the_registration_finds_nothing_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    t1w, t1w_mask = brain(3.0)
    boldref = seen(t2star(), SMALL, np.eye(4), noise=15)
    lost = Fit(xfm=rigid_matrix([6, -4, 5, 0.1, 0, 0], [0, -18, 12]), nmi=1.01, start="headers")
    monkeypatch.setattr(bold_to_anat, "rigid", lambda *_args, **_how: lost)
    xfm, facts = bold_to_anat.register_to_t1w(boldref, t1w, t1w_mask, seed=1, prefix=str(tmp_path / "x_"))
    assert np.array_equal(xfm, np.eye(4))
    assert facts["bold_t1w_kept"]
    assert facts["bold_t1w_displacement_rms_mm"] == 0
    assert facts["bold_t1w_nmi"] > 1.01


def test_headers_that_leave_no_overlap_are_not_believed(tmp_path: Path) -> None:
    t1w, t1w_mask = brain(3.0)
    far = rigid_matrix([130, 90, -60, 0.05, 0, 0], [0, -18, 12])
    moved = Image(data=seen(t2star(), SMALL, np.eye(4), noise=15).data, affine=far @ SMALL.affine)
    out = run(
        RegisterBoldToT1w(
            boldref=write(tmp_path / "boldref.nii", moved),
            t1w_preproc=write(tmp_path / "t1w.nii", t1w),
            t1w_mask=write(tmp_path / "mask.nii", Image(data=t1w_mask, affine=t1w.affine)),
        ),
        tmp_path / "run",
    )
    assert json.loads(Path(out.out_json).read_text())["bold_t1w_start"] == "centers of mass"
    assert error(read_itk(out.boldref2t1w_xfm)[0], far, t1w_mask, t1w.affine) < 0.5


def test_pair_and_bold_come_into_register_across_contrasts(tmp_path: Path) -> None:
    to_bold = rigid_matrix(np.array([1, 2, -2, 0, 0, 0]) + np.array([0, 0, 0, -2, 2, 1]) * DEGREES, [0, -18, 12])
    to_lowres = rigid_matrix([5, -4, 6, 0.12, 0, -0.1], [0, -18, 12])
    shape, affine = hr_grid(SMALL.data.shape, SMALL.affine, FACTOR)
    highres = seen(t2star(), Image(data=np.zeros(shape), affine=affine), np.eye(4), noise=8)
    t1, _ = brain(2.0)
    contrast = sample_volume(t1.data, t1.affine, t2star().data.shape, t2star().affine)
    weighted = Image(data=t2star().data * (1 - 0.3 * np.clip(contrast, 0, 1)), affine=t2star().affine)
    boldref = seen(weighted, SMALL, to_bold, noise=15, seed=4)
    write_itk(tmp_path / "h2l.txt", to_lowres)
    out = run(
        RegisterPairToBold(
            boldref=write(tmp_path / "boldref.nii", boldref),
            highres=write(tmp_path / "highres.nii", highres),
            highres2lowres_xfm=str(tmp_path / "h2l.txt"),
            factor=FACTOR,
        ),
        tmp_path / "run",
    )
    mask = masks.brain_mask(boldref.data, boldref.affine)
    assert error(read_itk(out.highres2boldref_xfm)[0], to_bold, mask, boldref.affine) < 0.2
    guide, guide_affine = load_image(out.guide_hr)
    truth = seen(t2star(), Image(data=np.zeros(shape), affine=affine), to_bold)
    assert np.allclose(guide_affine, affine)
    assert np.corrcoef(guide[truth.data > 300], truth.data[truth.data > 300])[0, 1] > 0.95


def test_bold_mask_keeps_to_brain_and_signal_and_survives_a_failed_registration(tmp_path: Path) -> None:
    t1w, t1w_mask = brain(2.0)
    boldref = seen(t2star(), SMALL, np.eye(4), noise=15)
    dropout = boldref.data.copy()
    dropout[20:28, 40:48, :6] = 5
    path = write(tmp_path / "boldref.nii", Image(data=dropout, affine=boldref.affine))
    mask = write(tmp_path / "mask.nii", Image(data=t1w_mask, affine=t1w.affine))
    for name, xfm in (("good", np.eye(4)), ("bad", rigid_matrix([70, 0, 0, 0, 0, 0], [0, 0, 0]))):
        write_itk(tmp_path / f"{name}.txt", xfm)
    good, bad = (
        run(
            MaskBold(boldref=path, factor=FACTOR, t1w_mask=mask, boldref2t1w_xfm=str(tmp_path / f"{name}.txt")),
            tmp_path / name,
        )
        for name in ("good", "bad")
    )
    alone = run(MaskBold(boldref=path, factor=FACTOR), tmp_path / "alone")
    inside = masks.coverage(t1w_mask, t1w.affine, SMALL.data.shape, SMALL.affine) >= 0.5
    found = load_image(good.bold_mask)[0] > 0.5
    assert not (found & ~inside).any()
    assert masks.dice(found, inside) > 0.93
    fine = load_image(good.bold_mask_hr)[0]
    assert fine.shape == (96, 112, 24)
    assert masks.dice(masks.block_average(fine, (2, 2, 1)) >= 0.5, found) > 0.95
    assert np.array_equal(load_image(bad.bold_mask)[0], load_image(alone.bold_mask)[0])
    assert json.loads(Path(bad.out_json).read_text())["mask_source"] == "boldref"
    assert nib.load(good.bold_mask).get_data_dtype() == np.uint8


@pytest.fixture
def masks_on_bold(tmp_path: Path) -> tuple[str, str]:
    full = Image(data=np.ones(SMALL.data.shape, dtype=bool), affine=SMALL.affine)
    shape, affine = hr_grid(SMALL.data.shape, SMALL.affine, FACTOR)
    return (
        write(tmp_path / "low.nii", full),
        write(tmp_path / "high.nii", Image(data=np.ones(shape, dtype=bool), affine=affine)),
    )


def box_region(middle: tuple[float, float, float]) -> Image:
    """A mask of 24 x 24 x 20 mm around a point, 1 mm voxels, in T1w space."""
    region = grid((60, 60, 60), (1.0, 1.0, 1.0), middle)
    data = region.data.copy()
    data[18:42, 18:42, 20:40] = 1
    return Image(data=data, affine=region.affine)


def test_a_region_lands_where_two_transforms_put_it(masks_on_bold: tuple[str, str], tmp_path: Path) -> None:
    # Turned and moved, so that the order of the two matters
    to_bold = rigid_matrix([8, -4, 10, 0, 0, 0.4], [0, 0, 0])  # takes a T1w point to its boldref point
    to_std = rigid_matrix([0, 16, -5, 0, 0, -0.4], [0, 0, 0])  # takes a T1w point to the region's space
    write_itk(tmp_path / "b2t.txt", to_bold)
    write_itk(tmp_path / "std.txt", to_std)
    out = run(
        RegionToBold(
            roi_source=write(tmp_path / "roi.nii", box_region((2, -10, 12))),
            roi_xfms=[str(tmp_path / "std.txt")],
            boldref2t1w_xfm=str(tmp_path / "b2t.txt"),
            bold_mask=masks_on_bold[0],
            bold_mask_hr=masks_on_bold[1],
        ),
        tmp_path / "run",
    )
    center = apply(to_bold, apply(invert(to_std), np.array([[2.0, -10, 12]])))
    for path in (out.roi_bold, out.roi_bold_hr):
        region, affine = load_image(path)
        assert np.abs(apply(affine, np.argwhere(region > 0.5)).mean(axis=0) - center).max() < 1.3
        assert abs(region.sum() * abs(np.linalg.det(affine[:3, :3])) / (24 * 24 * 20) - 1) < 0.2
    facts = json.loads(Path(out.out_json).read_text())
    assert facts["roi_fraction_in_fov"] == 1
    assert not facts["roi_is_brain"]


@pytest.mark.parametrize(("up", "share"), [(60.0, 0.5), (200.0, 0.0)])
def test_what_the_field_of_view_misses_of_a_region_is_told(
    up: float, share: float, masks_on_bold: tuple[str, str], tmp_path: Path
) -> None:
    write_itk(tmp_path / "b2t.txt", np.eye(4))
    out = run(
        RegionToBold(
            roi_source=write(tmp_path / "roi.nii", box_region((0, -18, 12 + up))),
            boldref2t1w_xfm=str(tmp_path / "b2t.txt"),
            bold_mask=masks_on_bold[0],
            bold_mask_hr=masks_on_bold[1],
        ),
        tmp_path / "run",
    )
    facts = json.loads(Path(out.out_json).read_text())
    assert abs(facts["roi_fraction_in_fov"] - share) < 0.15
    assert facts["roi_is_brain"] is (share == 0)
    assert load_image(out.roi_bold)[0].all() == (share == 0)


def test_tissues_become_fractions_of_bold_voxels(tmp_path: Path) -> None:
    fine = grid((200, 40, 40), (1.0, 1.0, 1.0), (0, 0, 0))
    at = apply(fine.affine, np.argwhere(np.ones(fine.data.shape))).reshape(*fine.data.shape, 3)
    half = Image(data=(at[..., 0] < 3).astype(np.float32), affine=fine.affine)
    coarse = grid((9, 3, 3), (8.0, 8.0, 8.0), (0, 0, 0))
    write_itk(tmp_path / "b2t.txt", rigid_matrix([1, 0, 0, 0, 0, 0], [0, 0, 0]))  # the edge lies at x = 4 in the BOLD
    out = run(
        TissuesToBold(
            tpms=[write(tmp_path / "gm.nii", half)],
            boldref2t1w_xfm=str(tmp_path / "b2t.txt"),
            boldref=write(tmp_path / "boldref.nii", coarse),
        ),
        tmp_path / "run",
    )
    share, affine = load_image(out.tpms_bold[0])
    for i in range(9):
        low = apply(affine, np.array([[i, 1, 1]]))[0, 0] - 4
        assert abs(share[i, 1, 1] - np.clip((3.5 - low) / 8, 0, 1)) < 0.1


def centroid(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
    points = apply(affine, np.argwhere(np.ones(data.shape)))
    return (points * data.reshape(-1, 1)).sum(axis=0) / data.sum()


def test_maps_reach_the_template_by_the_whole_chain(tmp_path: Path) -> None:
    to_bold, to_t1w = rigid_matrix([6, 0, 0, 0, 0, 0], [0, 0, 0]), rigid_matrix([0, -9, 4, 0, 0, 0.5], [0, 0, 0])
    write_itk(tmp_path / "b2t.txt", to_bold)
    write_itk(tmp_path / "t2s.txt", to_t1w)
    at = apply(SMALL.affine, np.argwhere(np.ones(SMALL.data.shape))).reshape(*SMALL.data.shape, 3)
    blob = np.exp(-0.5 * ((at - [10, -20, 20]) ** 2).sum(axis=-1) / 36).astype(np.float32)
    files = [
        write(tmp_path / "z.nii", Image(data=blob, affine=SMALL.affine)),
        write(tmp_path / "m.nii", Image(data=blob > 0.5, affine=SMALL.affine)),
    ]
    out = run(
        MapsToTemplate(
            in_files=files,
            in_entities=[{"res": "hr", "stat": "z", "suffix": "statmap"}, {"label": "x", "suffix": "mask"}],
            in_sidecars=[{"A": 1}, {}],
            boldref2t1w_xfm=str(tmp_path / "b2t.txt"),
            t1w2std_xfm=str(tmp_path / "t2s.txt"),
            template=write(tmp_path / "template.nii", brain(1.0)[0]),
            space="MNI152NLin2009aSym",
        ),
        tmp_path / "run",
    )
    back = invert(to_bold @ to_t1w)  # a point of the map, brought back through boldref -> T1w -> template
    for path, source, bound in zip(out.out_files, files, (0.2, 1.05), strict=True):  # nearest neighbor: half a voxel
        data, affine = load_image(path)
        assert np.abs(centroid(data, affine) - apply(back, centroid(*load_image(source))[None])[0]).max() < bound
        assert np.allclose(masks.voxel_sizes(affine), 2, atol=1e-6)
    assert nib.load(out.out_files[1]).get_data_dtype() == np.uint8
    assert out.out_entities[0] == {"res": "2", "stat": "z", "suffix": "statmap", "space": "MNI152NLin2009aSym"}
    assert out.out_sidecars[0]["A"] == 1
    assert out.out_sidecars[0]["SpatialReference"] == "MNI152NLin2009aSym"


def test_facts_are_merged(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps({name: 1}))
        paths.append(str(tmp_path / f"{name}.json"))
    assert json.loads(Path(run(MergeFacts(in_files=paths), tmp_path).out_json).read_text()) == {"a": 1, "b": 1}


_TWICE = """
import hashlib, sys
import numpy as np
from bids_sr.registration.ants import Image, Stage, apply, read_linear, register
rng = np.random.default_rng(0)
from scipy.ndimage import gaussian_filter
affine = np.diag([4.0, 4.0, 4.0, 1.0])
fixed = Image(data=gaussian_filter(rng.random((24, 26, 22)), 2), affine=affine)
moving = Image(data=gaussian_filter(np.roll(fixed.data, 1, 0) + 0.01 * rng.random((24, 26, 22)), 1), affine=affine)
levels = dict(iterations=(20, 10), shrink=(2, 1), mm=(4.0, 2.0), masked=False)
linear = register(fixed, moving, [Stage(transform="Rigid[0.1]", sampling=0.3, **levels)], seed=0, prefix=sys.argv[1])
warp = register(fixed, moving, [Stage(transform="SyN[0.2,3,0]", metric="CC", **levels)], seed=0, prefix=sys.argv[1])
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


def test_importing_the_shells_costs_no_heavy_package() -> None:
    code = (
        "import sys, bids_sr.interfaces.coregistration, bids_sr.interfaces.anat;"
        "print([m for m in ('ants', 'torch', 'nilearn', 'skimage', 'matplotlib', 'templateflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
