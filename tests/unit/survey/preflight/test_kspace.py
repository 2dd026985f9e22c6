"""Runs whose k-space is incomplete below the Nyquist frequency of their voxels."""

from collections.abc import Callable

import numpy as np
import pytest
from data.calls import about, plan_for, problem_of
from data.dataset import BidsMaker
from scipy import ndimage

from bids_sr.io.notices import Notice
from bids_sr.survey.preflight.voxel_checks import check_data

BOLD = "sub-01_task-tap_bold.nii.gz"
FINE = (1.0, 1.0, 4.0)  # 48 x 48 x 6 voxels
PLAIN = ("--sr-method", "bspline", "--sr-factor", "2", "--ignore", "events")


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
    return np.abs(np.fft.ifft2(spectrum, axes=(0, 1)))


CLEAN = magnitudes()
SMOOTH = ndimage.gaussian_filter(CLEAN, (0.85, 0.85, 0, 0))  # 2 voxels FWHM


def hann(k: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.cos(np.pi * k)


def fermi(k: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp((k - 0.85) / 0.05))


def filled_from(edge: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a window that is 0 from this share of the Nyquist frequency."""
    return lambda k: (k < edge).astype(float)


def notices_on(
    maker: BidsMaker, data: np.ndarray | None = None, *, forced: bool = False, **sidecar: object
) -> list[Notice]:
    """Return notices on a run, from its header and, with `data`, from its voxels."""
    values = CLEAN if data is None else data
    maker.bold(zooms=FINE, data=values.astype(np.float32), sidecar=sidecar)
    plan = plan_for(maker, *PLAIN)
    assert plan.problems == ()
    notices = (*plan.warnings, *(() if data is None else check_data(plan, forced=forced)))
    return [notice for notice in notices if "Nyquist" in notice.why]


@pytest.mark.parametrize(
    ("sidecar", "values"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "DIS2D"]}, []),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOCO"]}, ["MOCO"]),
        ({"ImageType": ["DERIVED", "M", "FILTERED", "INTERP"]}, ["FILTERED", "INTERP"]),
        ({"MRAcquisitionType": "3D", "SliceTiming": [0.0, 0.1] * 3}, ["SliceTiming"]),
        ({"MRAcquisitionType": "2D", "SliceTiming": [0.0, 0.1] * 3}, []),
        ({"MRAcquisitionType": "3D"}, []),
    ],
)
def test_processing_on_the_scanner_is_noted(
    maker: BidsMaker, sidecar: dict[str, object], values: list[str]
) -> None:
    maker.bold(zooms=FINE, data=CLEAN.astype(np.float32), sidecar=sidecar)
    fields = ("ImageType", "MRAcquisitionType")
    notices = [one for one in plan_for(maker, *PLAIN).warnings if one.why.startswith(fields)]
    assert [one.level for one in notices] == ["note"] * len(values)
    assert all(value in one.why for value, one in zip(values, notices, strict=True))


@pytest.mark.parametrize(
    ("sidecar", "values"),
    [
        ({"PartialFourier": 0.75}, ["50%"]),
        ({"AcquisitionMatrixPE": 36}, ["AcquisitionMatrixPE", "36", "48", "75%"]),
        ({"AcquisitionMatrixPE": 36, "ReconMatrixPE": 48}, ["75%"]),
        ({"BaseResolution": 32}, ["BaseResolution", "32", "48"]),
        ({"ReconMatrixPE": 64}, ["ReconMatrixPE", "64", "48"]),
    ],
)
def test_sidecar_fields_of_incomplete_kspace_are_warned_of(
    maker: BidsMaker, sidecar: dict[str, object], values: list[str]
) -> None:
    (notice,) = notices_on(maker, **sidecar)
    assert (notice.level, notice.run) == ("warning", "sub-01_task-tap")
    assert about([notice], BOLD, *values)


def test_fields_apply_to_the_phase_encoding_axis(maker: BidsMaker) -> None:
    for direction, number in (("i", 1), ("j", 0)):
        sidecar = {"AcquisitionMatrixPE": 36, "PhaseEncodingDirection": direction}
        maker.bold(zooms=FINE, data=CLEAN[:, 6:42].astype(np.float32), sidecar=sidecar)
        warnings = plan_for(maker, *PLAIN).warnings
        assert len(about(warnings, BOLD, "AcquisitionMatrixPE", "36", "48")) == number


def test_an_interpolated_matrix_is_refused_unless_forced(maker: BidsMaker) -> None:
    half = magnitudes(filled_from(0.5))
    problem_of(notices_on(maker, half), BOLD, "i", "--set superres.force=true")
    (note,) = notices_on(maker, half, forced=True)
    assert (note.level, note.what) == ("note", str(maker.path(BOLD, "func")))
    # filtered and interpolated: the spectrum looks smoothed, the field shows the interpolation
    levels = [notice.level for notice in notices_on(maker, SMOOTH, AcquisitionMatrixPE=24)]
    assert "error" in levels


@pytest.mark.parametrize(
    ("data", "sidecar"),
    [
        (magnitudes(hann), {}),
        (magnitudes(fermi), {}),
        (magnitudes(filled_from(0.9)), {}),
        (SMOOTH, {}),
        # header and voxels agree
        (magnitudes(filled_from(0.85)), {"AcquisitionMatrixPE": 41}),
    ],
    ids=["Hann", "Fermi", "zero filled", "smoothed", "header and voxels"],
)
def test_an_attenuated_edge_of_kspace_is_one_warning(
    maker: BidsMaker, data: np.ndarray, sidecar: dict[str, object]
) -> None:
    (notice,) = notices_on(maker, data, **sidecar)
    assert (notice.level, notice.what) == ("warning", str(maker.path(BOLD, "func")))
