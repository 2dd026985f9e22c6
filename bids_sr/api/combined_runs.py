"""Function `combine_runs`: combine the effect maps of a participant's runs, with their errors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from sklearn.utils.validation import check_is_fitted

from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    MaskLike,
    check_grid,
    load_mask,
    series_file,
    to_nibabel,
    working_folder,
)
from bids_sr.api.super_resolver import SuperResolver
from bids_sr.group.combination.run_combination import (
    RunEstimate,
    combine_estimates,
    correlate_error,
    precision_weights,
    widen_error,
)
from bids_sr.io.arrays import Array
from bids_sr.io.map_metadata import select_map_metadata
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.notices import InvalidInput
from bids_sr.io.volume import Volume
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.inheritance import find_sidecars, merge_sidecars

# names of maps in the result of nilearn's ``compute_contrast(output_type="all")``
_EFFECT, _VARIANCE = "effect_size", "effect_variance"
_RESAMPLE = (
    "Register the runs, and resample all maps to one grid, for example with "
    "nilearn.image.resample_to_img."
)
_DEFAULT_DOF = 100.0  # default degrees of freedom per run, as in nilearn's `compute_fixed_effects`


@dataclass(frozen=True, kw_only=True, slots=True)
class CombinedRuns:
    """Maps of several runs together, as images on the grid of the runs.

    Parameters
    ----------
    effect : nibabel.Nifti1Image
        Weighted mean of the effects, in their unit; 0 in voxels that a run does not have.
    variance : nibabel.Nifti1Image
        Variance of the effect from noise.
    t, z : nibabel.Nifti1Image
        Effect over the square root of the variance from noise, and the corresponding z value.
    sd : nibabel.Nifti1Image or None
        Standard deviation of the reconstruction error; None if it is not known in every run. The
        95 % interval of the effect in these runs is effect ± 1.96 √(variance + sd²).
    person_sd : nibabel.Nifti1Image or None
        Standard deviation of the effect as an estimate for the participant rather than for these
        runs, from the spread between runs; None for fewer than three runs.
    weights : dict of str to float, or None
        Weight of each run; None if weights differ between voxels.
    shared_error : float
        Correlation of the reconstruction error between runs.
    dof : float
        Degrees of freedom of t.
    left_out : dict of str to str
        Runs that were not combined, with the reason.
    not_applied : tuple of str
        Combined runs to which the method was not applied, so that their maps are zero filled.
        With such a run, `sd` is None.
    """

    effect: nib.Nifti1Image
    variance: nib.Nifti1Image
    t: nib.Nifti1Image
    z: nib.Nifti1Image
    sd: nib.Nifti1Image | None
    person_sd: nib.Nifti1Image | None
    weights: dict[str, float] | None
    shared_error: float
    dof: float
    left_out: dict[str, str]
    not_applied: tuple[str, ...]


def combine_runs(
    effects: Sequence[ImageLike | Mapping[str, ImageLike] | None],
    variances: Sequence[ImageLike | None] | None = None,
    *,
    sds: Sequence[ImageLike | None] | None = None,
    weights: Sequence[float] | Literal["equal", "precision"] = "equal",
    dofs: Sequence[float] | None = None,
    names: Sequence[str] | None = None,
    mask_img: MaskLike | None = None,
    smoothing_fwhm: float | None = None,
    calibrated: bool = False,
    resolver: SuperResolver | Sequence[SuperResolver] | None = None,
) -> CombinedRuns:
    """Combine the effect maps of several runs of a participant, with their errors.

    Noise averages out over runs. The reconstruction error of a super-resolved series does so only
    in part, because most of it repeats in every run. All maps must be on one grid: register the
    runs first.

    Results have the unit of the effects. Maps of ``bids-sr`` are in percent of the mean brain
    signal of their run, and maps of nilearn are in signal units unless ``signal_scaling`` is set.
    Sidecars of files are checked for mixed units; images in memory have no unit.

    Parameters
    ----------
    effects : sequence of path, nibabel.Nifti1Image, mapping or None
        Effect of one contrast in each run (x, y, z), in one unit. A mapping contains the effect as
        ``effect_size`` and the variance as ``effect_variance``, as returned by nilearn's
        ``FirstLevelModel.compute_contrast(contrast, output_type="all")``. None: the run does not
        have the contrast and is left out.
    variances : sequence of path, nibabel.Nifti1Image or None, optional
        Variance of the effect in each run. Voxels without a positive variance are outside the
        brain. Only required if `effects` are images.
    sds : sequence of path, nibabel.Nifti1Image or None, optional
        Standard deviation of the reconstruction error in each run (``stat-sd`` maps of
        ``bids-sr``); None if it is not known.
    weights : sequence of float, "equal" or "precision", default="equal"
        Weight of each run, which is divided by the sum of all weights. A run with a weight of 0 is
        left out: it adds no degrees of freedom either. "precision" weights each voxel by the
        inverse of its variance.
    dofs : sequence of float, optional
        Degrees of freedom of the variance in each run. If None, 100 per run, as in nilearn.
    names : sequence of str, optional
        Names of the runs. If None, ``run-1``, ``run-2``, ….
    mask_img : path, image or array (x, y, z), optional
        Mask of the voxels to combine, on the grid of the maps. If None, all voxels with a positive
        variance in every run.
    smoothing_fwhm : float, optional
        FWHM (mm) of the smoothing of the maps, such as the `smoothing_fwhm` of the linear
        models in nilearn. It determines how much of the reconstruction error repeats; the maps are
        not smoothed again. If None, the maps are unsmoothed.
    calibrated : bool, default=False
        Whether any run was super-resolved with a high-resolution calibration run. The
        reconstruction error is then taken to be the same in all runs.
    resolver : SuperResolver or sequence of SuperResolver, optional
        The estimator that was fitted on the list of runs, or one per run. Runs to which the method
        was not applied are listed in the result, and calibration runs are taken into account.

    Returns
    -------
    CombinedRuns
        Effect, variance, t, z and SD images, weights, and runs that were left out.

    Raises
    ------
    ImageInputError
        Fewer than two runs can be combined, an image is on another grid, sidecars state different
        units, or lists differ in length.

    See Also
    --------
    bids_sr.SuperResolver : super-resolves the series of runs.

    Examples
    --------
    >>> import nibabel as nib, numpy as np
    >>> from bids_sr import combine_runs
    >>> def image(value):
    ...     return nib.Nifti1Image(np.full((4, 4, 2), value, "float32"), np.eye(4))
    >>> combined = combine_runs(
    ...     [image(1), image(3), None],
    ...     [image(4), image(4), None],
    ...     sds=[image(2), image(2), None],
    ... )
    >>> [float(getattr(combined, stat).get_fdata()[0, 0, 0]) for stat in ("effect", "variance")]
    [2.0, 2.0]
    >>> round(float(combined.sd.get_fdata()[0, 0, 0]), 3)  # 2, widened by 1.045
    2.09
    >>> combined.left_out
    {'run-3': 'no effect map was passed'}
    >>> combine_runs([image(1)], [image(1)])
    Traceback (most recent call last):
        ...
    bids_sr.api.image_inputs.ImageInputError: effects: 1 run was passed; expected at least two...
    """
    n_runs = len(effects)
    _check_lists(
        n_runs, weights, {"variances": variances, "sds": sds, "dofs": dofs, "names": names}
    )
    labels = _label_runs(names, n_runs)
    fwhm_mm = smoothing_fwhm or 0.0
    if not fwhm_mm >= 0:
        raise ImageInputError(f"{fwhm_mm:g} mm; expected 0 or more", argument="smoothing_fwhm")
    resolvers = _check_estimators(resolver, n_runs)
    calibrated = calibrated or any("calibration" in run.facts_ for run in resolvers)
    loaded_runs = _load_runs(labels, effects, variances, sds, mask_img)
    left_out = {
        label: "no effect map was passed" for label in labels if label not in loaded_runs.maps
    }
    estimates: dict[str, RunEstimate] = {}
    for label, run_maps in loaded_runs.maps.items():
        for argument, image in run_maps.items():
            check_grid(image, loaded_runs.grid, f"{argument} of {label}", _RESAMPLE)
        dof = _DEFAULT_DOF if dofs is None else float(dofs[labels.index(label)])
        estimate = _make_run_estimate(run_maps, dof, loaded_runs.inside)
        if (estimate.variance > 0).any():
            estimates[label] = estimate
        else:
            left_out[label] = "the variance is not positive in any voxel"
    if len(estimates) < 2:
        reasons = "; ".join(f"{label}: {reason}" for label, reason in left_out.items())
        raise ImageInputError(
            f"{len(estimates)} of {n_runs} runs can be combined; expected at least two",
            f"Runs that were left out: {reasons}.",
            "effects",
        )
    not_applied = tuple(
        label
        for label, run in zip(labels, resolvers, strict=False)
        if label in estimates and not run.applied_
    )
    if isinstance(weights, str):
        run_weights = None if weights == "precision" else [1.0] * len(estimates)
    else:
        run_weights = [
            float(weights[index]) for index, label in enumerate(labels) if label in estimates
        ]
    return _combine(
        loaded_runs.grid,
        estimates,
        run_weights,
        fwhm_mm=fwhm_mm,
        calibrated=calibrated,
        left_out=left_out,
        not_applied=not_applied,
    )


def _check_lists(
    n_runs: int,
    weights: Sequence[float] | str,
    lists: Mapping[str, Sequence[object] | None],
) -> None:
    """Check the number of runs, the weights, and the lengths of other arguments, by name.

    Raises `ImageInputError` if there are fewer than two runs, or if an argument does not have one
    value per run.
    """
    if n_runs < 2:
        raise ImageInputError(
            f"{n_runs} run{'s were' if n_runs != 1 else ' was'} passed; expected at least two",
            "The map of a single run is already the map of the participant.",
            "effects",
        )
    if not isinstance(weights, str):
        lists = {**lists, "weights": weights}
    elif weights not in ("equal", "precision"):
        raise ImageInputError(
            f"expected 'equal', 'precision' or one number per run, got {weights!r}",
            argument="weights",
        )
    for name, values in lists.items():
        if values is not None and len(values) != n_runs:
            raise ImageInputError(
                f"{len(values)} value(s) were passed for {n_runs} runs",
                "Pass one value per run.",
                name,
            )


def _label_runs(names: Sequence[str] | None, n_runs: int) -> list[str]:
    """Return the names of the runs, by default ``run-1``, ``run-2``, ….

    Raises `ImageInputError` if the names are not unique.
    """
    labels = [f"run-{number}" for number in range(1, n_runs + 1)] if names is None else [*names]
    if len({*labels}) < n_runs:
        raise ImageInputError(f"{', '.join(labels)} are not unique", "Rename the runs.", "names")
    return labels


def _check_estimators(
    resolver: SuperResolver | Sequence[SuperResolver] | None, n_runs: int
) -> list[SuperResolver]:
    """Return the fitted estimator of each run, [] if no estimator was passed."""
    if resolver is None:
        return []
    if isinstance(resolver, SuperResolver):
        check_is_fitted(resolver)
        resolvers = resolver.runs_ or [resolver]
    else:
        resolvers = list(resolver)
        for run_resolver in resolvers:
            check_is_fitted(run_resolver)
    if len(resolvers) != n_runs:
        raise ImageInputError(
            f"the estimator was fitted on {len(resolvers)} run(s), but {n_runs} effect maps were "
            "passed",
            "Fit it on the list of these runs.",
            "resolver",
        )
    return resolvers


@dataclass(frozen=True, kw_only=True, slots=True)
class _LoadedRuns:
    """Maps of the runs that have an effect map.

    `maps` are maps by name of the run and argument, such as ``effects``. `inside` is a mask (x, y,
    z), boolean; None to include all voxels.
    """

    maps: Mapping[str, Mapping[str, Volume]]
    inside: Array | None

    @property
    def grid(self) -> Volume:
        """First effect map, on whose grid all maps must be."""
        return next(iter(self.maps.values()))["effects"]


def _load_runs(
    labels: Sequence[str],
    effects: Sequence[ImageLike | Mapping[str, ImageLike] | None],
    variances: Sequence[ImageLike | None] | None,
    sds: Sequence[ImageLike | None] | None,
    mask_img: MaskLike | None,
) -> _LoadedRuns:
    """Load the maps of all runs with an effect map, and the mask; see `combine_runs`."""
    no_maps = [None] * len(labels)
    all_variances, all_sds = (no_maps if maps is None else maps for maps in (variances, sds))
    images = {
        label: _select_run_images(number, effect, variance, sd)
        for number, (label, effect, variance, sd) in enumerate(
            zip(labels, effects, all_variances, all_sds, strict=True), 1
        )
        if effect is not None
    }
    _check_units(images)
    with working_folder() as folder:
        maps = {
            label: {
                argument: _load_map(image, folder, f"{argument}_{labels.index(label) + 1}")
                for argument, image in run_images.items()
            }
            for label, run_images in images.items()
        }
        loaded_runs = _LoadedRuns(maps=maps, inside=None)
        if mask_img is None or not maps:
            return loaded_runs
        return replace(loaded_runs, inside=load_mask(mask_img, loaded_runs.grid, folder).data)


def _select_run_images(
    number: int,
    effect: ImageLike | Mapping[str, ImageLike],
    variance: ImageLike | None,
    sd: ImageLike | None,
) -> dict[str, ImageLike]:
    """Return the images of a run by argument; runs are counted from 1."""
    if isinstance(effect, Mapping):
        if missing := [name for name in (_EFFECT, _VARIANCE) if name not in effect]:
            raise ImageInputError(
                f"the maps of run {number} do not contain {' and '.join(missing)}",
                'Pass the result of compute_contrast(contrast, output_type="all").',
                "effects",
            )
        variance = effect[_VARIANCE] if variance is None else variance
        effect = effect[_EFFECT]
    if variance is None:
        raise ImageInputError(
            f"run {number} has an effect map, but no variance map",
            "Pass the variance of the effect, which is needed for t.",
            "variances",
        )
    maps = {"effects": effect, "variances": variance}
    return maps if sd is None else {**maps, "sds": sd}


def _check_units(images: Mapping[str, Mapping[str, ImageLike]]) -> None:
    """Check that the sidecars of all maps state one unit, or its square for variances.

    `images` are images by name of the run and argument. Images without a unit are not checked.
    Raises `ImageInputError` if units differ.
    """
    maps_by_unit: dict[str, str] = {}
    for run_images in images.values():
        for argument, image in run_images.items():
            unit = _read_unit(image)
            if argument == "variances":
                unit = unit.removesuffix("^2")
            if unit:
                maps_by_unit.setdefault(unit, f"{argument}: {image} is in the unit {unit}")
    if len(maps_by_unit) > 1:
        raise ImageInputError(
            "; ".join(maps_by_unit.values()),
            "Pass maps in one unit. For maps of an earlier version, run the participant level of "
            "bids-sr again.",
        )


def _read_unit(image: ImageLike) -> str:
    """Return the unit of a map from the sidecars of its file, "" if it has none."""
    if not isinstance(image, str | os.PathLike):
        return ""
    path = Path(image)
    labels = parse_entities(path)
    content = merge_sidecars(find_sidecars(path, path.parent))
    metadata = select_map_metadata(content, labels.get("contrast", ""), labels.get("stat", ""))
    return str(metadata.get("Units", ""))


def _load_map(image: ImageLike, folder: Path, name: str) -> Volume:
    """Load a map, which may contain NaN or infinite values outside the brain."""
    with SeriesReader(series_file(image, folder, name, allow_nan=True), allow_nan=True) as reader:
        if reader.shape[3] > 1:
            raise ImageInputError(
                f"expected one map, got a series of shape {reader.shape}",
                "Pass the effect map of one contrast.",
                name,
            )
        return Volume(reader.volume(0), reader.affine)


def _make_run_estimate(
    images: Mapping[str, Volume], dof: float, inside: Array | None
) -> RunEstimate:
    """Return the arrays of a run, with a variance of 0 in excluded voxels.

    Voxels with non-finite values are excluded. `inside` is the mask (x, y, z), boolean; if it is
    None, all voxels are included.
    """
    included = np.logical_and.reduce([np.isfinite(image.data) for image in images.values()])
    if inside is not None:
        included &= np.asarray(inside, bool)
    values = {name: np.where(included, image.data, 0) for name, image in images.items()}
    return RunEstimate(
        effect=values["effects"], variance=values["variances"], dof=dof, sd=values.get("sds")
    )


def _combine(
    grid: Volume,
    estimates: Mapping[str, RunEstimate],
    run_weights: Sequence[float] | None,
    *,
    fwhm_mm: float,
    calibrated: bool,
    left_out: dict[str, str],
    not_applied: tuple[str, ...],
) -> CombinedRuns:
    """Combine validated maps.

    `estimates` are the maps of the runs by name, and `run_weights` their weights; None for
    inverse-variance weights in each voxel. For the other parameters, see `combine_runs` and
    `CombinedRuns`.
    """
    runs = list(estimates.values())
    if not np.logical_and.reduce([run.variance > 0 for run in runs]).any():
        raise ImageInputError(
            f"no voxel has a positive variance in all of {', '.join(estimates)}",
            "Check that the runs are registered and that mask_img covers the brain.",
            "variances",
        )
    for number, weight in enumerate(run_weights or (), 1):
        if weight < 0:
            raise ImageInputError(
                f"weights: the weight of run {number} is negative; expected 0 or more."
            )
    n_used = len(runs) if run_weights is None else sum(weight > 0 for weight in run_weights)
    shared_error = correlate_error(fwhm_mm, calibrated=calibrated, n_runs=n_used)
    try:
        combination = combine_estimates(
            runs,
            precision_weights(runs) if run_weights is None else run_weights,
            shared=shared_error,
            widening=widen_error(fwhm_mm, n_runs=n_used),
        )
    except InvalidInput as error:
        raise ImageInputError(error.reason, argument="weights, dofs") from error
    shares = None
    if run_weights is not None:
        total = sum(run_weights)
        shares = {
            label: weight / total for label, weight in zip(estimates, run_weights, strict=True)
        }

    def to_image(values: Array) -> nib.Nifti1Image:
        return to_nibabel(grid.like(np.asarray(values, np.float32)))

    return CombinedRuns(
        effect=to_image(combination.effect),
        variance=to_image(combination.variance),
        t=to_image(combination.t),
        z=to_image(combination.z),
        sd=None if combination.sd is None else to_image(combination.sd),
        person_sd=None if combination.person_sd is None else to_image(combination.person_sd),
        weights=shares,
        shared_error=shared_error,
        dof=combination.dof,
        left_out=left_out,
        not_applied=not_applied,
    )
