"""Images whose voxels cannot be used: damaged, constant, below zero, padded, and brain masks."""

import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, problem_of
from data.dataset import BidsMaker
from data.records import make_settings

from bids_sr.survey.bids.inputs import Pair
from bids_sr.survey.bids.precomputed import DerivativeFolder, PrecomputedAnat, PrecomputedRun
from bids_sr.survey.bids.related_runs import read_run
from bids_sr.survey.preflight.run_model import count_dummies

BOLD = "sub-01_task-tap_bold.nii.gz"
HIGH = "sub-01_acq-highres_T2starw.nii.gz"
NOISE = np.random.default_rng(0).normal(100, 5, (8, 8, 6, 30)).astype("float32")
HEAD = np.random.default_rng(1).integers(50, 1000, NOISE.shape).astype("int16")
CHANGES = HEAD - HEAD.mean(-1, keepdims=True)


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    return BidsMaker(tmp_path / "bids")


def fill(data: np.ndarray, voxels: Any, value: float) -> np.ndarray:
    """Return a copy in which some voxels have a value."""
    changed = data.copy()
    changed[voxels] = value
    return changed


def pad(value: int) -> np.ndarray:
    """Return a series in which two of 64 columns have a value."""
    return fill(HEAD, (0, slice(2)), value)


def brighten_start() -> np.ndarray:
    """Return a series without its mean, whose first volume was much brighter."""
    bright = HEAD * np.where(np.arange(30), 1, 10)
    return bright - bright.mean(-1, keepdims=True)


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (fill(NOISE, (3, 3, 3, 7), np.nan), ["NaN", "1", "30", "7"]),
        (np.full_like(NOISE, 7), ["constant"]),
        (fill(NOISE, (..., slice(23, None)), 0), ["7", "30"]),
        (NOISE[..., :1].repeat(30, axis=3), ["30"]),
        (CHANGES, ["negative"]),
        (brighten_start(), ["negative"]),
        (100 * CHANGES / HEAD.mean(-1, keepdims=True), ["negative"]),
        (HEAD - HEAD.max() - 1, ["100%"]),
        (pad(32767), ["3%", "32767"]),
        (pad(-900), ["3%", "-900"]),
    ],
)
def test_a_series_that_cannot_be_used_is_refused(
    maker: BidsMaker, check_run: Any, data: np.ndarray, values: list[str]
) -> None:
    problem_of(check_run(maker.bold(data=data)), BOLD, *values)


def overflow(content: bytes) -> bytes:
    """Return an image with a scaling factor that exceeds single precision."""
    header = bytearray(gzip.decompress(content))
    header[112:116] = np.float32(-2e37).tobytes()
    return gzip.compress(bytes(header))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) * 6 // 10],
        lambda content: content[:-6] + bytes([content[-6] ^ 0xFF]) + content[-5:],  # checksum
        overflow,
    ],
)
def test_a_damaged_file_is_refused(
    maker: BidsMaker, check_run: Any, damage: Callable[[bytes], bytes]
) -> None:
    path = maker.bold()
    path.write_bytes(damage(path.read_bytes()))
    problem_of(check_run(path), BOLD)


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (fill(NOISE[..., 0], (0, 0, 0), np.inf), ["NaN"]),
        (-NOISE[..., 0], ["magnitude"]),
        (None, ["truncated"]),
    ],
)
def test_a_still_image_that_cannot_be_used_is_refused(
    maker: BidsMaker, check_run: Any, data: np.ndarray | None, values: list[str]
) -> None:
    t1w, high = maker.t1w(data=data), maker.star("sub-01_acq-highres", (6, 6, 4), data=data)
    if data is None:
        for path in (t1w, high):
            path.write_bytes(path.read_bytes()[:500])
    run = maker.bold()
    problem_of(check_run(run, t1w=(t1w,)), t1w.name, *values)
    pair = Pair(highres=high, lowres=None, factor=(2.0, 2.0, 1.0))
    problem_of(check_run(run, pair=pair), HIGH, *values)


def test_padding_of_zeros_is_accepted(maker: BidsMaker, check_run: Any) -> None:
    assert check_run(maker.bold(data=pad(0))) == ()


def test_few_constant_volumes_are_excluded_with_a_warning(
    maker: BidsMaker, check_run: Any
) -> None:
    (warning,) = check_run(maker.bold(data=fill(HEAD, (..., slice(28, None)), 0)))
    assert about([warning], BOLD, "2", "30", "28")
    assert warning.level == "warning"


@pytest.mark.parametrize("dtype", ["uint8", ">i2", ">f4", "float64"])
def test_all_data_types_are_read(maker: BidsMaker, check_run: Any, dtype: str) -> None:
    path = maker.bold()
    affine = nb.load(path).affine
    header = nb.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(dtype)
    data = (HEAD // 5 + 40).astype(dtype)
    for constant, values in ((30, None), (15, ["15", "30"])):
        image = nb.Nifti1Image(fill(data, (..., slice(constant, None)), 3), affine, header)
        image.header.set_zooms((6, 6, 4, 1))
        nb.save(image, path)
        assert [*map(len, [check_run(path)])] == [values is not None]
        if values:
            problem_of(check_run(path), BOLD, *values)


def test_memory_of_reading_voxels_does_not_grow_with_volumes(
    maker: BidsMaker, check_run: Any
) -> None:
    peaks = []
    for n_volumes in (50, 400):
        rng = np.random.default_rng(0)
        data = rng.integers(0, 900, (16, 16, 16, n_volumes), dtype="int16")
        path = maker.bold(data=data)
        tracemalloc.start()
        check_run(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 50_000


@pytest.mark.parametrize("damage", ["nan", "cut"])
def test_volumes_that_cannot_be_read_are_no_dummy_volumes(
    maker: BidsMaker, check_run: Any, damage: str
) -> None:
    """Preflight reads the first volumes of short runs, whose damage is reported later."""
    path = maker.bold(data=fill(HEAD.astype("float32"), (0, 0), np.nan))
    if damage == "cut":
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:600]))
    assert count_dummies(read_run(path, {"RepetitionTime": 1.0}), make_settings()) == 0
    problem_of(check_run(path), BOLD, *(["NaN"] if damage == "nan" else []))


# ---- brain masks of another program


@pytest.mark.parametrize(
    ("n_inside", "size", "voxel_mm", "values"),
    [
        (0, 8, 3.0, ["0"]),
        (3, 8, 3.0, ["27", "50"]),
        (8, 8, 3.0, ["whole"]),
        (6, 8, 3.0, None),
        (40, 60, 3.6, ["2986"]),
        (40, 60, 3.0, None),
    ],
)
def test_an_implausible_brain_mask_is_refused(
    maker: BidsMaker,
    check_run: Any,
    n_inside: int,
    size: int,
    voxel_mm: float,
    values: list[str] | None,
) -> None:
    """Masks are cubes, of which 1.7 liters are accepted and 3 liters are not."""
    mask = np.zeros((size, size, size), np.uint8)
    mask[:n_inside, :n_inside, :n_inside] = 1
    path = maker.root / "mask.nii.gz"
    nb.Nifti1Image(mask, np.diag([voxel_mm] * 3 + [1.0])).to_filename(path)
    origin = DerivativeFolder(root=maker.root, name="a", program="fMRIPrep", version="24.1.1")
    anatomy = PrecomputedAnat(origin=origin, preproc=path, mask=path)
    run = maker.bold()
    derivatives = PrecomputedRun(origin=origin, hmc=None, mask=path)
    for notices in (check_run(run, anatomy=anatomy), check_run(run, derivatives=derivatives)):
        assert len(notices) == (values is not None)
        if values:
            problem_of(notices, str(path), *values)
    path.write_bytes(path.read_bytes()[:-9])
    problem_of(check_run(run, anatomy=anatomy), str(path), "truncated")
