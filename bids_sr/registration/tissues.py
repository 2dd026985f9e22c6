"""Segmentation of gray matter, white matter and CSF by ANTs' Atropos or a mixture model.

Atropos provides tissue volumes and masks, the faster mixture model confounds.

attention-unet segments the three contrasts together by Gaussian clustering and
expectation-maximization, with FSL FAST for the masks of its quality measures. Atropos fits the
same model (one Gaussian per tissue and a Markov random field, for any number of contrasts). It
needs neither other programs nor a template, which would bias every segmentation towards one head.
The settings are ANTs' defaults for brains.

The mixture model has one Gaussian per tissue and mixing weights from the template's tissue maps.
In each round of expectation-maximization the posteriors are averaged over neighbors and enter the
next round as a further factor, a mean-field Markov random field. The model is fast and
deterministic, and intended for confounds and reports, not for volumetry.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.io.nifti import load_image
from bids_sr.io.volume import Volume
from bids_sr.registration.ants import named, run_program, to_ants

NAMES = ("gm", "wm", "csf")
# tissues from dark to bright; the first available contrast orders the classes of Atropos
_ORDER = {"T1w": ("csf", "gm", "wm"), "T2w": ("wm", "gm", "csf"), "FLAIR": ("csf", "wm", "gm")}


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
    ValueError
        A contrast is not supported, or the mask is empty or not on the grid of the images.
    RuntimeError
        Atropos failed.
    """
    available = [name for name in _ORDER if name in contrasts]
    inside = np.asarray(mask, dtype=bool)
    if not available or len(available) < len(contrasts):
        raise ValueError(
            f"tissues can be segmented from the contrasts {', '.join(_ORDER)}; got"
            f" {', '.join(contrasts) or 'no contrast'}"
        )
    if any(contrasts[name].shape != inside.shape for name in available) or not inside.any():
        raise ValueError(
            f"the brain mask with shape {inside.shape} is empty or is not on the grid of"
            " the images"
        )
    images = [
        to_ants(Volume(data=_in_thousands(contrasts[name], inside), affine=affine), seed)
        for name in available
    ]
    mask_image = to_ants(Volume(data=inside, affine=affine), seed).clone("unsigned int")
    labels = images[0].clone("unsigned int")
    with tempfile.TemporaryDirectory(prefix="tissues") as folder:
        arguments = ["-d", "3", "-x", named(mask_image), "-i", "KMeans[3]", "-r", "0"]
        for image in images:
            arguments += ["-a", named(image)]
        # weight of the Markov random field over the 26 neighbors; number of iterations
        arguments += ["-m", "[0.1,1x1x1]", "-c", "[10,0]"]
        arguments += ["-o", f"[{named(labels)},{folder}/tissue%02d.nii]"]
        run_program("Atropos", arguments)
        paths = sorted(Path(folder).glob("tissue*.nii"))
        if len(paths) != 3:
            raise RuntimeError(f"Atropos found {len(paths)} tissue classes; expected 3")
        probabilities = np.stack(
            [np.asarray(load_image(path)[0], dtype=np.float32) for path in paths]
        )
    brightness = np.asarray(contrasts[available[0]], dtype=np.float64)
    means = [
        float((probability * brightness).sum() / max(float(probability.sum()), 1e-9))
        for probability in probabilities
    ]
    total = np.maximum(probabilities.sum(axis=0), 1e-6)
    ordered = dict(zip(_ORDER[available[0]], np.argsort(means), strict=True))
    return {
        name: np.where(inside, probabilities[ordered[name]] / total, 0).astype(np.float32)
        for name in NAMES
    }


def _in_thousands(image: Array, inside: Array) -> Array:
    """Scale an image so that its 99th percentile in the mask is 1000.

    For small intensities, Atropos considers the covariances to be singular.
    """
    top = float(np.percentile(np.abs(image[inside]), 99))
    return np.asarray(image * (1000 / top) if top > 0 else image, dtype=np.float32)


def tissue_masks(probabilities: Mapping[str, Array]) -> dict[str, Array]:
    """Return the most probable tissue of each voxel as one mask per tissue.

    Parameters
    ----------
    probabilities : Mapping[str, Array]
        Probability maps of ``gm``, ``wm`` and ``csf`` (3D).

    Returns
    -------
    dict[str, Array]
        Voxels by tissue (3D, boolean). Voxels with a probability of 0 for all tissues belong to
        none.
    """
    stack = np.stack([probabilities[name] for name in NAMES])
    winner = stack.argmax(axis=0)
    return {name: (winner == k) & (stack.sum(axis=0) > 0) for k, name in enumerate(NAMES)}


_SAMPLE = 200_000  # voxels to which the mixture is fitted before neighbors are included
_ROUNDS = 20  # rounds of expectation-maximization
_FIELD_ROUNDS = 4  # rounds with neighbors
# starting means of GM, WM and CSF relative to the 95th percentile, without priors
_START = np.array([0.62, 0.95, 0.22])


def tissue_probabilities(volume: Array, mask: Array, priors: Array | None = None) -> Array:
    """Segment gray matter, white matter and CSF of a T1w image with a mixture model.

    Parameters
    ----------
    volume : Array
        Bias-corrected T1w image (X, Y, Z).
    mask : Array
        Brain voxels (X, Y, Z).
    priors : Array | None, optional
        Probability of GM, WM and CSF on the same grid, in any scale (3, X, Y, Z); None uses equal
        priors.

    Returns
    -------
    Array
        Posterior probability of GM, WM and CSF (3, X, Y, Z; float32); the sum is 1 in the mask and
        0 outside.

    Raises
    ------
    ValueError
        The brain mask is empty, or the image has no signal in the mask.

    References
    ----------
    Ashburner and Friston 2005 (mixture with deformed priors); Zhang et al. 2001 (Markov random
    field).
    """
    inside = np.asarray(mask, dtype=bool)
    voxels = np.argwhere(inside)
    if not len(voxels):
        raise ValueError("the brain mask of the T1w image is empty")
    box = tuple(
        slice(low, high + 1)
        for low, high in zip(voxels.min(axis=0), voxels.max(axis=0), strict=True)
    )
    mask = inside[box]
    x = np.asarray(volume[box], dtype=np.float32)[mask]
    scale = float(np.percentile(x, 95))
    if not scale > 0:
        raise ValueError("the T1w image is zero everywhere inside its brain mask")
    x /= scale
    if priors is None:
        weights = np.full((3, x.size), 1 / 3, dtype=np.float32)
        means = _START.copy()
    else:
        weights = np.asarray(priors[(slice(None), *box)], dtype=np.float32)[:, mask] + np.float32(
            0.02
        )
        weights /= weights.sum(axis=0)
        means = np.array([_robust_mean(x, w) for w in weights])
    model = (means, np.full(3, 0.12))
    subset = slice(None, None, max(1, x.size // _SAMPLE))
    for _ in range(_ROUNDS):
        model = _maximize(x[subset], _expect(x[subset], weights[:, subset], model))
    posterior = _expect(x, weights, model)
    for _ in range(_FIELD_ROUNDS):
        field = _neighborhood(posterior, mask) + np.float32(0.05)
        posterior = _expect(x, weights * field, model)
        model = _maximize(x, posterior)
    out = np.zeros((3, *inside.shape), dtype=np.float32)
    cropped = np.zeros((3, *mask.shape), dtype=np.float32)
    cropped[:, mask] = posterior
    out[(slice(None), *box)] = cropped
    return out


def _expect(x: Array, weights: Array, model: tuple[Array, Array]) -> Array:
    """Return posteriors (3, N) of voxels with intensities x (N,) under mixing weights (3, N)."""
    means, deviations = (np.asarray(part, dtype=np.float32)[:, None] for part in model)
    likelihood = np.exp(-0.5 * ((x - means) / deviations) ** 2) / deviations
    # voxels darker than CSF belong to no other tissue
    likelihood[2, x < means[2]] = 1 / deviations[2, 0]
    posterior = likelihood * weights + np.float32(1e-12)
    return posterior / posterior.sum(axis=0)


def _maximize(x: Array, posterior: Array) -> tuple[Array, Array]:
    """Return means and standard deviations of the tissues.

    The standard deviations are bounded so that no tissue collapses.
    """
    mass = posterior.sum(axis=1, dtype=np.float64) + 1e-9
    # summed by numpy because a dot product depends on the processor
    means = np.asarray([(p * x).sum(dtype=np.float64) for p in posterior]) / mass
    squares = [
        (p * (x - np.float32(m)) ** 2).sum(dtype=np.float64)
        for p, m in zip(posterior, means, strict=True)
    ]
    spread = np.asarray(squares) / mass
    return means, np.clip(np.sqrt(spread), 0.04, 0.25)


def _robust_mean(x: Array, weights: Array) -> float:
    """Return the median of voxels with a clear prior, or the weighted mean if these are few."""
    clear = weights > 0.7
    return (
        float(np.median(x[clear]))
        if clear.sum() > 50
        else float((weights * x).sum() / weights.sum())
    )


def _neighborhood(posterior: Array, mask: Array) -> Array:
    """Average the posteriors over the 26 neighbors and the voxel itself, within the mask."""
    out = np.empty_like(posterior)
    grid = np.zeros(mask.shape, dtype=np.float32)
    share = np.maximum(ndimage.uniform_filter(mask.astype(np.float32), 3)[mask], 1e-3)
    for k in range(posterior.shape[0]):
        grid[mask] = posterior[k]
        out[k] = ndimage.uniform_filter(grid, 3)[mask] / share
    return out


def segmentation(probabilities: Array) -> Array:
    """Return tissue labels with BIDS numbers: 0 outside, 1 GM, 2 WM, 3 CSF.

    Parameters
    ----------
    probabilities : Array
        Posterior probability of GM, WM and CSF (3, X, Y, Z).

    Returns
    -------
    Array
        Label of the most probable tissue in each voxel (X, Y, Z; uint8).
    """
    labels = probabilities.argmax(axis=0) + 1
    labels[probabilities.sum(axis=0) <= 0] = 0
    return np.asarray(labels, dtype=np.uint8)
