"""An image in memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import nibabel

    from bids_sr.io.array_types import Array, Float


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image in memory.

    Parameters
    ----------
    data : 'Array'
        Values (X, Y, Z), or (X, Y, Z, K) of several maps on one grid.
    affine : 'Float'
        Voxel-to-world matrix of the image (4 x 4, RAS+ mm).
    header : 'nibabel.Nifti1Header | None'
        NIfTI header whose qform and sform codes are kept, or None.
    dtype : str | None
        Data type on disk; None for float32 of floats and uint8 of booleans.

    Attributes
    ----------
    data : (X, Y, Z), or (X, Y, Z, K) of several maps on one grid
    affine : (4, 4) voxel to RAS mm
    header : whose form codes are kept, or None
    dtype : stored type; None: float32 for floats, uint8 for booleans
    """

    data: "Array"
    affine: "Float"
    header: "nibabel.Nifti1Header | None" = None
    dtype: str | None = None

    def like(self, data: "Array") -> "Volume":
        """Other values on the same grid.

        Parameters
        ----------
        data : 'Array'
            Values (X, Y, Z), or (X, Y, Z, K) of several maps on one grid.

        Returns
        -------
        'Volume'
            New image with the same affine and header.
        """
        return Volume(data, self.affine, self.header)

    @property
    def zooms(self) -> "Array":
        """Voxel edge lengths (mm), (3,)."""
        from nibabel.affines import voxel_sizes

        return voxel_sizes(self.affine)
