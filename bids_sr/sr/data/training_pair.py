"""The subject's pair of a low- and a high-resolution image, checked and brought to one intensity."""

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array, float32_checksum
from bids_sr.sr.models.compatibility import image_entries
from bids_sr.sr.resolution.matrices import Factor, check_factor, downsample, highres_size, upsample


class PairError(ValueError):
    """A pair that cannot be trained on."""


@frozen
class TrainingPair:
    """A low- and a high-resolution image of one head in one position.

    PairError for sizes that do not belong together, an empty mask, values that are not finite, or an image without
    contrast.
    """

    lowres: Array  # (x, y, z)
    highres: Array  # (X, Y, z) on the grid of `spatial.transforms.hr_grid`
    mask: Array  # (x, y, z) brain, or head
    lowres_affine: Array  # voxel -> RAS mm
    factor: Factor  # low- over high-resolution voxel size
    contrast: str = "T2starw"  # BIDS suffix of both

    def __post_init__(self) -> None:
        check_factor(self.factor)
        wanted = tuple(highres_size(n, f) for n, f in zip(self.lowres.shape, self.factor, strict=True))
        if self.highres.shape != wanted:
            raise PairError(
                f"low resolution {self.lowres.shape} by {self.factor} is {wanted}, not {self.highres.shape}"
            )
        if self.mask.shape != self.lowres.shape:
            raise PairError(f"the mask {self.mask.shape} is not on the low-resolution grid {self.lowres.shape}")
        if not (self.mask > 0).any():
            raise PairError("the mask of the pair is empty")
        for name, image in (("low", self.lowres), ("high", self.highres)):
            if not np.isfinite(image).all() or np.ptp(image) == 0:
                raise PairError(f"the {name}-resolution image is constant or not finite")

    @property
    def scale(self) -> float:
        """99th percentile of the low-resolution image in the mask: 1 in the network's intensity."""
        return float(np.percentile(self.lowres[self.mask > 0], 99))

    @property
    def gain(self) -> float:
        """Factor that brings the high- to the low-resolution image's intensity: least squares in the mask after B."""
        seen = downsample(self.highres, self.lowres.shape)
        inside = self.mask > 0
        a, b = seen[inside].astype(np.float64), self.lowres[inside].astype(np.float64)
        return float(a @ b / (a @ a))

    @property
    def highres_mask(self) -> Array:
        """The mask on the high-resolution grid."""
        return upsample("nearest", (self.mask > 0).astype(np.float32), self.factor) > 0.5

    def checksums(self) -> dict[str, str]:
        """SHA-256 of the arrays as float32."""
        arrays = {"lowres": self.lowres, "highres": self.highres, "mask": self.mask > 0}
        return {name: float32_checksum(image) for name, image in arrays.items()}

    def described(self) -> dict[str, object]:
        """What the card says of the pair."""
        return image_entries(self.lowres, self.mask, self.lowres_affine, self.factor) | {
            "contrast": self.contrast, "data_sha256": self.checksums(),
            "intensity": {
                "scale": self.scale, "highres_gain": self.gain,
                "rule": "99th percentile of the low-resolution image in the mask is 1",
            },
        }  # fmt: skip

    def usable_slices(self) -> tuple[int, ...]:
        """Slices of which at least 2 % is mask; at least two must be left."""
        part = (self.mask > 0).mean((0, 1))
        out = tuple(int(z) for z in np.flatnonzero(part >= 0.02))
        if len(out) < 2:
            raise PairError(f"only {len(out)} slices of the pair show enough of the head to train on")
        return out
