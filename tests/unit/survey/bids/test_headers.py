"""Headers of images compared with `nibabel.load`."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from data.calls import about, problem_of

from bids_sr.survey.bids.headers import note_header, read_header
from bids_sr.survey.notices import InputError

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
@pytest.mark.parametrize("dtype", ["int16", "complex64"])
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
    header = read_header(path)
    image = nib.load(path)
    assert [*note_header(header)] == []
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
    header = read_header(path)
    corners = np.array([*np.ndindex(2, 2, 2)]) * [4, 5, 6]
    shifts = nib.affines.apply_affine(AFFINE, corners) - nib.affines.apply_affine(TURNED, corners)
    distance = np.linalg.norm(shifts, axis=1).max()
    assert header.affine == pytest.approx(AFFINE, abs=1e-5)
    assert len(about(note_header(header), str(path), f"{distance:.3g}")) == 1


@pytest.mark.parametrize(
    ("unit", "size", "is_used"),
    [("meter", 3.0, True), ("micron", 3.0, True), ("meter", 3e-3, False), ("micron", 3e3, False)],
)
def test_another_unit_of_lengths_is_noted_or_refused(
    tmp_path: Path, unit: str, size: float, *, is_used: bool
) -> None:
    """Voxel sizes that are plausible in mm are used; others would need a conversion."""
    image = nib.Nifti1Image(np.zeros((5, 6, 7), np.int16), np.diag([size] * 3 + [1.0]))
    image.header.set_xyzt_units(unit, "sec")
    path = tmp_path / "a_bold.nii"
    image.to_filename(path)
    if is_used:
        assert about(note_header(read_header(path)), str(path), unit)
        return
    with pytest.raises(InputError) as refusal:
        read_header(path)
    problem_of(refusal.value.problems, str(path), unit)


# start of the damage, and what replaces the bytes there; None: the file ends
DAMAGE: dict[str, tuple[int, bytes | None]] = {
    "cut header": (200, None),
    "cut extension": (400, None),
    "no magic": (344, b"\0" * 4),
    "data at infinity": (108, np.float32(np.inf).tobytes()),
    "infinite slope": (112, np.float32(1).tobytes() + np.float32(np.inf).tobytes()),
    "empty": (0, None),
    "text": (0, b"no image" * 100),
}


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("damage", DAMAGE)
def test_invalid_headers_are_problems(tmp_path: Path, damage: str, *, is_compressed: bool) -> None:
    start, replacement = DAMAGE[damage]
    extension = b"x" * 5000 if damage == "cut extension" else b""
    content = save(tmp_path / "a_bold.nii", extension=extension).read_bytes()
    end = b"" if replacement is None else content[start + len(replacement) :]
    content = content[:start] + (replacement or b"") + end
    path = tmp_path / ("a_bold.nii.gz" if is_compressed else "a_bold.nii")
    path.write_bytes(gzip.compress(content) if is_compressed else content)
    with pytest.raises(InputError) as caught:
        read_header(path)
    problem_of(caught.value.problems, str(path))
    with pytest.raises(Exception):  # noqa: B017, PT011
        nib.load(path)


def test_broken_compression_is_a_problem(tmp_path: Path) -> None:
    content = gzip.compress(save(tmp_path / "a_bold.nii").read_bytes())
    for number, spoiled in enumerate((content[:30], b"\0" * 400, content[:10] + b"\xff" * 300)):
        path = tmp_path / f"{number}_bold.nii.gz"
        path.write_bytes(spoiled)
        with pytest.raises(InputError) as caught:
            read_header(path)
        problem_of(caught.value.problems, str(path))
