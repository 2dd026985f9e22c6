"""Signs of veins in voxels: a large acquired effect, and darkness in the boldref.

BOLD changes are largest in draining veins, where gradient echo images are dark. Darkness is
relative to the surroundings, not to the whole brain, because coils make some regions bright. Both
limits were fixed with measured runs (benchmarks/large_effects.py).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bids_sr.io.arrays import Array, Float32, MaskArray
from bids_sr.io.frozen import frozen
from bids_sr.io.volume import Volume
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.smoothing import smooth

LARGE_PERCENT = 5.0
"""Acquired effect (absolute value, percent of the mean brain signal) above which it is large."""
DARK_RATIO = 0.85
"""Largest signal of a dark voxel, relative to its surroundings."""
LARGE_SHARE = "large_share"
"""Column of tables: share of voxels with a large acquired effect."""
_SURROUNDINGS_MM = 20.0  # mm FWHM of the Gaussian that weighs the surroundings


@frozen
class VeinSigns:
    """Voxels of one grid with signs of veins, (X, Y, Z) each.

    `large` are the voxels with a large acquired effect, by contrast, and `dark` the voxels that
    are darker than their surroundings.
    """

    large: Mapping[str, MaskArray]
    dark: MaskArray

    @staticmethod
    def find(
        boldref: Volume, brain: Volume, effects: Mapping[str, Volume], grid: Volume
    ) -> "VeinSigns":
        """Find the signs on the acquired grid, and sample them on another grid.

        `boldref`, the mask `brain` and the acquired `effects` (percent) by contrast are on the
        acquired grid.
        """

        def sample(signs: MaskArray) -> MaskArray:
            values = signs.astype(np.float32)
            shape = grid.data.shape[:3]
            return sample_volume(values, brain.affine, shape, grid.affine, order=0) > 0.5

        darkness = measure_darkness(boldref.data, brain.data, brain.zooms.tolist())
        return VeinSigns(
            large={
                name: sample(np.abs(effect.data) > LARGE_PERCENT)
                for name, effect in effects.items()
            },
            dark=sample(darkness < DARK_RATIO),
        )

    def measure(self, contrast: str, voxels: tuple[Array, ...]) -> dict[str, float]:
        """Return the share of voxels (indices by axis) with a large effect, by column of tables.

        The share is NaN if the contrast has no effect. Darkness is left out: an eighth of the
        brain is dark, and masks of effects are not darker.
        """
        large = self.large.get(contrast)
        return {LARGE_SHARE: np.nan if large is None else float(large[voxels].mean())}


def measure_darkness(boldref: Array, brain: MaskArray, zooms: Sequence[float]) -> Float32:
    """Return the signal of each voxel relative to its surroundings, 1 outside the brain.

    `boldref` is a T2*-weighted image and `brain` the brain mask (X, Y, Z), `zooms` the voxel size
    (mm).
    """
    weights = smooth(brain.astype(np.float32), zooms, _SURROUNDINGS_MM)
    signal = np.where(brain, boldref, 0).astype(np.float32)
    mean = smooth(signal, zooms, _SURROUNDINGS_MM)
    ratio = np.ones(brain.shape, dtype=np.float32)
    return np.divide(boldref * weights, mean, out=ratio, where=brain & (mean > 0))
