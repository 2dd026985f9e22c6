"""Segmentation of CSF, veins and sinuses, pial layer and brain from T1w, T2w and FLAIR.

Source: attention-unet, section 3.8.2: Gaussian clustering of the three contrasts, optimized by
expectation-maximization. The paper describes the classes by their intensities. CSF is dark in T1w
and FLAIR and bright in T2w. Veins and sinuses are dark in T2w and have low to medium intensity
otherwise. The pial layer, with partial volumes of brain and CSF, is dark in T1w and bright in T2w
and FLAIR. Gray and white matter have medium intensity.

These descriptions are the starting means here, in standard deviations of the brain, and a weak
prior on the means, which counts for as many voxels as the fraction `_PRIOR_WEIGHT` of the image.
Without a prior, classes of few voxels drift into the brain. The paper reports neither starting
values nor software.

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
from typing import NamedTuple

import numpy as np
from scipy import special

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen

CONTRASTS = ("T1w", "T2w", "FLAIR")
"""Required contrasts in the order of the array."""
CLASSES = ("csfSpaces", "veins", "pial", "brainTissue")
"""Classes; csfSpaces differs from the tissue class csf of the three-class segmentation."""
_START_VARIANCE = 0.5  # squared standard deviations of the brain
_PRIOR_WEIGHT = 0.02  # weight of the prior on a mean, as a fraction of the image's voxels
# weight of the prior around the brain; a larger weight keeps the means closer to the brain's means
_PRIOR_WEIGHT_AROUND = 0.1
_MARROW_MEAN = (2.5, 1.0, 1.0)  # standard deviations of the brain, mean of fat in the skull
_SKULL_SHARE = 0.9  # starting mean of the skull, relative to the intensity without signal
# starting weights around the brain: skull, marrow, and all components of the brain together
_SKULL_WEIGHT, _MARROW_WEIGHT, _BRAIN_WEIGHT = 0.4, 0.1, 0.5
_VARIANCE_FLOOR = 0.05  # squared standard deviations of the brain, added to the variances
_N_ITERATIONS = 25
_MAD_TO_SD = 1.4826  # standard deviation of a normal distribution, per median absolute deviation
_MAX_Z = 8  # robust standard deviations, limit of standardized intensities
_SAMPLE_SIZE = 100_000  # voxels to which the mixture is fitted


class _Mixture(NamedTuple):
    """Parameters of a mixture of normal distributions.

    `means` are (components, contrasts), and `covariances` (components, contrasts, contrasts).
    """

    means: Array
    covariances: Array
    weights: Array


@frozen
class ClassModel:
    """Intensities of the classes in one head.

    `scales` are the median and robust standard deviation of each contrast in the brain. `brain`
    and `around` are the components in the brain and around it, in these standard deviations from
    the median; `around` is None if veins are only searched in the brain.
    """

    scales: tuple[tuple[float, float], ...]
    brain: _Mixture
    around: _Mixture | None


def segment_multispectral(
    scans: Mapping[str, Array],
    mask: Array,
    intracranial: Array | None = None,
    *,
    model: ClassModel | None = None,
) -> dict[str, Array]:
    """Return the most probable class of each voxel as one mask per class.

    `scans` are bias-corrected T1w, T2w and FLAIR on one grid (3D), and masks are boolean (3D).
    Voxels of `intracranial` outside the brain are also searched for veins. `model` was fitted to
    scans of the same head in the same units; None fits the classes to `scans`. Each voxel of the
    mask is in one of the `CLASSES`; voxels around the mask are veins or in no class. Raises
    `ValueError` if a scan is constant.
    """
    inside = np.asarray(mask, dtype=bool)
    model = model or fit_classes(scans, mask, intracranial)
    components = _classify(scans, inside, model.scales, model.brain)
    masks = {}
    for name in CLASSES:
        voxels = np.zeros(inside.shape, dtype=bool)
        voxels[inside] = np.isin(components, _list_components(name))
        masks[name] = voxels
    rim = _select_rim(inside, intracranial)
    if model.around is not None and rim.any():
        rim_components = _classify(scans, rim, model.scales, model.around)
        masks["veins"][rim] = np.isin(rim_components, _list_components("veins"))
    return masks


def fit_classes(
    scans: Mapping[str, Array], mask: Array, intracranial: Array | None = None
) -> ClassModel:
    """Fit the intensities of the classes to the scans of a head.

    The parameters and errors are as in `segment_multispectral`.
    """
    inside = np.asarray(mask, dtype=bool)
    scales = tuple(_measure_scale(np.asarray(scans[name])[inside], name) for name in CONTRASTS)
    sample = _select_sample(_standardize(scans, inside, scales))
    start_means = np.array([component.mean for component in _COMPONENTS])
    start_weights = np.array([component.weight for component in _COMPONENTS])
    mixture = _fit_mixture(sample, start_means, start_weights, _PRIOR_WEIGHT)
    rim = _select_rim(inside, intracranial)
    if not rim.any():
        return ClassModel(scales=scales, brain=mixture, around=None)
    # the components in the brain serve as a prior; skull and marrow are added
    no_signal = np.clip([-center / spread for center, spread in scales], -_MAX_Z, _MAX_Z)
    rim_mixture = _fit_mixture(
        _select_sample(_standardize(scans, rim, scales)),
        np.vstack([mixture.means, _SKULL_SHARE * no_signal, _MARROW_MEAN]),
        np.append(_BRAIN_WEIGHT * mixture.weights, [_SKULL_WEIGHT, _MARROW_WEIGHT]),
        _PRIOR_WEIGHT_AROUND,
        start_covariances=mixture.covariances,
    )
    return ClassModel(scales=scales, brain=mixture, around=rim_mixture)


def _measure_scale(values: Array, name: str) -> tuple[float, float]:
    """Return median and robust standard deviation of intensities in the brain."""
    center = float(np.median(values))
    mad = float(np.median(np.abs(values - center)))
    spread = _MAD_TO_SD * mad or float(values.std())
    if not spread > 0:
        raise ValueError(f"the {name} scan has the same value in all voxels of the brain mask")
    return center, spread


def _select_rim(brain: Array, intracranial: Array | None) -> Array:
    """Return the voxels around the brain that are searched for veins (3D, boolean)."""
    if intracranial is None:
        return np.zeros_like(brain)
    return np.asarray(intracranial, dtype=bool) & ~brain


def _fit_mixture(
    sample: Array,
    start_means: Array,
    start_weights: Array,
    prior_weight: float,
    *,
    start_covariances: Array | None = None,
) -> _Mixture:
    """Fit a mixture by expectation-maximization with a prior on the means.

    `sample` are standardized intensities of voxels (n, contrasts). `start_means` (components,
    contrasts) are also the means of the prior. `prior_weight` is the number of voxels for which
    the prior on each mean counts, as a fraction of the sample. `start_covariances` are of the
    first components; all others start from `_START_VARIANCE`.
    """
    means, weights = start_means.copy(), start_weights
    covariances = np.tile(_START_VARIANCE * np.eye(len(CONTRASTS)), (len(means), 1, 1))
    if start_covariances is not None:
        covariances[: len(start_covariances)] = start_covariances
    prior_count = prior_weight * len(sample)
    for _ in range(_N_ITERATIONS):
        posterior = _compute_posterior(sample, _Mixture(means, covariances, weights))
        counts = posterior.sum(axis=0) + 1e-9  # no division by 0 for empty components
        weighted_sum = posterior.T @ sample + prior_count * start_means
        means = weighted_sum / (counts + prior_count)[:, None]
        for k in range(len(means)):
            residuals = sample - means[k]
            covariance = (posterior[:, k, None] * residuals).T @ residuals / counts[k]
            covariances[k] = covariance + _VARIANCE_FLOOR * np.eye(len(CONTRASTS))
        weights = counts / counts.sum()
    return _Mixture(means, covariances, weights)


def _select_sample(intensities: Array) -> Array:
    """Return about `_SAMPLE_SIZE` evenly spaced voxels (n, contrasts), or all if there are fewer.

    At most twice as many voxels are returned.
    """
    return intensities[:: max(1, len(intensities) // _SAMPLE_SIZE)]


def _classify(
    scans: Mapping[str, Array],
    voxels: Array,
    scales: Sequence[tuple[float, float]],
    mixture: _Mixture,
) -> Array:
    """Return the index of the most probable component of each voxel (n,).

    `voxels` are selected voxels (3D, boolean), `scales` are as in `ClassModel`.
    """
    return _compute_posterior(_standardize(scans, voxels, scales), mixture).argmax(axis=1)


def _compute_posterior(intensities: Array, mixture: _Mixture) -> Array:
    """Return the probability of each component at each voxel (n, components).

    `intensities` are standardized (n, contrasts).
    """
    log_posterior = np.empty((len(intensities), len(mixture.means)))
    for k, (mean, covariance, weight) in enumerate(zip(*mixture, strict=True)):
        whitened = np.linalg.solve(np.linalg.cholesky(covariance), (intensities - mean).T)
        _, log_determinant = np.linalg.slogdet(covariance)
        squared_distance = (whitened**2).sum(axis=0)
        log_posterior[:, k] = np.log(weight) - 0.5 * (log_determinant + squared_distance)
    return np.asarray(special.softmax(log_posterior, axis=1))


def _standardize(
    scans: Mapping[str, Array], voxels: Array, scales: Sequence[tuple[float, float]]
) -> Array:
    """Return intensities in robust standard deviations from the median (n, contrasts)."""
    columns = []
    for name, (center, spread) in zip(CONTRASTS, scales, strict=True):
        z = (np.asarray(scans[name][voxels], dtype=np.float64) - center) / spread
        columns.append(np.clip(z, -_MAX_Z, _MAX_Z))
    return np.stack(columns, axis=1)


def _list_components(name: str) -> list[int]:
    """Return the indices of the components of a class."""
    return [index for index, component in enumerate(_COMPONENTS) if component.label == name]


class _Component(NamedTuple):
    """Component of the mixture, with its starting values.

    `label` is the class of the component. `mean` is the difference from the median of the brain in
    T1w, T2w and FLAIR, in robust SD.
    """

    label: str
    mean: tuple[float, float, float]
    weight: float


_COMPONENTS = (
    _Component("csfSpaces", (-2.0, 2.0, -2.0), 0.12),
    _Component("veins", (-1.0, -2.0, -0.75), 0.03),
    _Component("pial", (-1.5, 1.5, 1.0), 0.08),
    _Component("brainTissue", (0.0, 0.0, 0.25), 0.42),
    _Component("brainTissue", (0.75, -0.5, -0.25), 0.35),
)
