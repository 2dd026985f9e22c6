"""`recovered_detail`: detail of each contrast that a run supports, without a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from bids_sr.api.evaluator import Evaluator
from bids_sr.api.image_inputs import ImageInputError, ImageLike, MaskLike, Motion
from bids_sr.api.super_resolver import SuperResolver


@dataclass(eq=False, repr=False)
class _DetailEvaluator(Evaluator):
    """Evaluator that only tests detail, of effects with any smoothing (FWHM, mm)."""

    smoothing: Sequence[float] = (0.0,)

    _report_name: ClassVar[str] = "recovered_detail"

    def _list_widths(self) -> Sequence[float]:
        """Return the smoothing of the effects."""
        return tuple(map(float, self.smoothing))


def recovered_detail(
    bold: ImageLike | Sequence[ImageLike],
    events: pd.DataFrame | str | Path | Sequence[pd.DataFrame | str | Path],
    *,
    resolver: SuperResolver | None = None,
    mask: MaskLike | None = None,
    motion: Motion | None = None,
    boldref: ImageLike | None = None,
    confounds: pd.DataFrame | np.ndarray | str | Path | None = None,
    contrasts: Sequence[str] | None = None,
    smoothing: Sequence[float] = (0.0,),
    tr: float | None = None,
    high_pass: float = 1 / 128,
    start_time: float | None = None,
) -> pd.DataFrame:
    """Test which contrasts of a run have super-resolved detail that the run supports.

    The run is downsampled by the super-resolution factor and super-resolved again, and the effect
    of each contrast is compared with the acquired effect. The report of ``bids-sr`` has the same
    values, rule and reasons if series, mask, head motion, confounds and seed are the same.

    Parameters
    ----------
    bold : path or nibabel.Nifti1Image, or list of them
        Series (x, y, z, t) on its acquired grid, after slice-timing correction if desired, but
        before smoothing. For every other argument, a list has one value per run, and other values
        apply to all runs.
    events : DataFrame or path
        BIDS events: onset (s), duration (s), trial_type.
    resolver : SuperResolver, optional
        Estimator with method, factor, seed and number of non-steady-state volumes. If it is not
        fitted, a copy is fitted to `bold`. If None, ``SuperResolver()`` with the method ``sbl``.
    mask, motion, boldref : optional
        As in `SuperResolver.fit`. For a fitted estimator, these are known and must not be passed.
    confounds : DataFrame, array (t, columns) or path of a TSV, optional
        Confounds, one row per volume including dummy scans. From a table of ``bids-sr`` or
        fMRIPrep, the columns that ``bids-sr`` includes by default are used: head motion, its
        derivatives, and five aCompCor components. All columns of other tables enter the model. If
        None, the estimated head motion.
    contrasts : sequence of str, optional
        Contrasts such as ``thumb``, ``thumb-little``, ``name=0.5*thumb-0.5*little`` or ``all``. If
        None, the default contrasts of ``bids-sr``.
    smoothing : sequence of float, default=(0.0,)
        Smoothing of the effects (FWHM, mm); the report of ``bids-sr`` is about unsmoothed effects.
    tr, high_pass, start_time : float, optional
        As in `Evaluator`.

    Returns
    -------
    pandas.DataFrame
        One row per contrast, region and smoothing, in these columns; for a list of runs, the first
        column is run (from 1).

        ======================== ==============================================================
        series                   method
        contrast                 contrast
        region                   ``active voxels`` (of the downsampled run) or ``brain``
        fwhm_mm                  smoothing
        state                    ``recovered``, ``not supported`` or ``not testable``
        explained_variance       explained variance of the detail
        lower, upper             ends of its 95 % interval
        voxels                   number of voxels of the region
        coverage                 fraction of voxels whose effect is within its 95 % interval
        reason                   why the detail is not testable or, if its explained variance is
                                 above 0, not supported; else ""
        interpretation           what may be interpreted in the contrast
        ======================== ==============================================================

    Raises
    ------
    ImageInputError
        If an argument is invalid, or if the method has no prior, such as a baseline or a network.
    TooFewBlocks
        If no condition has two blocks inside the run.

    See Also
    --------
    SuperResolver.effect_sd : standard deviation of the reconstruction error of an effect.

    Examples
    --------
    >>> from bids_sr import recovered_detail
    >>> recovered_detail("bold.nii.gz", "events.tsv")
    Traceback (most recent call last):
        ...
    bids_sr.api.image_inputs.ImageInputError: bold: the file bold.nii.gz does not exist. ...
    """
    resolver = SuperResolver() if resolver is None else resolver
    fit_arguments = {"mask": mask, "motion": motion, "boldref": boldref}
    if not resolver.__sklearn_is_fitted__():
        resolver = clone(resolver).fit(bold, **fit_arguments)
    elif known_names := [name for name, value in fit_arguments.items() if value is not None]:
        raise ImageInputError(
            f"{', '.join(known_names)}: already known from the fit of the resolver. Omit "
            "the argument, or pass a resolver that is not fitted."
        )
    check_is_fitted(resolver)
    if not all(run._learned.has_prior for run in resolver.runs_ or [resolver]):
        raise ImageInputError(
            f"resolver: the method {resolver.method} has no prior, so its detail cannot be tested "
            "at half the resolution. Choose a method such as sbl."
        )
    evaluator = _DetailEvaluator(
        factor=resolver.factor,
        tr=tr,
        contrasts=contrasts,
        baselines=(),
        high_pass=high_pass,
        start_time=start_time,
        realigned=resolver.realigned,
        registered=resolver.registered,
        n_jobs=resolver.n_jobs,
        verbose=resolver.verbose,
        smoothing=smoothing,
    )
    evaluator.fit(bold, series={resolver.method: resolver}, events=events, confounds=confounds)
    return evaluator.detail_
