"""A low- and a high-resolution image of one head in one position, as benchmarks pass them on."""

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from bids_sr.sr.data.examples import Examples
from bids_sr.sr.data.images import TrainingImage, checksums, pair_image
from bids_sr.sr.recipe import Recipe

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """(x, y, z), (X, Y, z), the head in the former, its voxel -> RAS mm, low- over high-resolution
    voxel size.
    """

    lowres: Array
    highres: Array
    mask: Array
    lowres_affine: Array
    factor: tuple[float, float, float]

    def image(self, name: str = "pair") -> TrainingImage:
        """The pair to train on."""
        return replace(
            pair_image(self.lowres, self.highres, self.mask, self.lowres_affine, self.factor),
            name=name,
        )

    def examples(self, recipe: Recipe) -> Examples:
        """Its slices as a training sees them."""
        return Examples((self.image(),), recipe, self.factor, 2)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of what is trained on."""
        return checksums((self.image(),))
