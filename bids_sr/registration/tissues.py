"""Gray matter, white matter and CSF by ANTs' Atropos, for volumes and masks of structural images.

attention-unet segments the three contrasts together by Gaussian clustering and expectation-maximization, with FSL-FAST
for the masks of its quality measures; Atropos is the same model (a Gaussian a tissue and a Markov random field, over
any number of contrasts), needs no binaries, and no template, which would pull every image towards one head. Settings
are ANTs' own for brains. The quick mixture of `bids_sr.spatial.tissue_mixture` serves confounds, not volumetry.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bids_sr.io.array_types import Array
from bids_sr.io.nifti import load_image
from bids_sr.registration.ants import Image, load_ants, to_ants

NAMES = ("gm", "wm", "csf")
# from dark to bright; the first contrast that is there orders the classes that Atropos finds
_ORDER = {"T1w": ("csf", "gm", "wm"), "T2w": ("wm", "gm", "csf"), "FLAIR": ("csf", "wm", "gm")}


def segment_tissues(contrasts: Mapping[str, Array], mask: Array, affine: Array, *, seed: int = 0) -> dict[str, Array]:
    """Probability of each tissue: gm, wm and csf, float32 (X, Y, Z), whose sum is 1 in the mask and 0 outside.

    Raises ValueError: no contrast that is known, or images that do not lie on the mask's grid; RuntimeError: Atropos
    failed.

    Parameters
    ----------
    contrasts : (X, Y, Z) by suffix (T1w, T2w, FLAIR), bias corrected, on one grid; at least one. The classes are told
        by their brightness in the first of these that is there
    mask, affine : brain on that grid, voxel -> RAS mm
    """
    known = [name for name in _ORDER if name in contrasts]
    inside = np.asarray(mask, dtype=bool)
    if not known or len(known) < len(contrasts):
        raise ValueError(f"tissues are told from {', '.join(_ORDER)}, not from {', '.join(contrasts) or 'nothing'}")
    if any(contrasts[name].shape != inside.shape for name in known) or not inside.any():
        raise ValueError(f"the brain mask {inside.shape} is empty or on another grid than the images")
    ants = load_ants(seed)
    from ants.internal import get_lib_fn, get_pointer_string, process_arguments

    images = [to_ants(Image(data=_in_thousands(contrasts[name], inside), affine=affine), seed) for name in known]
    where = to_ants(Image(data=inside, affine=affine), seed).clone("unsigned int")
    labels = images[0].clone("unsigned int")
    with tempfile.TemporaryDirectory(prefix="tissues") as folder:
        arguments = ["-d", "3", "-x", get_pointer_string(where), "-i", "KMeans[3]", "-r", "0"]
        for image in images:
            arguments += ["-a", get_pointer_string(image)]
        # weight of the Markov random field over the 26 neighbors; rounds of expectation-maximization
        arguments += ["-m", "[0.1,1x1x1]", "-c", "[10,0]"]
        arguments += ["-o", f"[{get_pointer_string(labels)},{folder}/tissue%02d.nii]"]
        code = get_lib_fn("Atropos")(process_arguments(arguments))
        found = sorted(Path(folder).glob("tissue*.nii"))
        if code != 0 or len(found) != 3:
            raise RuntimeError(f"Atropos failed with code {code} and {len(found)} tissues ({ants.__version__})")
        parts = np.stack([np.asarray(load_image(path)[0], dtype=np.float32) for path in found])
    first = np.asarray(contrasts[known[0]], dtype=np.float64)
    means = [float((part * first).sum() / max(float(part.sum()), 1e-9)) for part in parts]
    total = np.maximum(parts.sum(axis=0), 1e-6)
    ordered = dict(zip(_ORDER[known[0]], np.argsort(means), strict=True))
    return {name: np.where(inside, parts[ordered[name]] / total, 0).astype(np.float32) for name in NAMES}


def _in_thousands(image: Array, inside: Array) -> Array:
    """An image whose 99th percentile in the mask is 1000: Atropos takes covariances of small numbers for singular."""
    top = float(np.percentile(np.abs(image[inside]), 99))
    return np.asarray(image * (1000 / top) if top > 0 else image, dtype=np.float32)


def tissue_masks(probabilities: Mapping[str, Array]) -> dict[str, Array]:
    """The most probable tissue of each voxel, as one mask a tissue."""
    stack = np.stack([probabilities[name] for name in NAMES])
    winner = stack.argmax(axis=0)
    return {name: (winner == k) & (stack.sum(axis=0) > 0) for k, name in enumerate(NAMES)}
