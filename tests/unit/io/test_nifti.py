"""NIfTI series: exact round trips, scaling, headers, damaged files, atomic writes."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from bids_sr.io import nifti
from bids_sr.io.copies import compress_series, copy_series
from bids_sr.io.nifti import (
    SeriesReader,
    SeriesWriter,
    difference_unit,
    from_half_precision,
    load_image,
    save_image,
    to_half_precision,
)
from bids_sr.io.notices import InvalidInput

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
        np.testing.assert_array_equal(reader.slab(1, 3), data[:, :, 1:3])
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


def test_tr_in_milliseconds_is_converted_to_seconds(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((2, 2, 2, 3), np.float32), np.eye(4))
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((1, 1, 1, 2000))
    image.to_filename(tmp_path / "a.nii")
    assert SeriesReader(tmp_path / "a.nii").tr == pytest.approx(2.0)


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


def test_data_types_of_single_images(tmp_path: Path) -> None:
    mask = _data()[..., 0] > 300
    save_image(mask, AFFINE, tmp_path / "m.nii.gz")
    assert nib.load(tmp_path / "m.nii.gz").get_data_dtype() == np.uint8
    np.testing.assert_array_equal(load_image(tmp_path / "m.nii.gz")[0] > 0, mask)
    save_image(_data()[..., 0].astype(np.float64), AFFINE, tmp_path / "f.nii")
    assert nib.load(tmp_path / "f.nii").get_data_dtype() == np.float32
    with pytest.raises(InvalidInput, match="uint8"):
        save_image(_data()[..., 0], AFFINE, tmp_path / "u.nii", dtype="uint8")
    assert not (tmp_path / "u.nii").exists()


@pytest.mark.parametrize("by_slab", [False, True])
def test_large_series_are_stored_in_half_precision_of_changes(tmp_path, monkeypatch, by_slab):
    rng = np.random.default_rng(0)
    image = 1000 + 200 * rng.random((12, 10, 6, 1))
    values = (image + 9 * rng.standard_normal((12, 10, 6, 40))).astype(np.float32)
    assert difference_unit(values.shape, values[..., 0]) == 0, (
        "small series are stored in single precision"
    )
    monkeypatch.setattr(nifti, "LARGE_SERIES_BYTES", 1000)
    step = difference_unit(values.shape, values[..., 0])
    assert 0 < step <= 2**-10 * values[..., 0].max()
    path = tmp_path / "series.nii"
    with SeriesWriter(path, values.shape, np.eye(4), 2.0, step=step) as writer:
        for k in range(6 if by_slab else 40):
            if by_slab:
                writer.put_slab(k, values[:, :, k : k + 1])
            else:
                writer.append(values[..., k])
    assert path.stat().st_size == 352 + values[..., 0].size * (4 + 2 * 40)
    with SeriesReader(path) as reader:
        assert not reader.plain
        stored = np.stack(list(reader.volumes()), axis=-1)
        np.testing.assert_array_equal(reader.slab(2, 5), stored[:, :, 2:5])
        np.testing.assert_array_equal(reader.volume(-1), stored[..., -1])
    np.testing.assert_array_equal(stored[..., 0], values[..., 0])
    change = np.abs(values - values[..., :1])
    assert (np.abs(stored - values) <= 1e-3 * change + 2e-4).all()
    copy_series(path, tmp_path / "plain.nii")
    np.testing.assert_array_equal(nib.load(tmp_path / "plain.nii").get_fdata(), stored)
    with SeriesReader(path) as reader, SeriesReader(tmp_path / "plain.nii") as copy:
        (lowest, highest), (low, high) = reader.extent(), copy.extent()
    assert (low, high) == (0, stored.max())
    assert -2 < lowest <= low < high <= highest < 1.002 * high
    compress_series(path, tmp_path / "packed.nii.gz", dtype="int16")
    packed = nib.load(tmp_path / "packed.nii.gz").get_fdata()
    assert np.abs(packed - stored).max() <= 0.51 * 1.01 * high / 2**16


@pytest.mark.parametrize(
    ("stored", "slope", "dtype_of_copy"),
    [("int16", 1.0, "<i2"), ("int16", 0.5, "<f4"), ("int32", 1.0, "<f4")],
)
def test_an_uncompressed_copy_keeps_values_and_int16(tmp_path, stored, slope, dtype_of_copy):
    values = np.random.default_rng(0).integers(-400, 400, (5, 4, 3, 6)).astype(np.float32) * slope
    path, copy = tmp_path / "stored.nii.gz", tmp_path / "plain.nii"
    with SeriesWriter(path, values.shape, np.eye(4), 2.0, dtype=stored, slope=slope) as writer:
        for t in range(6):
            writer.append(values[..., t])
    copy_series(path, copy)
    with SeriesReader(copy) as reader:
        assert reader.dtype == dtype_of_copy
        np.testing.assert_array_equal(np.stack(list(reader.volumes()), axis=-1), values)
        np.testing.assert_array_equal(reader.slab(0, 3), values)


def test_half_precision_equals_numpy_bitwise():
    """Values of all magnitudes, several strips, both memory orders."""
    rng = np.random.default_rng(0)
    shape = (50, 40, 33)
    size = 2.0 ** rng.uniform(-30, 15.9, shape)  # includes subnormal numbers and 0
    change = (size * rng.choice([-1, 1], shape)).astype(np.float32)
    change[0, 0, :4] = 65519.99, -65519.99, 2.0**-25, 0.0  # at the limit, and at a tie
    first, step = rng.integers(0, 900, shape).astype(np.float32), 0.25
    first[:25] = 0
    for order in "CF":
        values = np.array(first + np.float32(step) * change, order=order)
        expected = ((values - first) * np.float32(1 / step)).astype("<f2")
        stored = to_half_precision(values, first, step, Path("series.nii"))
        assert stored.flags.f_contiguous
        np.testing.assert_array_equal(stored.view(np.uint16), expected.view(np.uint16))
    decoded = from_half_precision(stored.ravel(order="F"), first.ravel(order="F"), step)
    expected_values = expected.astype(np.float32) * np.float32(step) + first
    np.testing.assert_array_equal(decoded, expected_values.ravel(order="F"))


@pytest.mark.parametrize("value", [1e5, -1e5, np.nan])
def test_writing_changes_outside_the_range_of_half_precision_fails(tmp_path, value):
    writer = SeriesWriter(tmp_path / "series.nii", (2, 2, 2, 2), np.eye(4), 1.0, step=0.5)
    writer.append(np.ones((2, 2, 2)))
    with pytest.raises(InvalidInput, match="half precision"):
        writer.append(np.full((2, 2, 2), value))
    writer.discard()
    assert not list(tmp_path.iterdir())


def _bytes_read() -> int:
    """Return the number of bytes that this process has read from files (`rchar`)."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("step", [0.0, 0.25])
def test_reading_rows_of_a_slab_reads_only_these_rows_and_volumes(
    tmp_path: Path, step: float
) -> None:
    data = _data((40, 50, 3, 60))
    with SeriesReader(_write(tmp_path / "a.nii", data, step=step)) as reader:
        slab = reader.slab(1, 2)
        before = _bytes_read()
        part = reader.slab(1, 2, rows=slice(10, 20), volumes=slice(30, None))
        n_read = _bytes_read() - before
        np.testing.assert_array_equal(part, slab[:, 10:20, :, 30:])
        item = 2 if step else 4
        # plus a buffer of up to 4 kB per volume, and the first volume
        assert n_read < 30 * (40 * 10 * item + 4096) + 40 * 10 * 4 + 8192
        assert n_read < 0.5 * 40 * 50 * 60 * item + 30 * 4096
        assert reader.slab(0, 3, volumes=slice(0, 2)).shape == (40, 50, 3, 2)
        with pytest.raises(IndexError, match=r"rows 10\.\.20 of 2 slices"):
            reader.slab(0, 2, rows=slice(10, 20))


@pytest.mark.parametrize(("name", "step"), [("a.nii", 0.0), ("a.nii", 0.25), ("a.nii.gz", 0.0)])
def test_reading_time_series_of_a_few_voxels_reads_only_these_voxels(
    tmp_path: Path, name: str, step: float
) -> None:
    data = _data((30, 20, 10, 40))
    with SeriesReader(_write(tmp_path / name, data, step=step)) as reader:
        volumes = np.stack(list(reader.volumes()), axis=-1)
        voxels = np.array([[0, 0, 0], [29, 19, 9], [3, 7, 2]])
        before = _bytes_read()
        time_series = reader.time_series(voxels)
        n_read = _bytes_read() - before
    np.testing.assert_array_equal(time_series, volumes[tuple(voxels.T)])
    assert n_read < 4000 or name.endswith("gz")  # 3 voxels in 40 volumes; the file has 960 kB
    assert reader.time_series(voxels[:0]).shape == (0, 40)
