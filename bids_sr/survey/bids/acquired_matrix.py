"""Samples that were acquired along the axes of an image, according to its sidecar.

Scanners interpolate images by zero filling of k-space (Interpolation, ZIP), so that voxels can be
smaller than the acquired resolution.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bids_sr.io.image_header import Header, ZeroFilledAxis
from bids_sr.io.json_values import as_number
from bids_sr.survey.bids.inheritance import read_metadata
from bids_sr.survey.notices import InputError

_MIN_FULL_SHARE = 0.95  # of the voxels along an axis; scanners omit one or two lines
MAX_INTERPOLATED_SHARE = 0.75
"""Largest share of the voxels along an axis that was acquired in an interpolated image."""
INTERPOLATION_FIX = (
    "Reconstruct the image without interpolation, or crop its k-space to the acquired matrix"
    " (kspace_crop in bids_sr.spatial.matrices) and correct the sidecar, or use the interpolated"
    " image with --set superres.force=true."
)
"""Remedy for an interpolated image."""


def list_zero_filled(
    sidecar: Mapping[str, object], shape: Sequence[int]
) -> tuple[ZeroFilledAxis, ...]:
    """Return the in-plane axes along which a sidecar states fewer samples than voxels.

    `shape` is the matrix of the image, with the axes that the sidecar names.
    """
    n_phase_voxels, n_readout_voxels = get_matrix_by_direction(sidecar, shape)
    fields = {
        "AcquisitionMatrixPE": read_number(sidecar, "ReconMatrixPE") or n_phase_voxels,
        "BaseResolution": n_readout_voxels,
    }
    axes = (
        ZeroFilledAxis(field=name, n_samples=read_number(sidecar, name), n_voxels=n_voxels)
        for name, n_voxels in fields.items()
    )
    return tuple(axis for axis in axes if 0 < axis.share < _MIN_FULL_SHARE)


def with_acquired_matrix(header: Header, root: Path) -> Header:
    """Return the header of an image with the axes that its sidecar describes as zero filled.

    The header has the axes as stored, and `root` is the data set. Unreadable sidecars are ignored.
    """
    with suppress(InputError):
        sidecar = read_metadata(header.path, root.absolute())
        return replace(header, zero_filled=list_zero_filled(sidecar, header.shape))
    return header


def list_interpolated(header: Header) -> list[ZeroFilledAxis]:
    """Return the axes of an image along which the scanner interpolated."""
    return [axis for axis in header.zero_filled if axis.share <= MAX_INTERPOLATED_SHARE]


def interpolation_text(axis: ZeroFilledAxis) -> str:
    """Describe an axis with fewer samples than voxels, without the last period."""
    return (
        f"{axis.field} is {axis.n_samples:g}, but the image has {axis.n_voxels:g} voxels along"
        f" this axis. The acquired Nyquist frequency is therefore {axis.share:.0%} of the Nyquist"
        " frequency implied by the voxel size. Finer detail is interpolated, not measured"
    )


def get_matrix_by_direction(
    sidecar: Mapping[str, object], shape: Sequence[int]
) -> tuple[int, int]:
    """Return the voxels along phase encoding and readout; smaller number first if unknown."""
    x, y = shape[:2]
    direction = str(sidecar.get("PhaseEncodingDirection", ""))[:1]
    if direction == "i":
        return x, y
    return (y, x) if direction == "j" else (min(x, y), max(x, y))


def read_number(sidecar: Mapping[str, object], name: str) -> float:
    """Return the value of a sidecar field, or 0 unless it is a finite number."""
    value = sidecar.get(name)
    number = as_number(None if isinstance(value, bool) else value)
    return number if abs(number) < 1e6 else 0.0
