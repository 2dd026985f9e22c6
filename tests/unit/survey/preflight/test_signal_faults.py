"""Faults of a signal are found while all images are read, with file, volume and values."""

from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, problem_of
from data.dataset import BidsMaker
from data.noisy_run import make_run

BOLD = "sub-01_task-tap_bold.nii.gz"
TR = 2.0


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    return BidsMaker(tmp_path / "bids")


@pytest.fixture(scope="module")
def series() -> np.ndarray:
    return np.rint(make_run())


def write(maker: BidsMaker, data: np.ndarray, dtype: str, slope: float = 1.0) -> Path:
    """Write the run with stored values of a data type and a scaling factor."""
    path = maker.bold(data=data, tr=TR)
    image = nb.Nifti1Image(data.astype(dtype), nb.load(path).affine)
    image.header.set_data_dtype(dtype)
    image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = TR
    nb.save(image, path)
    return path


def wrap(series: np.ndarray) -> np.ndarray:
    """Return a series whose brightest 2 % are unsigned integers read as signed."""
    unsigned = np.rint(series * 32_767 / np.percentile(series, 98))
    return np.where(unsigned > 32_767, unsigned - 65_536, unsigned)


def test_a_step_of_the_scale_is_refused_with_its_volume(
    maker: BidsMaker, check_run: Any, series: np.ndarray
) -> None:
    path = write(maker, np.where(np.arange(60) >= 24, np.rint(series * 1.3), series), "i2")
    problem_of(check_run(path), BOLD, "1.30", "24")


@pytest.mark.parametrize("slope", [1.0, 45.0])
def test_wrapped_integers_of_a_run_are_refused(
    maker: BidsMaker, check_run: Any, series: np.ndarray, slope: float
) -> None:
    wrapped = wrap(series)
    path = write(maker, wrapped, "i2", slope)
    n_wrapped = int((wrapped[..., 0] < 0).sum())
    problem = problem_of(check_run(path), BOLD, f"{n_wrapped:,}", "65,536")
    assert "uint16" in problem.remedy
    # the remedy
    path = write(maker, np.where(wrapped < 0, wrapped + 65_536, wrapped), "u2", slope)
    assert check_run(path) == ()


def test_wrapped_integers_of_a_structural_image_are_refused(
    maker: BidsMaker, check_run: Any, series: np.ndarray
) -> None:
    path = maker.t1w(data=wrap(series[..., 0]).astype("i2"))
    problem_of(check_run(maker.bold(), t1w=(path,)), path.name, "65,536")


def test_integers_with_an_intercept_are_not_wrapped(
    maker: BidsMaker, check_run: Any, series: np.ndarray
) -> None:
    """nibabel stores decimals in the full range of integers, so that 0 becomes -32,768."""
    mean = series.mean(axis=-1, keepdims=True)
    edges = np.where(mean > 0.3 * mean.max(), 1000 + (series - mean) / 10, 0)
    path = maker.bold(data=edges, tr=TR)
    image = nb.load(path)
    image.set_data_dtype("i2")
    nb.save(nb.Nifti1Image(image.get_fdata(), image.affine, image.header), path)
    stored = nb.load(path).dataobj.get_unscaled()
    assert stored.min() == -32_768
    assert check_run(path) == ()


def test_clipped_voxels_of_the_brain_are_counted(
    maker: BidsMaker, check_run: Any, series: np.ndarray
) -> None:
    top = int(np.quantile(series.mean(-1), 0.98))
    clipped = np.minimum(series, top)
    path = write(maker, clipped, "i2")
    n_clipped = int(((clipped[..., 5:] == top).sum(-1) >= 0.05 * 55).sum())
    (warning,) = check_run(path)
    assert about([warning], BOLD, f"{n_clipped:,}", str(top))
    assert warning.level == "warning"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.15, 0.4])
def test_alternating_contrasts_are_modeled_up_to_10_percent_and_refused_above(
    maker: BidsMaker, check_run: Any, share: float
) -> None:
    """The noise of an alternating run is not the difference of its contrasts."""
    data = make_run(shape=(64, 64, 12))
    data[..., 1::2] *= 1 - share
    path = write(maker, np.rint(data), "i2")
    found = check_run(path)
    if not share:
        assert found == ()
    elif share <= 0.1:
        (notice,) = found
        assert notice.level == "note"
        assert f" {share:.0%} darker" in notice.why
    else:
        problem = problem_of(found, BOLD, f"{share:.0%} darker")
        assert "odd and even" in problem.remedy
