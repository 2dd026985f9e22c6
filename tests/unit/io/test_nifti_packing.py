"""Compressed series: readable by any gzip, deterministic, and errors of a full disk."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import _PackedStream, save_image


def _compress(parts: list[bytes]) -> bytes:
    buffer = io.BytesIO()
    with _PackedStream(buffer) as stream:
        assert [stream.write(part) for part in parts] == [len(part) for part in parts]
    assert not buffer.closed
    return buffer.getvalue()


def test_compressed_streams_are_valid_gzip_without_time_and_name() -> None:
    noise = np.random.default_rng(0).normal(900, 30, 50_000).astype("<i2").tobytes()
    parts = [noise[:7], b"", noise[7:], bytes(100_000)]
    compressed = _compress(parts)
    assert gzip.decompress(compressed) == b"".join(parts)
    assert compressed == _compress(parts)
    assert compressed[3] == 0, "flags: no name"
    assert compressed[4:8] == bytes(4), "no time"


def test_compressed_masks_are_about_as_small_as_with_gzip(tmp_path: Path) -> None:
    mask = np.zeros((32, 32, 20), np.uint8)
    mask[8:24:2, 4:28:3] = 1
    save_image(mask, np.eye(4), tmp_path / "mask.nii.gz")
    packed = (tmp_path / "mask.nii.gz").read_bytes()
    assert len(packed) < 1.5 * len(gzip.compress(gzip.decompress(packed), 4))


def test_compressed_noise_is_as_small_as_with_gzip_and_zeros_vanish() -> None:
    noise = np.random.default_rng(0).normal(900, 30, 50_000).astype("<i2").tobytes()
    # gzip searches for chance repetitions
    assert len(_compress([noise])) < len(gzip.compress(noise, 1))
    assert len(_compress([bytes(1_000_000)])) < 10_000


def test_write_errors_are_raised_immediately_and_closing_twice_is_allowed() -> None:
    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(28, "No space left on device")

    stream = _PackedStream(Full())
    with pytest.raises(OSError, match="No space"):
        stream.write(np.random.default_rng(0).bytes(200_000))
    with pytest.raises(OSError, match="No space"):
        stream.close()  # remaining data do not fit either
    stream.close()
    assert stream.closed
