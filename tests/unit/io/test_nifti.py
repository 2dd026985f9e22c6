"""NIfTI series: exact round trips, scaling, headers, damaged files, atomic writes."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from bids_sr.io import storage
from bids_sr.io.copies import compress_series
from bids_sr.io.nifti import (
    SeriesReader,
    SeriesWriter,
    Storage,
    save_image,
)
from bids_sr.io.notices import InvalidInput
from bids_sr.io.storage import choose_working_storage

AFFINE = np.array([[-3.0, 0, 0, 90], [0, 3.0, 0.1, -70], [0, -0.1, 3.3, -40], [0, 0, 0, 1]])


def _data(shape: tuple[int, ...] = (5, 4, 3, 7)) -> np.ndarray:
    return np.random.default_rng(1).normal(300, 50, shape).astype(np.float32)


def _write(path: Path, data: np.ndarray, **kwargs: object) -> Path:
    with SeriesWriter(path, data.shape, AFFINE, 0.72, **kwargs) as writer:
        for t in range(data.shape[3]):
            writer.append(data[..., t])
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_float32_round_trip_is_exact(tmp_path: Path, name: str) -> None:
    data = _data()
    path = _write(tmp_path / name, data)
    with SeriesReader(path) as reader:
        assert reader.shape == data.shape
        np.testing.assert_array_equal(np.stack(list(reader.volumes()), -1), data)
        np.testing.assert_array_equal(reader.volume(5), data[..., 5])
        # volumes in reverse order, also in a compressed file
        np.testing.assert_array_equal(reader.volume(1), data[..., 1])
        np.testing.assert_array_equal(reader.volume(-1), data[..., -1])
        np.testing.assert_allclose(reader.affine, AFFINE, atol=1e-6)
        assert reader.tr == 0.72, "the decimal number, although headers are in single precision"
        assert reader.volume(0).flags.f_contiguous
    image = nib.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), data)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    assert image.header.get_zooms()[3] == pytest.approx(0.72)


def test_a_range_of_volumes_and_a_slab_are_read(tmp_path: Path) -> None:
    data = _data()
    with SeriesReader(_write(tmp_path / "a.nii", data)) as reader:
        np.testing.assert_array_equal(np.stack(list(reader.volumes(2, 5)), -1), data[..., 2:5])
        np.testing.assert_array_equal(reader.slab(1), data[:, :, 1:2])
        with pytest.raises(IndexError, match="volume 7"):
            reader.volume(7)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_scaled_integers_of_both_byte_orders_are_read(
    tmp_path: Path, order: str, name: str
) -> None:
    raw = np.random.default_rng(0).integers(-500, 4000, (4, 5, 3, 6)).astype(np.int16)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(np.int16).newbyteorder(order))
    image = nib.Nifti1Image(raw, AFFINE, header)
    image.header.set_slope_inter(1, 0)
    image.to_filename(tmp_path / name)
    blob = (gzip.decompress if name.endswith("gz") else bytes)((tmp_path / name).read_bytes())
    blob = blob[:112] + struct.pack(order + "ff", 0.25, -7.0) + blob[120:]
    (tmp_path / name).write_bytes(gzip.compress(blob) if name.endswith("gz") else blob)
    with SeriesReader(tmp_path / name) as reader:
        np.testing.assert_array_equal(
            np.stack(list(reader.volumes()), -1), (raw * 0.25 - 7).astype(np.float32)
        )


@pytest.mark.parametrize(
    ("codes", "stored"), [((2, 4), (2, 4)), ((1, 0), (1, 0)), ((0, 2), (0, 2)), ((0, 0), (1, 1))]
)
def test_header_codes_are_kept_unless_both_are_unknown(
    tmp_path: Path, codes: tuple[int, int], stored: tuple[int, int]
) -> None:
    like = nib.Nifti1Header()
    like["qform_code"], like["sform_code"] = codes
    _write(tmp_path / "a.nii", _data(), header_like=like)
    save_image(_data()[..., 0], AFFINE, tmp_path / "b.nii.gz", header_like=like)
    for name in ("a.nii", "b.nii.gz"):
        header = nib.load(tmp_path / name).header
        assert (int(header["qform_code"]), int(header["sform_code"])) == stored
        np.testing.assert_allclose(
            header.get_zooms()[:3], np.sqrt((AFFINE[:3, :3] ** 2).sum(0)), rtol=1e-6
        )


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_error_of_a_truncated_file_names_the_file(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path / name, _data((16, 16, 8, 7)))
    blob = path.read_bytes()
    path.write_bytes(blob[: len(blob) * 2 // 3])
    with (
        pytest.raises(InvalidInput, match=name),
        SeriesReader(path) as reader,
    ):
        list(reader.volumes())


def test_error_of_an_unreadable_image_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"no image at all")
    with pytest.raises(InvalidInput, match=r"a\.nii\.gz"):
        SeriesReader(tmp_path / "a.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"b\.nii"):
        SeriesReader(tmp_path / "b.nii")


def test_nan_is_rejected_unless_allowed(tmp_path: Path) -> None:
    data = _data()
    data[1, 1, 1, 3] = np.nan
    path = _write(tmp_path / "a.nii", data)
    with (
        pytest.raises(InvalidInput, match=r"a\.nii: volume 3 contains NaN"),
        SeriesReader(path) as reader,
    ):
        list(reader.volumes())
    with SeriesReader(path, allow_nan=True) as reader:
        np.testing.assert_array_equal(reader.volume(3), data[..., 3])


def test_an_incomplete_series_leaves_no_file(tmp_path: Path) -> None:
    writer = SeriesWriter(tmp_path / "a.nii.gz", (2, 2, 2, 3), AFFINE, 1.0)
    writer.append(np.zeros((2, 2, 2)))
    assert not (tmp_path / "a.nii.gz").exists()
    with pytest.raises(InvalidInput, match="1 of 3"):
        writer.close()
    failing_writer = SeriesWriter(tmp_path / "b.nii", (2, 2, 2, 3), AFFINE, 1.0)
    with pytest.raises(ZeroDivisionError), failing_writer:
        failing_writer.append(np.zeros((2, 2, 2)) + 1 // 0)
    assert list(tmp_path.iterdir()) == []


def test_wrong_shapes_and_surplus_volumes_are_rejected(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match="shape"),
        SeriesWriter(tmp_path / "a.nii", (2, 2, 2, 1), AFFINE, 1.0) as writer,
    ):
        writer.append(np.zeros((2, 2, 3)))
    writer = SeriesWriter(tmp_path / "a.nii", (2, 2, 2, 1), AFFINE, 1.0)
    writer.append(np.zeros((2, 2, 2)))
    with pytest.raises(InvalidInput, match="more than 1"):
        writer.append(np.zeros((2, 2, 2)))
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_writing_slabs_and_writing_volumes_yield_the_same_file(tmp_path: Path) -> None:
    data = _data()
    _write(tmp_path / "a.nii", data)
    with SeriesWriter(tmp_path / "b.nii", data.shape, AFFINE, 0.72) as writer:
        writer.put_slab(2, data[:, :, 2:])
        writer.put_slab(0, data[:, :, :2])
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_compressed_copies_are_reproducible_and_accurate(tmp_path: Path, dtype: str) -> None:
    data = _data()
    source = _write(tmp_path / "a.nii", data)
    for name in ("b.nii.gz", "c.nii.gz"):
        compress_series(source, tmp_path / name, dtype=dtype)
    blob = (tmp_path / "b.nii.gz").read_bytes()
    assert blob == (tmp_path / "c.nii.gz").read_bytes()
    assert blob[3] == 0  # gzip flags: no file name
    assert blob[4:8] == bytes(4)  # no time stamp
    image = nib.load(tmp_path / "b.nii.gz")
    assert image.get_data_dtype() == np.dtype(dtype)
    assert image.header.endianness == "<"
    assert image.header.get_zooms()[3] == pytest.approx(0.72)
    step = data.max() / 65000 if dtype == "int16" else 0
    assert np.abs(image.get_fdata() - data).max() <= 0.6 * step


@given(
    low=st.floats(-1e7, 0, width=32),
    high=st.floats(0, 1e7, width=32),
    shift=st.sampled_from([0.0, 0.0, 5e4, -3e3]),
)
@settings(max_examples=60)
def test_zeros_stay_exactly_zero_in_int16(
    tmp_path_factory, low: float, high: float, shift: float
) -> None:
    """Zeros are exact in single and double precision; errors stay below range / 120,000."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("zero")
    data = np.append(rng.uniform(low, high, 30) + shift, [0, low + shift, high + shift]).astype(
        np.float32
    )
    assume(np.ptp(data) > 1e-20)
    compress_series(
        _write(folder / "a.nii", data.reshape(3, 11, 1, 1)), folder / "b.nii.gz", dtype="int16"
    )
    image = nib.load(folder / "b.nii.gz")
    for values in (image.get_fdata(dtype=np.float32), image.get_fdata()):
        assert (values[data.reshape(values.shape) == 0] == 0).all()
        assert np.abs(values.ravel() - data).max() <= np.ptp(data) / 120000


@pytest.mark.parametrize("by_slab", [False, True])
@pytest.mark.parametrize(
    ("artifact", "spike", "dtype"), [(0, 0, "<i2"), (0, 4000, "<f4"), (20_000, 0, "<f4")]
)
def test_large_computed_series_are_int16_unless_the_range_is_too_wide(
    tmp_path, monkeypatch, by_slab, artifact, spike, dtype
):
    """A spike after the choice, and a head that is dark relative to an artifact."""
    rng = np.random.default_rng(0)
    head = 1000 * rng.random((12, 10, 6, 1))
    values = (head + 10 * rng.standard_normal((12, 10, 6, 40))).astype(np.float32)
    values[:2] = 0
    values[2, 2, 2] += artifact
    monkeypatch.setattr(storage, "LARGE_SERIES_BYTES", 4 * values.size)
    with SeriesReader(_write(tmp_path / "source.nii", values)) as source:
        assert choose_working_storage(source, values.shape) == Storage()
        monkeypatch.setattr(storage, "LARGE_SERIES_BYTES", 4 * values.size - 1)
        chosen = choose_working_storage(source, values.shape)
    values[5, 5, 3, 30] += spike
    path = tmp_path / "series.nii"
    with SeriesWriter(path, values.shape, AFFINE, 2.0, storage=chosen) as writer:
        for k in range(6 if by_slab else 40):
            if by_slab:
                writer.put_slab(k, values[:, :, k : k + 1])
            else:
                writer.append(values[..., k])
    image = nib.load(path)
    assert image.get_data_dtype() == dtype
    rms = np.sqrt(np.mean((image.get_fdata() - values) ** 2))
    assert rms < 1e-3 * 10, "relative to the noise"
    assert (image.get_fdata()[:2] == 0).all()
    with SeriesReader(path) as reader:
        stored = np.stack(list(reader.volumes()), axis=-1)
        np.testing.assert_array_equal(stored, image.get_fdata(dtype=np.float32))
        np.testing.assert_array_equal(reader.slab(2), stored[:, :, 2:3])
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def _bytes_read() -> int:
    """Return the number of bytes that this process has read from files (`rchar`)."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_reading_rows_of_a_slab_reads_only_these_rows_and_volumes(
    tmp_path: Path, dtype: str
) -> None:
    data = _data((40, 50, 3, 60))
    with SeriesReader(
        _write(tmp_path / "a.nii", data, storage=Storage(np.dtype(dtype), 0.5))
    ) as reader:
        slab = reader.slab(1)
        before = _bytes_read()
        part = reader.slab(1, rows=slice(10, 20), volumes=slice(30, None))
        n_read = _bytes_read() - before
        np.testing.assert_array_equal(part, slab[:, 10:20, :, 30:])
        item = np.dtype(dtype).itemsize
        # plus a buffer of up to 4 kB per volume
        assert n_read < 30 * (40 * 10 * item + 4096) + 8192
        assert n_read < 0.5 * 40 * 50 * 60 * item + 30 * 4096
        assert reader.slab(0, volumes=slice(0, 2)).shape == (40, 50, 1, 2)
