"""Segmentation of gray matter, white matter and CSF by ANTs' Atropos.

attention-unet segments the three contrasts together by Gaussian clustering and
expectation-maximization, with FSL FAST for the masks of its quality measures. Atropos fits the
same model (one Gaussian per tissue and a Markov random field, for any number of contrasts). It
needs neither other programs nor a template, which would bias every segmentation towards one head.
The settings are ANTs' defaults for brains.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.nifti import load_image
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import image_name, run_program, to_ants

if TYPE_CHECKING:
    from ants.core.ants_image import ANTsImage

TISSUES = ("gm", "wm", "csf")
"""Gray matter, white matter and cerebrospinal fluid."""
# tissues from dark to bright; the first available contrast orders the classes of Atropos
_TISSUES_BY_BRIGHTNESS = {
    "T1w": ("csf", "gm", "wm"),
    "T2w": ("wm", "gm", "csf"),
    "FLAIR": ("csf", "wm", "gm"),
}


def segment_tissues(
    contrasts: Mapping[str, Array], mask: Array, affine: Array, *, seed: int = 0
) -> dict[str, Array]:
    """Segment gray matter, white matter and CSF with Atropos.

    Parameters
    ----------
    contrasts : Mapping[str, Array]
        At least one bias-corrected image by suffix (T1w, T2w, FLAIR), all on one grid (X, Y, Z).
        Classes are identified by their brightness in the first available contrast of this list.
    mask : Array
        Brain voxels on that grid (X, Y, Z; boolean).
    affine : Array
        Voxel-to-world matrix of the grid (4 x 4, RAS+ mm).
    seed : int, optional
        Seed of ANTs; the same seed gives identical results.

    Returns
    -------
    dict[str, Array]
        Probability of ``gm``, ``wm`` and ``csf`` in each voxel (X, Y, Z; float32); the sum is 1 in
        the mask and 0 outside.

    Raises
    ------
    RuntimeError
        Atropos failed.
    """
    available_contrasts = [name for name in _TISSUES_BY_BRIGHTNESS if name in contrasts]
    brain = np.asarray(mask, dtype=bool)
    images = [
        to_ants(Volume(data=_scale_to_thousand(contrasts[name], brain), affine=affine), seed)
        for name in available_contrasts
    ]
    mask_image = to_ants(Volume(data=brain, affine=affine), seed).clone("unsigned int")
    probabilities = _run_atropos(images, mask_image)
    brightness = np.asarray(contrasts[available_contrasts[0]], dtype=np.float64)
    means = [
        float((probability * brightness).sum() / max(float(probability.sum()), 1e-9))
        for probability in probabilities
    ]
    probability_sum = np.maximum(probabilities.sum(axis=0), 1e-6)
    class_numbers = dict(
        zip(_TISSUES_BY_BRIGHTNESS[available_contrasts[0]], np.argsort(means), strict=True)
    )
    return {
        name: np.where(brain, probabilities[class_numbers[name]] / probability_sum, 0).astype(
            np.float32
        )
        for name in TISSUES
    }


def _scale_to_thousand(image: Array, mask: Array) -> Array:
    """Scale an image so that its 99th percentile in the mask is 1000.

    For small intensities, Atropos considers the covariances to be singular.
    """
    percentile_99 = float(np.percentile(np.abs(image[mask]), 99))
    return np.asarray(
        image * (1000 / percentile_99) if percentile_99 > 0 else image, dtype=np.float32
    )


def _run_atropos(images: "Sequence[ANTsImage]", mask_image: "ANTsImage") -> Array:
    """Return the probability of each class of Atropos (3, X, Y, Z; float32), in any order."""
    labels = images[0].clone("unsigned int")
    with tempfile.TemporaryDirectory(prefix="tissues") as folder:
        arguments = ["-d", "3", "-x", image_name(mask_image), "-i", "KMeans[3]", "-r", "0"]
        for image in images:
            arguments += ["-a", image_name(image)]
        # weight of the Markov random field over the 26 neighbors; number of iterations
        arguments += ["-m", "[0.1,1x1x1]", "-c", "[10,0]"]
        arguments += ["-o", f"[{image_name(labels)},{folder}/tissue%02d.nii]"]
        run_program("Atropos", arguments)
        paths = sorted(Path(folder).glob("tissue*.nii"))
        if len(paths) != 3:
            raise RuntimeError(f"Atropos found {len(paths)} tissue classes; expected 3")
        return np.stack([np.asarray(load_image(path)[0], dtype=np.float32) for path in paths])


def tissue_masks(probabilities: Mapping[str, Array]) -> dict[str, Array]:
    """Return the most probable tissue of each voxel as one mask per tissue.

    Tissues are ``gm``, ``wm`` and ``csf``. Probability maps and masks (boolean) are 3D. Voxels
    with a probability of 0 for all tissues belong to none.
    """
    probability_maps = np.stack([probabilities[name] for name in TISSUES])
    most_probable = probability_maps.argmax(axis=0)
    return {
        name: (most_probable == number) & (probability_maps.sum(axis=0) > 0)
        for number, name in enumerate(TISSUES)
    }
