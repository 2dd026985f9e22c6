"""Headers of images compared with `nibabel.load`."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_sr.bids.findings import Findings
from bids_sr.bids.headers import read_header

AFFINE = np.array([[-3, 0.2, 0, 40], [0.2, 3, 0.1, -50], [0, -0.1, 4, -20], [0, 0, 0, 1.0]])
TURNED = np.array([[0, -3, 0, 46], [3, 0, 0, -50], [0, 0, 4, -20], [0, 0, 0, 1.0]])


def save(
    path: Path,
    image_class: type[nib.Nifti1Image] = nib.Nifti1Image,
    *,
    endianness: str = "<",
    dtype: str = "int16",
    extension: bytes = b"",
) -> Path:
    """Write a series with a repetition time of 1500 ms and slices on the second axis."""
    header = image_class.header_class(endianness=endianness)
    header.set_data_dtype(dtype)
    image = image_class(np.zeros((5, 6, 7, 3), dtype=dtype), AFFINE, header)
    image.header.set_xyzt_units("mm", "msec")
    image.header.set_zooms((*image.header.get_zooms()[:3], 1500))
    image.header.set_dim_info(slice=1)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 2)
    if extension:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", extension))
    image.to_filename(path)
    return path


@pytest.mark.parametrize("name", ["a_bold.nii", "a_bold.nii.gz"])
@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "complex64"])
def test_headers_equal_those_of_nibabel(
    tmp_path: Path,
    name: str,
    image_class: type[nib.Nifti1Image],
    endianness: str,
    dtype: str,
) -> None:
    path = save(
        tmp_path / name, image_class, endianness=endianness, dtype=dtype, extension=b"x" * 5000
    )
    findings = Findings()
    header = read_header(path, findings)
    image = nib.load(path)
    assert (findings.problems, findings.notices) == ([], [])
    assert header is not None
    assert type(image) is image_class
    assert header.shape == image.shape == (5, 6, 7, 3)
    assert header.affine == pytest.approx(image.affine, abs=0)
    assert header.zooms == pytest.approx(np.linalg.norm(AFFINE[:3, :3], axis=0))
    assert header.tr == pytest.approx(1.5)
    assert header.slice_axis == 1
    assert header.complex == (dtype == "complex64")
    assert not header.colored


def test_the_distance_of_qform_and_sform_is_noted(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros((5, 6, 7), dtype=np.float32), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(TURNED, 1)
    path = tmp_path / "a_T1w.nii.gz"
    image.to_filename(path)
    findings = Findings()
    header = read_header(path, findings)
    corners = np.array([*np.ndindex(2, 2, 2)]) * [4, 5, 6]
    shifts = nib.affines.apply_affine(AFFINE, corners) - nib.affines.apply_affine(TURNED, corners)
    distance = np.linalg.norm(shifts, axis=1).max()
    assert header is not None
    assert header.affine == pytest.approx(AFFINE, abs=1e-5)
    (notice,) = findings.notices
    assert f"differ by {distance:.3g} mm" in notice.why


def _cut_header(content: bytes) -> bytes:
    return content[:200]


def _cut_extension(content: bytes) -> bytes:
    return content[:400]


def _remove_magic(content: bytes) -> bytes:
    return content[:344] + b"\0" * 4 + content[348:]


def _move_data_to_infinity(content: bytes) -> bytes:
    return content[:108] + np.float32(np.inf).tobytes() + content[112:]


def _make_slope_infinite(content: bytes) -> bytes:
    return content[:112] + np.float32(1).tobytes() + np.float32(np.inf).tobytes() + content[120:]


def _empty(content: bytes) -> bytes:
    return content[:0]


def _replace_by_text(content: bytes) -> bytes:
    return b"no image" * 100


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize(
    "spoil",
    [
        _cut_header,
        _cut_extension,
        _remove_magic,
        _move_data_to_infinity,
        _make_slope_infinite,
        _empty,
        _replace_by_text,
    ],
)
def test_invalid_headers_are_problems(tmp_path: Path, spoil, is_compressed: bool) -> None:
    extension = b"x" * 5000 if spoil is _cut_extension else b""
    content = spoil(save(tmp_path / "a_bold.nii", extension=extension).read_bytes())
    path = tmp_path / ("a_bold.nii.gz" if is_compressed else "a_bold.nii")
    path.write_bytes(gzip.compress(content) if is_compressed else content)
    findings = Findings()
    assert read_header(path, findings) is None
    (problem,) = findings.problems
    assert problem.what == str(path)
    assert "header cannot be read" in problem.why
    with pytest.raises(Exception):  # noqa: B017, PT011
        nib.load(path)


def test_broken_compression_is_a_problem(tmp_path: Path) -> None:
    content = gzip.compress(save(tmp_path / "a_bold.nii").read_bytes())
    for number, spoiled in enumerate((content[:30], b"\0" * 400, content[:10] + b"\xff" * 300)):
        path = tmp_path / f"{number}_bold.nii.gz"
        path.write_bytes(spoiled)
        findings = Findings()
        assert read_header(path, findings) is None
        assert "header cannot be read" in findings.problems[0].why
