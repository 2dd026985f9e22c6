"""Segmentation of CSF, veins and sinuses, pial layer and brain from T1w, T2w and FLAIR.

Source: attention-unet, section 3.8.2: Gaussian clustering of the three contrasts, optimized by
expectation-maximization. The paper describes the classes by their intensities. CSF is dark in T1w
and FLAIR and bright in T2w. Veins and sinuses are dark in T2w and have low to medium intensity
otherwise. The pial layer, with partial volumes of brain and CSF, is dark in T1w and bright in T2w
and FLAIR. Gray and white matter have medium intensity.

These descriptions are the starting means here, in standard deviations of the brain, and a weak
prior on the means, which counts for as many voxels as the fraction `_PRIOR` of the image. Without
a prior, classes of few voxels drift into the brain. The paper reports neither starting values nor
software.

Means, covariances and weights of the classes are fitted once per head, to the measured scans, and
are then applied to all series of the head. If they were fitted to each series, the same
intensity would belong to different classes in different series, and volumes would depend on the
fit: in smooth images, few voxels have the mean of a small class, and its component moves to
another tissue.

The classes are fitted in the brain mask. Sinuses are in the dura, outside this mask, so veins are
also searched in a wider, intracranial mask. The skull, which begins there, is as dark as the
background in all three contrasts, and the fat of its marrow is bright in T1w. Both have separate
components there and belong to no class.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array

CONTRASTS = ("T1w", "T2w", "FLAIR")
"""Required contrasts in the order of the array."""
CLASSES = ("csfSpaces", "veins", "pial", "brainTissue")
"""Classes; csfSpaces differs from the tissue class csf of the three-class segmentation."""
# class of each component, and its starting means in T1w, T2w and FLAIR; in robust standard
# deviations from the median of the brain
_STARTS = (
    ("csfSpaces", (-2.0, 2.0, -2.0)),
    ("veins", (-1.0, -2.0, -0.75)),
    ("pial", (-1.5, 1.5, 1.0)),
    ("brainTissue", (0.0, 0.0, 0.25)),
    ("brainTissue", (0.75, -0.5, -0.25)),
)
_WEIGHTS = (0.12, 0.03, 0.08, 0.42, 0.35)
_PRIOR = 0.02  # weight of the prior on a mean, as a fraction of the image's voxels
# weight of the prior around the brain; a larger weight keeps the means closer to the brain's means
_PRIOR_AROUND = 0.1
_MARROW = (2.5, 1.0, 1.0)  # standard deviations of the brain, mean of fat in the skull
_Mixture = tuple[Array, Array, Array]
"""Means, covariances and weights of components."""
_FLOOR = 0.05  # squared standard deviations of the brain, added to the variances
_ROUNDS = 25
_SAMPLE = 100_000  # voxels to which the mixture is fitted


@frozen
class ClassModel:
    """Intensities of the classes in one head.

    Attributes
    ----------
    scales : tuple[tuple[float, float], ...]
        Median and robust standard deviation of each contrast in the brain.
    brain : _Mixture
        Components in the brain, in these standard deviations from the median.
    around : _Mixture | None
        Components around the brain; None if veins are only searched in the brain.
    """

    scales: tuple[tuple[float, float], ...]
    brain: _Mixture
    around: _Mixture | None


def fit_classes(
    scans: Mapping[str, Array], mask: Array, intracranial: Array | None = None
) -> ClassModel:
    """Fit the intensities of the classes to the scans of a head.

    Parameters
    ----------
    scans : Mapping[str, Array]
        Bias-corrected T1w, T2w and FLAIR on one grid (3D).
    mask : Array
        Brain voxels (3D, boolean).
    intracranial : Array | None, optional
        Further voxels that are searched for veins (3D, boolean); None searches only the brain.

    Raises
    ------
    ValueError
        A contrast is missing, the mask is empty or on another grid, or a scan is constant.
    """
    inside = _check_mask(scans, mask)
    scales = tuple(_scale(np.asarray(scans[name])[inside], name) for name in CONTRASTS)
    sample = _select_sample(_standardize(scans, inside, scales))
    starts = np.array([start for _, start in _STARTS])
    mixture = _fit_mixture(sample, starts, np.array(_WEIGHTS), _PRIOR)
    rim = _select_rim(inside, intracranial)
    rim_model = _fit_around(scans, rim, scales, mixture) if rim.any() else None
    return ClassModel(scales=scales, brain=mixture, around=rim_model)


def segment_multispectral(
    scans: Mapping[str, Array],
    mask: Array,
    intracranial: Array | None = None,
    *,
    model: ClassModel | None = None,
) -> dict[str, Array]:
    """Return the most probable class of each voxel as one mask per class.

    Parameters
    ----------
    scans : Mapping[str, Array]
        Bias-corrected T1w, T2w and FLAIR on one grid (3D).
    mask : Array
        Brain voxels (3D, boolean).
    intracranial : Array | None, optional
        Further voxels that are searched for veins (3D, boolean); None searches only the brain.
    model : ClassModel | None, optional
        Intensities of the classes, fitted to scans of the same head in the same units; None fits
        them to `scans`.

    Returns
    -------
    dict[str, Array]
        Voxels (3D, boolean) by class (`CLASSES`). Each voxel of the mask is in one class; voxels
        around the mask are veins or in no class.

    Raises
    ------
    ValueError
        A contrast is missing, the mask is empty or on another grid, or a scan is constant.
    """
    inside = _check_mask(scans, mask)
    model = model or fit_classes(scans, mask, intracranial)
    x = _standardize(scans, inside, model.scales)
    component = _posterior(x, *model.brain).argmax(axis=1)
    masks = {}
    for name in CLASSES:
        numbers = [k for k, (label, _) in enumerate(_STARTS) if label == name]
        voxels = np.zeros(inside.shape, dtype=bool)
        voxels[inside] = np.isin(component, numbers)
        masks[name] = voxels
    rim = _select_rim(inside, intracranial)
    if model.around is not None and rim.any():
        number = next(k for k, (label, _) in enumerate(_STARTS) if label == "veins")
        x = _standardize(scans, rim, model.scales)
        masks["veins"][rim] = _posterior(x, *model.around).argmax(axis=1) == number
    return masks


def _check_mask(scans: Mapping[str, Array], mask: Array) -> Array:
    """Return the brain voxels (3D, boolean) if all contrasts exist on the grid of the mask."""
    if missing := [name for name in CONTRASTS if name not in scans]:
        raise ValueError(
            "multi-contrast tissue segmentation requires T1w, T2w and FLAIR scans; missing:"
            f" {', '.join(missing)}"
        )
    inside = np.asarray(mask, dtype=bool)
    if not inside.any() or any(scans[name].shape != inside.shape for name in CONTRASTS):
        raise ValueError(
            f"the brain mask with shape {inside.shape} is empty or is not on the grid of the scans"
        )
    return inside


def _select_rim(brain: Array, intracranial: Array | None) -> Array:
    """Return the voxels around the brain that are searched for veins (3D, boolean)."""
    if intracranial is None:
        return np.zeros_like(brain)
    return np.asarray(intracranial, dtype=bool) & ~brain


def _select_sample(x: Array) -> Array:
    """Return at most about `_SAMPLE` evenly spaced voxels (n, contrasts)."""
    return x[:: max(1, len(x) // _SAMPLE)]


def _fit_around(
    scans: Mapping[str, Array],
    rim: Array,
    scales: Sequence[tuple[float, float]],
    mixture: _Mixture,
) -> _Mixture:
    """Fit the components around the brain.

    Parameters
    ----------
    scans : Mapping[str, Array]
        Scans on one grid (3D).
    rim : Array
        Voxels around the brain (3D, boolean).
    scales : Sequence[tuple[float, float]]
        Median and spread of each contrast in the brain.
    mixture : _Mixture
        Components in the brain. Their means serve as a prior, and components of skull and marrow
        are added.
    """
    no_signal = np.clip([-center / spread for center, spread in scales], -8, 8)
    means, covariances, weights = mixture
    return _fit_mixture(
        _select_sample(_standardize(scans, rim, scales)),
        np.vstack([means, 0.9 * no_signal, _MARROW]),
        np.append(0.5 * weights, [0.4, 0.1]),
        _PRIOR_AROUND,
        covariances=covariances,
    )


def _fit_mixture(
    sample: Array,
    starts: Array,
    weights: Array,
    share: float,
    *,
    covariances: Array | None = None,
) -> _Mixture:
    """Fit a mixture by expectation-maximization with a prior on the means.

    Parameters
    ----------
    sample : Array
        Standardized intensities of voxels (n, contrasts).
    starts : Array
        Starting means, which are also the means of the prior (components, contrasts).
    weights : Array
        Starting weights of the components.
    share : float
        Number of voxels for which the prior on each mean counts, as a fraction of the sample.
    covariances : Array | None, optional
        Starting covariances of the first components; None starts from a variance of 0.5.
    """
    means = starts.copy()
    spreads = np.tile(0.5 * np.eye(len(CONTRASTS)), (len(starts), 1, 1))
    if covariances is not None:
        spreads[: len(covariances)] = covariances
    for _ in range(_ROUNDS):
        posterior = _posterior(sample, means, spreads, weights)
        mass = posterior.sum(axis=0) + 1e-9
        prior = share * len(sample)
        means = (posterior.T @ sample + prior * starts) / (mass + prior)[:, None]
        for k in range(len(starts)):
            residuals = sample - means[k]
            spread = (posterior[:, k, None] * residuals).T @ residuals / mass[k]
            spreads[k] = spread + _FLOOR * np.eye(len(CONTRASTS))
        weights = mass / mass.sum()
    return means, spreads, weights


def _scale(values: Array, name: str) -> tuple[float, float]:
    """Return median and robust standard deviation of intensities in the brain."""
    center = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - center))) or float(values.std())
    if not spread > 0:
        raise ValueError(f"the {name} scan has the same value in all voxels of the brain mask")
    return center, spread


def _standardize(
    scans: Mapping[str, Array], voxels: Array, scales: Sequence[tuple[float, float]]
) -> Array:
    """Return intensities in robust standard deviations from the median (n, contrasts)."""
    columns = [
        np.clip((np.asarray(scans[name][voxels], dtype=np.float64) - center) / spread, -8, 8)
        for name, (center, spread) in zip(CONTRASTS, scales, strict=True)
    ]
    return np.stack(columns, axis=1)


def _posterior(x: Array, means: Array, covariances: Array, weights: Array) -> Array:
    """Return the probability of each component at each voxel (n, components)."""
    logs = np.empty((len(x), len(means)))
    for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        whitened = np.linalg.solve(np.linalg.cholesky(covariance), (x - mean).T)
        _, log_volume = np.linalg.slogdet(covariance)
        logs[:, k] = np.log(weights[k]) - 0.5 * (log_volume + (whitened**2).sum(axis=0))
    logs -= logs.max(axis=1, keepdims=True)
    posterior = np.exp(logs)
    return np.asarray(posterior / posterior.sum(axis=1, keepdims=True))
