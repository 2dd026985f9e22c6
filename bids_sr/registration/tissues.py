"""Segmentation of gray matter, white matter and CSF by ANTs' Atropos or a mixture.

Atropos serves volumes and masks, the faster mixture model serves confounds.

attention-unet segments the three contrasts together by Gaussian clustering and
expectation-maximization, with FSL-FAST for the masks of its quality measures; Atropos is the same
model (a Gaussian a tissue and a Markov random field, over any number of contrasts), needs no
binaries, and no template, which would pull every image towards one head. Settings are ANTs' own
for brains.

The mixture has one Gaussian a tissue and mixing weights from the template's tissue maps; each
round of expectation-maximization the posteriors are averaged over neighbors and enter the next as
a further factor: a Markov random field, mean-field. Quick and deterministic; meant for confound
signals and reports, not for volumetry.
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
# from dark to bright; the first contrast that is there orders the classes that Atropos finds
_ORDER = {"T1w": ("csf", "gm", "wm"), "T2w": ("wm", "gm", "csf"), "FLAIR": ("csf", "wm", "gm")}


def segment_tissues(
    contrasts: Mapping[str, Array], mask: Array, affine: Array, *, seed: int = 0
) -> dict[str, Array]:
    """Return gm, wm and csf probabilities, float32 (X, Y, Z); sum 1 in the mask, 0 outside.

    Parameters
    ----------
    contrasts : Mapping[str, Array]
        (X, Y, Z) by suffix (T1w, T2w, FLAIR), bias corrected, on one grid; at least one. The
        classes are told by their brightness in the first of these that is there.
    mask, affine : Array
        Brain on that grid, voxel -> RAS mm.
    seed : int, optional
        Of ANTs; the same one gives the same bits.

    Returns
    -------
    dict[str, Array]
        Probability at each voxel by tissue: ``gm``, ``wm`` and ``csf``.

    Raises
    ------
    ValueError : no contrast that is known, or images that do not lie on the mask's grid;
        RuntimeError : Atropos failed
    """
    known = [name for name in _ORDER if name in contrasts]
    inside = np.asarray(mask, dtype=bool)
    if not known or len(known) < len(contrasts):
        raise ValueError(
            f"tissues can be segmented from the contrasts {', '.join(_ORDER)}; got"
            f" {', '.join(contrasts) or 'no contrast'}"
        )
    if any(contrasts[name].shape != inside.shape for name in known) or not inside.any():
        raise ValueError(
            f"the brain mask with shape {inside.shape} is empty or is not on the grid of"
            " the images"
        )
    images = [
        to_ants(Volume(data=_in_thousands(contrasts[name], inside), affine=affine), seed)
        for name in known
    ]
    where = to_ants(Volume(data=inside, affine=affine), seed).clone("unsigned int")
    labels = images[0].clone("unsigned int")
    with tempfile.TemporaryDirectory(prefix="tissues") as folder:
        arguments = ["-d", "3", "-x", named(where), "-i", "KMeans[3]", "-r", "0"]
        for image in images:
            arguments += ["-a", named(image)]
        # weight of the Markov random field over the 26 neighbors; rounds of
        # expectation-maximization
        arguments += ["-m", "[0.1,1x1x1]", "-c", "[10,0]"]
        arguments += ["-o", f"[{named(labels)},{folder}/tissue%02d.nii]"]
        run_program("Atropos", arguments)
        found = sorted(Path(folder).glob("tissue*.nii"))
        if len(found) != 3:
            raise RuntimeError(f"Atropos found {len(found)} tissue classes; expected 3")
        parts = np.stack([np.asarray(load_image(path)[0], dtype=np.float32) for path in found])
    first = np.asarray(contrasts[known[0]], dtype=np.float64)
    means = [float((part * first).sum() / max(float(part.sum()), 1e-9)) for part in parts]
    total = np.maximum(parts.sum(axis=0), 1e-6)
    ordered = dict(zip(_ORDER[known[0]], np.argsort(means), strict=True))
    return {
        name: np.where(inside, parts[ordered[name]] / total, 0).astype(np.float32)
        for name in NAMES
    }


def _in_thousands(image: Array, inside: Array) -> Array:
    """Scale an image so that its 99th percentile in the mask is 1000.

    Atropos takes covariances of small numbers for singular.
    """
    top = float(np.percentile(np.abs(image[inside]), 99))
    return np.asarray(image * (1000 / top) if top > 0 else image, dtype=np.float32)


def tissue_masks(probabilities: Mapping[str, Array]) -> dict[str, Array]:
    """The most probable tissue of each voxel, as one mask a tissue.

    Voxels by tissue (3D, boolean), none where all probabilities are 0.
    """
    stack = np.stack([probabilities[name] for name in NAMES])
    winner = stack.argmax(axis=0)
    return {name: (winner == k) & (stack.sum(axis=0) > 0) for k, name in enumerate(NAMES)}


_SAMPLE = 200_000  # voxels that the mixture is fitted to before neighbors count
_ROUNDS = 20  # of expectation-maximization
_FIELD_ROUNDS = 4  # with neighbors
# GM, WM, CSF in units of the 95th percentile, where no prior says more
_START = np.array([0.62, 0.95, 0.22])


def tissue_probabilities(volume: Array, mask: Array, priors: Array | None = None) -> Array:
    """Return GM, WM and CSF posteriors, float32 (3, X, Y, Z); sum 1 inside the mask, else 0.

    Source: Ashburner and Friston 2005 (mixture with deformed priors), Zhang et al. 2001 (Markov
    random field).

    Parameters
    ----------
    volume, mask : Array
        (X, Y, Z) T1w, bias corrected, and its brain; ValueError where there is no signal or no
        voxel.
    priors : Array | None, optional
        (3, X, Y, Z) of GM, WM, CSF on the same grid, any scale; None: no spatial prior.

    Returns
    -------
    Array
        Posterior of each tissue at each voxel of the whole grid.

    Raises
    ------
    ValueError
        The brain mask is empty, or the image has no signal in it.
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
    some = slice(None, None, max(1, x.size // _SAMPLE))
    for _ in range(_ROUNDS):
        model = _maximize(x[some], _expect(x[some], weights[:, some], model))
    posterior = _expect(x, weights, model)
    for _ in range(_FIELD_ROUNDS):
        field = _neighborhood(posterior, mask) + np.float32(0.05)
        posterior = _expect(x, weights * field, model)
        model = _maximize(x, posterior)
    out = np.zeros((3, *inside.shape), dtype=np.float32)
    part = np.zeros((3, *mask.shape), dtype=np.float32)
    part[:, mask] = posterior
    out[(slice(None), *box)] = part
    return out


def _expect(x: Array, weights: Array, model: tuple[Array, Array]) -> Array:
    """Posteriors (3, N) of voxels with intensities x under mixing weights (3, N)."""
    means, deviations = (np.asarray(part, dtype=np.float32)[:, None] for part in model)
    likelihood = np.exp(-0.5 * ((x - means) / deviations) ** 2) / deviations
    likelihood[2, x < means[2]] = 1 / deviations[2, 0]  # darker than CSF is no other tissue
    posterior = likelihood * weights + np.float32(1e-12)
    return posterior / posterior.sum(axis=0)


def _maximize(x: Array, posterior: Array) -> tuple[Array, Array]:
    """Return means and standard deviations of the tissues.

    The standard deviations are bounded so that none of the three tissues collapses.
    """
    mass = posterior.sum(axis=1, dtype=np.float64) + 1e-9
    # summed by numpy, as a dot product depends on the processor
    means = np.asarray([(p * x).sum(dtype=np.float64) for p in posterior]) / mass
    squares = [
        (p * (x - np.float32(m)) ** 2).sum(dtype=np.float64)
        for p, m in zip(posterior, means, strict=True)
    ]
    spread = np.asarray(squares) / mass
    return means, np.clip(np.sqrt(spread), 0.04, 0.25)


def _robust_mean(x: Array, weights: Array) -> float:
    """Return the mean where a tissue's prior is clear, else its weighted mean."""
    clear = weights > 0.7
    return (
        float(np.median(x[clear]))
        if clear.sum() > 50
        else float((weights * x).sum() / weights.sum())
    )


def _neighborhood(posterior: Array, mask: Array) -> Array:
    """Mean posterior of the 26 neighbors and the voxel itself."""
    out = np.empty_like(posterior)
    grid = np.zeros(mask.shape, dtype=np.float32)
    share = np.maximum(ndimage.uniform_filter(mask.astype(np.float32), 3)[mask], 1e-3)
    for k in range(posterior.shape[0]):
        grid[mask] = posterior[k]
        out[k] = ndimage.uniform_filter(grid, 3)[mask] / share
    return out


def segmentation(probabilities: Array) -> Array:
    """Return labels as BIDS numbers them: 0 outside, 1 GM, 2 WM, 3 CSF (uint8).

    `probabilities`: posterior of gray matter, white matter and CSF (3, X, Y, Z). Label of the most
    probable tissue at each voxel (X, Y, Z).
    """
    labels = probabilities.argmax(axis=0) + 1
    labels[probabilities.sum(axis=0) <= 0] = 0
    return np.asarray(labels, dtype=np.uint8)
