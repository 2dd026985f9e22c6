"""Image in memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bids_sr.io.arrays import Array, Float

if TYPE_CHECKING:
    import nibabel


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """Image in memory.

    `data` has shape (X, Y, Z), or (X, Y, Z, K) for several maps on one grid, and `affine` is the
    voxel-to-world matrix (4 x 4, RAS+ mm). `header` is the NIfTI header whose qform and sform
    codes are copied, or None. `dtype` is the data type on disk; None uses float32 for floats and
    uint8 for booleans.
    """

    data: "Array"
    affine: "Float"
    header: "nibabel.Nifti1Header | None" = None
    dtype: str | None = None

    def like(self, data: "Array") -> "Volume":
        """Return an image with other values (X, Y, Z[, K]) on the same grid."""
        return Volume(data, self.affine, self.header)

    @property
    def zooms(self) -> "Array":
        """Voxel sizes (3,; mm)."""
        from nibabel.affines import voxel_sizes

        return voxel_sizes(self.affine)
