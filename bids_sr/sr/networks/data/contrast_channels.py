"""Images of several contrasts of one head as channels: scaling, names and training images.

Source: attention_unet, sections 3.1 and 3.2.
"""

from collections.abc import Sequence

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.sr.networks.data.images import TrainingImage

# percentile of brain intensities that becomes 1; the maximum would depend on single bright vessels
_TOP_PERCENTILE = 99.9


def unit_range(image: Array, mask: Array) -> tuple[Array, float]:
    """Scale an image to [0, 1], with 0 outside the mask, and return it with its scale.

    The 99.9th percentile within the mask becomes 1 (our choice). See attention_unet, section 3.1,
    for the scaling.

    Image and brain mask are (X, Y, Z); the scale is the intensity that became 1. Raises
    `ValueError` if there is no positive intensity within the mask.
    """
    is_inside = np.asarray(mask) > 0
    scale = float(np.percentile(image[is_inside], _TOP_PERCENTILE)) if is_inside.any() else 0.0
    if not np.isfinite(scale) or scale <= 0:
        raise ValueError("the image has no positive intensities within the brain mask")
    scaled_image = np.where(is_inside, np.clip(image / np.float32(scale), 0, 1), 0)
    return scaled_image.astype(np.float32), scale


def contrast_image(
    fine: Array, coarse: Array, mask: Array, affine: Array, contrasts: Sequence[str], name: str
) -> TrainingImage:
    """Return the training image of one head.

    `fine` and `coarse` are the high- and low-resolution images with contrasts as channels (C, X,
    Y, Z), from 0 to 1. Both are on the high-resolution grid, as the brain mask (X, Y, Z), with
    voxel-to-world matrix `affine` (4 x 4, RAS+ mm). `contrasts` are the BIDS suffixes of the
    channels, and `name` is the name of the head for the card.
    """
    return TrainingImage(
        fine=np.asarray(fine, np.float32),
        coarse=np.asarray(coarse, np.float32),
        mask=mask,
        affine=affine,
        contrast=joined_contrasts(contrasts),
        name=name,
    )


def joined_contrasts(contrasts: Sequence[str]) -> str:
    """Return the names of contrasts as a single name, in channel order."""
    return "+".join(contrasts)
