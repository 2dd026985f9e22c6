"""Packed series: read by any gzip, equal bytes for equal data, nothing lost on a full disk."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import _PackedStream, save_image


def _packed(parts: list[bytes]) -> bytes:
    below = io.BytesIO()
    with _PackedStream(below) as stream:
        assert [stream.write(part) for part in parts] == [len(part) for part in parts]
    assert not below.closed
    return below.getvalue()


def test_any_gzip_reads_it_and_no_time_or_name_is_in_it() -> None:
    noise = np.random.default_rng(0).normal(900, 30, 50_000).astype("<i2").tobytes()
    parts = [noise[:7], b"", noise[7:], bytes(100_000)]
    packed = _packed(parts)
    assert gzip.decompress(packed) == b"".join(parts)
    assert packed == _packed(parts)
    assert packed[3] == 0, "flags: no name"
    assert packed[4:8] == bytes(4), "no time"


def test_masks_are_packed_about_as_small_as_gzip_does(tmp_path: Path) -> None:
    mask = np.zeros((32, 32, 20), np.uint8)
    mask[8:24:2, 4:28:3] = 1
    save_image(mask, np.eye(4), tmp_path / "mask.nii.gz")
    packed = (tmp_path / "mask.nii.gz").read_bytes()
    assert len(packed) < 1.5 * len(gzip.compress(gzip.decompress(packed), 4))


def test_noise_packs_as_well_as_gzip_does_and_empty_background_away() -> None:
    noise = np.random.default_rng(0).normal(900, 30, 50_000).astype("<i2").tobytes()
    # which finds repetitions in it by chance
    assert len(_packed([noise])) < len(gzip.compress(noise, 1))
    assert len(_packed([bytes(1_000_000)])) < 10_000


def test_what_cannot_be_written_is_told_at_once_and_closing_again_is_harmless() -> None:
    class Full(io.BytesIO):
        def write(self, data: object, /) -> int:
            raise OSError(28, "No space left on device")

    stream = _PackedStream(Full())
    with pytest.raises(OSError, match="No space"):
        stream.write(np.random.default_rng(0).bytes(200_000))
    with pytest.raises(OSError, match="No space"):
        stream.close()  # what is left does not fit either
    stream.close()
    assert stream.closed
