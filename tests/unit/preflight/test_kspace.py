"""Runs whose k-space is incomplete below the Nyquist frequency of their voxels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker
from scipy import ndimage

from bids_sr.cli.parser import parse_settings
from bids_sr.notices import Notice
from bids_sr.preflight import check, check_data

FINE = (1.0, 1.0, 4.0)  # 48 x 48 x 6 voxels
PLAIN = ["--skip-bids-validation", "--sr-method", "bspline", "--sr-factor", "2"]


def magnitudes(keep: Callable[[np.ndarray], np.ndarray] = np.ones_like) -> np.ndarray:
    """Return magnitudes of a disk with complex noise, k-space multiplied by `keep` along x and
    y.
    """
    rng = np.random.default_rng(0)
    size, volumes = 48, 30
    radius = np.hypot(*np.meshgrid(*2 * [np.linspace(-1, 1, size)], indexing="ij"))
    shape = (size, size, 6, volumes)
    disk = 800 * ndimage.gaussian_filter((radius < 0.8).astype(float), 1)[..., None, None]
    image = disk + 20 * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    window = keep(np.abs(2 * np.fft.fftfreq(size)))
    spectrum = np.fft.fft2(image, axes=(0, 1)) * np.multiply.outer(window, window)[..., None, None]
    result: np.ndarray = np.abs(np.fft.ifft2(spectrum, axes=(0, 1)))
    return result


CLEAN = magnitudes()


@pytest.fixture
def nyquist_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Notice]]:
    """Return a function that lists notices on k-space of a run, from header and voxels."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))

    def _notices(
        data: np.ndarray = CLEAN, forced: bool = False, **sidecar: object
    ) -> list[Notice]:
        maker = BidsMaker(tmp_path / "bids")
        maker.bold(zooms=FINE, data=data.astype(np.float32), sidecar=sidecar)
        maker.events()
        argv = [str(maker.root), str(tmp_path / "out"), "participant", *PLAIN]
        plan = check(parse_settings(argv).resolve(run_uuid="x"))
        assert plan.problems == ()
        notices = (*plan.warnings, *check_data(plan, forced=forced))
        return [notice for notice in notices if "Nyquist" in notice.why]

    return _notices


def test_full_kspace_is_not_reported(nyquist_notices: Callable[..., list[Notice]]) -> None:
    fields = {"PartialFourier": 1, "AcquisitionMatrixPE": 47, "BaseResolution": 48}
    assert nyquist_notices(ReconMatrixPE=48, PhaseEncodingDirection="j-", **fields) == []
    assert (
        nyquist_notices(PartialFourier="6/8", AcquisitionMatrixPE=[24], BaseResolution=True) == []
    )


@pytest.mark.parametrize(
    ("sidecar", "message"),
    [
        ({"PartialFourier": 0.75}, "one side of k-space was acquired only up to 50%"),
        ({"AcquisitionMatrixPE": 36}, "AcquisitionMatrixPE is 36, but the image has 48 voxels"),
        ({"AcquisitionMatrixPE": 36, "ReconMatrixPE": 48}, "75% of the Nyquist"),
        ({"BaseResolution": 32}, "BaseResolution is 32, but the image has 48 voxels"),
        ({"ReconMatrixPE": 64}, "ReconMatrixPE is 64, but the image has 48 voxels"),
    ],
)
def test_warnings_on_sidecar_fields_state_the_consequence(
    nyquist_notices: Callable[..., list[Notice]], sidecar: dict[str, float], message: str
) -> None:
    (notice,) = nyquist_notices(**sidecar)
    assert notice.level == "warning"
    assert notice.run == "sub-01_task-tap"
    assert message in notice.why
    assert "the acquired nyquist frequency" in notice.why.lower()


def test_fields_apply_to_the_phase_encoding_axis(tmp_path: Path) -> None:
    maker = BidsMaker(tmp_path / "bids")
    data = CLEAN[:, 6:42].astype(np.float32)
    for direction, n_warnings in (("i", 1), ("j", 0)):
        sidecar = {"AcquisitionMatrixPE": 36, "PhaseEncodingDirection": direction}
        maker.bold(zooms=FINE, data=data, sidecar=sidecar)
        maker.events()
        argv = [str(maker.root), str(tmp_path / "out"), "participant", *PLAIN]
        plan = check(parse_settings(argv).resolve(run_uuid="x"))
        warnings = [notice for notice in plan.warnings if "AcquisitionMatrixPE" in notice.why]
        assert len(warnings) == n_warnings


def test_an_interpolated_matrix_is_rejected_unless_forced(
    nyquist_notices: Callable[..., list[Notice]],
) -> None:
    half = magnitudes(lambda k: (k < 0.5).astype(float))
    (problem,) = nyquist_notices(half)
    assert problem.level == "error"
    assert problem.what.endswith("sub-01_task-tap_bold.nii.gz")
    assert "k-space is empty above" in problem.why
    assert "along i and" in problem.why
    assert "--set superres.force=true" in problem.remedy
    (note,) = nyquist_notices(half, forced=True)
    assert note.level == "note"
    assert "Processing continues because of --set superres.force=true" in note.why


@pytest.mark.parametrize(
    "keep",
    [
        lambda k: 0.5 + 0.5 * np.cos(np.pi * k),  # Hann
        lambda k: 1 / (1 + np.exp((k - 0.85) / 0.05)),  # Fermi
        lambda k: (k < 0.9).astype(float),  # the outer tenth is zero filled
    ],
)
def test_an_attenuated_edge_of_kspace_is_a_warning(
    nyquist_notices: Callable[..., list[Notice]], keep: Callable[[np.ndarray], np.ndarray]
) -> None:
    (notice,) = nyquist_notices(magnitudes(keep))
    assert notice.level == "warning"
    assert "filtered, smoothed or resampled" in notice.why


def test_a_smoothed_series_is_a_warning(nyquist_notices: Callable[..., list[Notice]]) -> None:
    (notice,) = nyquist_notices(
        ndimage.gaussian_filter(CLEAN, (0.85, 0.85, 0, 0))
    )  # 2 voxels FWHM
    assert notice.level == "warning"


def test_header_and_voxels_that_agree_cause_a_single_warning(
    nyquist_notices: Callable[..., list[Notice]],
) -> None:
    weak = magnitudes(lambda k: (k < 0.85).astype(float))
    assert [notice.level for notice in nyquist_notices(weak, AcquisitionMatrixPE=41)] == [
        "warning"
    ]
    # filtered and interpolated: the spectrum looks smoothed, the field shows the interpolation
    soft = ndimage.gaussian_filter(CLEAN, (0.85, 0.85, 0, 0))
    assert "error" in [notice.level for notice in nyquist_notices(soft, AcquisitionMatrixPE=24)]


def test_a_constant_series_is_not_reported(nyquist_notices: Callable[..., list[Notice]]) -> None:
    still = np.broadcast_to(CLEAN[..., :1], CLEAN.shape).copy()
    still[..., -1] += 1
    assert nyquist_notices(still) == []
