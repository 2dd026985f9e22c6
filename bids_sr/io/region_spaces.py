"""Space of an image that a user provides: of a template, a T1w image, or a BOLD run."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.fields_of_view import EDGE_TOLERANCE, turned_corner_distance
from bids_sr.io.frozen import frozen
from bids_sr.io.orientation import storage_order

RegionSpace = Literal["T1w", "boldref", "template"]
T1W: RegionSpace = "T1w"
TEMPLATE: RegionSpace = "template"


@frozen
class Grid:
    """Grid of an image: number of voxels (3), and voxel-to-RAS-mm matrix (4, 4)."""

    shape: Sequence[int]
    affine: Array

    def equals(self, other: "Grid") -> bool:
        """Return whether both grids have the same voxels, up to a tenth of a voxel.

        Storage orders may differ.
        """
        turned_shape = storage_order(self.affine, other.affine).turn_shape(self.shape)
        return turned_shape == tuple(other.shape) and self.has_view_of(other)

    def has_view_of(self, other: "Grid") -> bool:
        """Return whether both grids have the same field of view, up to a tenth of a voxel.

        Voxel sizes and storage orders may differ.
        """
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        distance = turned_corner_distance(self.shape, self.affine, other.shape, other.affine)
        return distance <= EDGE_TOLERANCE * float(sizes.min())


def find_space(label: str, grid: Grid, known_grids: Mapping[str, Sequence[Grid]]) -> str | None:
    """Return the space of an image, or None if it is not one of the known spaces.

    `label` is the space in the file name of the image, which determines the space; "" if the name
    has none. Without a label, the grid of the image must be a grid of a single known space.
    `known_grids` are the grids of each space by its label.
    """
    if label:
        return label if label in known_grids else None
    spaces = [space for space, grids in known_grids.items() if any(map(grid.equals, grids))]
    return spaces[0] if len(spaces) == 1 else None
