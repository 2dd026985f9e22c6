"""An image in memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bids_sr.io.arrays import Array, Float

if TYPE_CHECKING:
    import nibabel


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image in memory.

    `data`: values (X, Y, Z), or (X, Y, Z, K) of several maps on one grid. `header`: NIfTI header
    whose qform and sform codes are kept, or None. `dtype`: data type on disk; None for float32 of
    floats and uint8 of booleans.
    """

    data: "Array"
    affine: "Float"
    header: "nibabel.Nifti1Header | None" = None
    dtype: str | None = None

    def like(self, data: "Array") -> "Volume":
        """Other values on the same grid.

        `data`: values (X, Y, Z), or (X, Y, Z, K) of several maps on one grid.
        """
        return Volume(data, self.affine, self.header)

    @property
    def zooms(self) -> "Array":
        """Voxel edge lengths (mm), (3,)."""
        from nibabel.affines import voxel_sizes

        return voxel_sizes(self.affine)
