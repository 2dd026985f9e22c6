"""Still images and references that the scanner interpolated are found by sidecar and k-space."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.calls import about, plan_for, problem_of
from data.dataset import BidsMaker
from scipy import ndimage

from bids_sr.io.notices import Notice
from bids_sr.survey.preflight.kspace import find_step
from bids_sr.survey.preflight.voxel_checks import check_data

HIGH = "sub-01_acq-highres_T2starw.nii.gz"
FORCED = ("--set", "superres.force=true")
PLAIN = ("--sr-method", "bspline", "--ignore", "events")


def make_head(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Return magnitudes of a textured head with complex noise."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, size) for size in shape[:2]]
    radius = np.hypot(*np.meshgrid(*axes, indexing="ij"))[..., None]
    texture = ndimage.gaussian_filter(rng.normal(0, 1, shape), (1, 1, 0))
    head = (radius < 0.8) * (800 + 300 * texture)
    return np.abs(head + 10 * (rng.normal(0, 1, shape) + 1j * rng.normal(0, 1, shape)))


def interpolate(image: np.ndarray, factor: float = 2) -> np.ndarray:
    """Return an image with a larger in-plane matrix, by zero filling of k-space."""
    spectrum = np.fft.fftshift(np.fft.fft2(image, axes=(0, 1)), axes=(0, 1))
    padding = [round(size * (factor - 1) / 2) for size in image.shape[:2]]
    padded = np.pad(spectrum, [(n, n) for n in padding] + [(0, 0)])
    scale = padded.size / spectrum.size
    return np.abs(np.fft.ifft2(np.fft.ifftshift(padded, axes=(0, 1)), axes=(0, 1))) * scale


def hann(image: np.ndarray) -> np.ndarray:
    return np.abs(ndimage.convolve1d(image, [0.25, 0.5, 0.25], axis=0, mode="wrap"))


@pytest.mark.parametrize("factor", [1.5, 2, 3])
@pytest.mark.parametrize("size", [24, 40, 96])
@pytest.mark.parametrize("seed", range(3))
def test_the_step_is_at_the_edge_of_acquired_kspace(factor: float, size: int, seed: int) -> None:
    image = interpolate(make_head((size, size + 4, 6), seed), factor)
    assert find_step(image) == pytest.approx(1 / factor, abs=0.02 + 4 / len(image))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        hann,
        lambda image: ndimage.gaussian_filter(image, (0.6, 0.6, 0)),
        lambda image: ndimage.gaussian_filter(image, (1.2, 1.2, 0)),
        lambda image: ndimage.rotate(image, 7, order=1, reshape=False),
        lambda image: ndimage.rotate(image, 7, order=3, reshape=False),
        lambda image: ndimage.zoom(image, (2, 2, 1), order=1),
        lambda image: image * (image > 300),
    ],
    ids=["plain", "Hann", "1.4 voxels", "2.8 voxels", "linear", "spline", "linear x 2", "masked"],
)
@pytest.mark.parametrize("size", [40, 96])
def test_filters_and_resampling_are_not_steps(
    change: Callable[[np.ndarray], np.ndarray], size: int
) -> None:
    for seed in range(3):
        assert find_step(change(make_head((size, size + 4, 6), seed))) is None


def write_pair(maker: BidsMaker, image: np.ndarray, **sidecar: object) -> None:
    """Write a run of 4 mm and a high-resolution image of 1 mm."""
    maker.bold(zooms=(4.0, 4.0, 4.0))
    maker.star("sub-01_acq-highres", (1.0, 1.0, 4.0), data=image.astype("float32"))
    maker.json(maker.path(HIGH.replace("nii.gz", "json"), "anat"), sidecar)


@pytest.mark.parametrize(
    "fields",
    [
        {"Interpolation2D": True, "BaseResolution": 24, "AcquisitionMatrixPE": 24},
        {"AcquisitionMatrixPE": 24, "ReconMatrixPE": 48},
    ],
)
def test_an_interpolated_pair_does_not_set_the_factor(
    maker: BidsMaker, fields: dict[str, object]
) -> None:
    write_pair(maker, make_head((48, 48, 6)), **fields)
    plan = plan_for(maker, *PLAIN)
    assert plan.runs[0].factor == (2, 2, 1)
    assert about(plan.warnings, HIGH, "24", "48", "50%")
    forced = plan_for(maker, *PLAIN, *FORCED)
    assert forced.runs[0].factor == (4, 4, 1)
    assert about(forced.warnings, HIGH, "24", "48")
    required = plan_for(maker, "--sr-method", "inject", "--ignore", "events")
    problem_of(required.problems, HIGH, "24", "48")


def test_a_pair_without_fields_is_refused_by_its_kspace(maker: BidsMaker) -> None:
    write_pair(maker, interpolate(make_head((24, 24, 6))))
    plan = plan_for(maker, *PLAIN)
    problem_of(reports_on(plan_for(maker, *PLAIN), HIGH), HIGH, "--set superres.force=true")
    (note,) = (one for one in check_data(plan, forced=True) if HIGH in one.what)
    assert note.level == "note"


def reports_on(plan: object, name: str) -> list[Notice]:
    return [one for one in check_data(plan) if name in one.what and "k-space" in one.why]


@pytest.mark.parametrize("is_interpolated", [False, True])
def test_structural_scans_are_checked(maker: BidsMaker, *, is_interpolated: bool) -> None:
    fine = make_head((48, 48, 24))
    image = interpolate(make_head((24, 24, 24))) if is_interpolated else fine
    path = maker.t1w("sub-01_acq-high", (1.0, 1.0, 1.0), data=image.astype("float32"))
    maker.t1w("sub-01_acq-low", (2.0, 2.0, 2.0))
    sidecar = {"AcquisitionMatrixPE": 24 if is_interpolated else 48, "BaseResolution": 48}
    Path(str(path).replace("nii.gz", "json")).write_text(json.dumps(sidecar))
    plan = plan_for(maker, "--sr-target", "anat")
    assert plan.problems == ()
    warnings = [one for one in plan.warnings if "Nyquist" in one.why]
    assert [path.name in one.what for one in warnings] == [True] * is_interpolated
    reports = reports_on(plan, path.name)
    assert [one.level for one in reports] == ["error"] * is_interpolated


@pytest.mark.parametrize("is_interpolated", [False, True])
def test_references_are_checked(
    maker: BidsMaker, tmp_path: Path, *, is_interpolated: bool
) -> None:
    size = 24 if is_interpolated else 48
    volumes = [make_head((size, size, 6), seed) for seed in range(30)]
    series = np.stack([interpolate(v) if is_interpolated else v for v in volumes], axis=-1)
    maker.bold(zooms=(2.0, 2.0, 4.0))
    truth = BidsMaker(tmp_path / "truth")
    fields = {"BaseResolution": size}
    path = truth.bold(zooms=(1.0, 1.0, 4.0), data=series.astype("float32"), sidecar=fields)
    plan = plan_for(maker, *PLAIN, "--sr-factor", "2", "--truth", str(truth.root))
    assert plan.problems == ()
    assert len(about(plan.warnings, str(path), "24", "48")) == is_interpolated
    reports = [one for one in reports_on(plan, str(path)) if one.level == "error"]
    assert len(reports) == is_interpolated
