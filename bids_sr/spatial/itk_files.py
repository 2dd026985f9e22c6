"""ITK text files of linear transforms.

Transforms in the files are in LPS mm and have the direction of `bids_sr.spatial.transforms`.
"""

import re
from pathlib import Path
from typing import Annotated, cast

import numpy as np

from bids_sr.engine.artifacts import ArtifactKind
from bids_sr.io import atomic_files
from bids_sr.io.arrays import Array, Float
from bids_sr.io.notices import InvalidInput

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AFFINE_TYPES = (
    "AffineTransform_double_3_3",
    "MatrixOffsetTransformBase_double_3_3",
    "AffineTransform_float_3_3",
    "MatrixOffsetTransformBase_float_3_3",
)
_EULER_TYPES = ("Euler3DTransform_double_3_3", "Euler3DTransform_float_3_3")


def write_itk(path: Path, transforms: Array) -> None:
    """Write RAS matrices as one ITK text file, in a single atomic step.

    Parameters
    ----------
    path : Path
        ITK transform file (text, LPS mm).
    transforms : Array
        Affine transforms, one (4, 4) or many (N, 4, 4), RAS+ mm.
    """
    matrices = np.asarray(transforms, dtype=np.float64)
    matrices = matrices[None] if matrices.ndim == 2 else matrices
    file_lines = ["#Insight Transform File V1.0"]
    for number, matrix in enumerate(LPS @ matrices @ LPS):
        parameters = [*matrix[:3, :3].ravel(), *matrix[:3, 3]]
        file_lines += [
            f"#Transform {number}",
            f"Transform: {_AFFINE_TYPES[0]}",
            # adding 0.0 removes the sign of negative zeros
            "Parameters: " + " ".join(repr(float(value) + 0.0) for value in parameters),
            "FixedParameters: 0 0 0",
        ]
    atomic_files.write_text(path, "\n".join(file_lines) + "\n")


def read_itk(path: Path) -> Float:
    """Read affine or Euler transforms with their centers of rotation from an ITK text file.

    Parameters
    ----------
    path : Path
        ITK transform file (text).

    Returns
    -------
    Float
        Affine transforms in the order of the file (N, 4, 4; RAS+ mm).

    Raises
    ------
    InvalidInput
        The file is not an ITK text file, is damaged, or contains transforms that are not affine in
        3D.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("#Insight Transform File"):
        raise InvalidInput("the file is not an ITK transform in text format", file=path)
    types = re.findall(r"^Transform:\s*(\S+)", text, flags=re.M)
    parameter_lines = re.findall(r"^Parameters:(.*)$", text, flags=re.M)
    fixed_lines = re.findall(r"^FixedParameters:(.*)$", text, flags=re.M)
    if not types or not len(types) == len(parameter_lines) == len(fixed_lines):
        raise InvalidInput(
            f"found {len(types)} types of transforms, {len(parameter_lines)} lines of"
            f" parameters and {len(fixed_lines)} lines of fixed parameters; expected one of each"
            " per transform",
            file=path,
        )
    if set(types) - {*_AFFINE_TYPES, *_EULER_TYPES}:
        raise InvalidInput(
            f"expected only affine transforms, found {sorted(set(types))}", file=path
        )
    matrices = [
        _parse_transform(path, transform_type, parameter_line, fixed_line)
        for transform_type, parameter_line, fixed_line in zip(
            types, parameter_lines, fixed_lines, strict=True
        )
    ]
    return LPS @ np.stack(matrices) @ LPS


def _parse_transform(
    path: Path, transform_type: str, parameter_line: str, fixed_line: str
) -> Float:
    """Return the matrix (4 x 4, LPS mm) of a transform from its parameters and fixed parameters.

    InvalidInput is raised for `path` if the numbers of parameters are wrong.
    """
    parameters = np.array(parameter_line.split(), dtype=float)
    fixed_parameters = np.array(fixed_line.split(), dtype=float)
    center, order_flag = fixed_parameters, fixed_parameters[3:]
    is_euler = transform_type in _EULER_TYPES
    if is_euler and parameters.size == 6 and fixed_parameters.size in (3, 4):
        rotation = _make_euler_rotation(parameters[:3], zyx=bool(order_flag.any()))
        parameters = np.concatenate([rotation.ravel(), parameters[3:]])
        center = fixed_parameters[:3]
    if parameters.size != 12 or center.size != 3:
        raise InvalidInput(
            "a three-dimensional affine transform must have 12 parameters and 3 fixed parameters",
            file=path,
        )
    return make_matrix(parameters, center)


def _make_euler_rotation(angles: Array, *, zyx: bool) -> Float:
    """Return the rotation matrix of ITK's Euler3DTransform.

    `angles` are about x, y and z (rad). `zyx` is the order of the product: Rz Ry Rx if True,
    otherwise Rz Rx Ry.
    """
    from scipy.spatial.transform import Rotation

    x, y, z = angles
    rotation = (
        Rotation.from_euler("ZYX", [z, y, x]) if zyx else Rotation.from_euler("ZXY", [z, x, y])
    )
    return rotation.as_matrix()


def make_matrix(values: Array, center: Array) -> Float:
    """Return a 4x4 matrix from ITK's twelve affine parameters and the center of rotation.

    `values` contains a 3x3 matrix by rows, then the translation (12,). `center` is in the frame of
    the parameters (3,).
    """
    matrix = np.eye(4)
    matrix[:3, :3] = values[:9].reshape(3, 3)
    matrix[:3, 3] = values[9:12] + center - matrix[:3, :3] @ center
    return matrix


class _TransformsKind(ArtifactKind[np.ndarray]):
    """Transforms (T, 4, 4) in RAS mm, saved as ITK text."""

    is_light, stored_extension = True, ".txt"

    def load(self, path: Path) -> np.ndarray:
        return read_itk(path)

    def save(self, value: np.ndarray, stem: Path) -> Path:
        write_itk(path := stem.with_suffix(".txt"), value)
        return path


Transforms = Annotated[np.ndarray, _TransformsKind()]


def as_transforms(file: Path) -> Transforms:
    """Return a file with transforms as an artifact that steps can load."""
    return cast("Transforms", file)
