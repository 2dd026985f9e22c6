"""`recovered_detail`: detail of each contrast that a run supports, without a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from bids_sr.api.image_inputs import (
    ImageInputError,
    ImageLike,
    MaskLike,
    Motion,
    check_is_series,
    check_repetition_time,
    filter_repeated_messages,
    open_series,
    working_folder,
)
from bids_sr.api.progress import make_step_printer
from bids_sr.api.run_basics import to_fitted_run
from bids_sr.api.several_runs import check_single_run, is_several, split_arguments
from bids_sr.api.super_resolver import SuperResolver
from bids_sr.api.task_inputs import (
    ConfoundsLike,
    EventsLike,
    is_program_table,
    load_confounds,
    load_events,
    plan_task,
)
from bids_sr.engine.flow import Eager
from bids_sr.evaluation.steps.reconstruction_error import check_intervals
from bids_sr.evaluation.support_table import tabulate_support
from bids_sr.glm.blocks import TooFewBlocks
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.steps.block_effects import check_blocks
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.workflows.model_run import resample_acquired

_NOT_APPLIED = "the method was not applied to this run"


@frozen
class _TestSettings:
    """Settings of the test, which are equal in all runs.

    `t_r` is the repetition time (s); None if the header specifies it. Default contrasts are used
    if `contrasts` is empty. `smoothing` is the smoothing of the effects (FWHM, mm).
    """

    t_r: float | None
    contrasts: Sequence[str]
    design: DesignSettings
    smoothing: Sequence[float]


def recovered_detail(
    bold: ImageLike | Sequence[ImageLike],
    events: EventsLike | Sequence[EventsLike],
    *,
    resolver: SuperResolver | None = None,
    mask_img: MaskLike | Sequence[MaskLike] | None = None,
    motion: Motion | Sequence[Motion] | None = None,
    boldref: ImageLike | Sequence[ImageLike] | None = None,
    confounds: ConfoundsLike | Sequence[ConfoundsLike] | None = None,
    contrasts: Sequence[str] | None = None,
    smoothing_fwhm: float | Sequence[float] | None = None,
    t_r: float | None = None,
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
        before smoothing. A list of events, confounds, masks, motion or boldrefs has one value per
        run, and other values apply to all runs.
    events : DataFrame or path
        BIDS events: onset (s), duration (s), trial_type.
    resolver : SuperResolver, optional
        Estimator with method, factor, seed and number of non-steady-state volumes. If it is not
        fitted, a copy is fitted to `bold`. If None, ``SuperResolver()`` with the method ``sbl``.
    mask_img, motion, boldref : optional
        As in `SuperResolver.fit`. For a fitted estimator, these are known and must not be passed.
    confounds : DataFrame, array (t, columns) or path of a TSV, optional
        Confounds, one row per volume including dummy scans. From a table of ``bids-sr`` or
        fMRIPrep, the columns that ``bids-sr`` includes by default are used: head motion, its
        derivatives, and five aCompCor components. All columns of other tables enter the model. If
        None, the estimated head motion.
    contrasts : sequence of str, optional
        Contrasts such as ``thumb``, ``thumb-little``, ``name=0.5*thumb-0.5*little`` or ``all``. If
        None, the default contrasts of ``bids-sr``.
    smoothing_fwhm : float or sequence of float, optional
        FWHM (mm) of the smoothing of the effects; with a sequence, each value is tested. If None,
        effects are not smoothed, as in the report of ``bids-sr``.
    t_r : float, optional
        Repetition time (s). If None, it is read from the header of the series, which must specify
        it with a unit.
    high_pass : float, default=1/128
        Cut-off of the drift of the linear model (Hz). Events are convolved with SPM's response.
    start_time : float, optional
        Reference time of a volume (s after its start), such as the reference time of slice-timing
        correction. If None, the middle of TR.

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
    fit_arguments = {"mask_img": mask_img, "motion": motion, "boldref": boldref}
    if not resolver.__sklearn_is_fitted__():
        resolver = clone(resolver).fit(bold, **fit_arguments)
    elif known_names := [name for name, value in fit_arguments.items() if value is not None]:
        raise ImageInputError(
            "already known from the fit of the resolver",
            "Omit the argument, or pass a resolver that is not fitted.",
            ", ".join(known_names),
        )
    check_is_fitted(resolver)
    if not all(run._learned.has_prior for run in resolver.runs_ or [resolver]):
        raise ImageInputError(
            f"the method {resolver.method} has no prior, so its detail cannot be tested at half"
            " the resolution",
            "Choose a method such as sbl.",
            "resolver",
        )
    settings = _TestSettings(
        t_r=t_r,
        contrasts=tuple(contrasts or ()),
        design=DesignSettings(high_pass=high_pass, start_time=start_time),
        smoothing=tuple(map(float, np.ravel(0.0 if smoothing_fwhm is None else smoothing_fwhm))),
    )
    task = {"events": events, "confounds": confounds}
    if not is_several(bold):
        check_single_run({"bold": bold, "resolver": resolver.runs_ or None, **task})
        return _test_run(bold, resolver, settings, **task)  # type: ignore[arg-type]
    arguments = split_arguments(len(bold), {"resolver": resolver.runs_ or resolver, **task})
    tables = [
        _test_run(run_bold, settings=settings, **run_arguments)
        for run_bold, run_arguments in zip(bold, arguments, strict=True)
    ]
    table = pd.concat(dict(enumerate(tables, 1)), names=["run", None])
    return table.reset_index("run").reset_index(drop=True)


def _test_run(
    bold: ImageLike,
    resolver: SuperResolver,
    settings: _TestSettings,
    *,
    events: EventsLike,
    confounds: ConfoundsLike | None,
) -> pd.DataFrame:
    """Return the table of one run; see `recovered_detail`."""
    learned_run, design = resolver._learned, settings.design
    with (
        filter_repeated_messages(TooFewBlocks.__module__),
        working_folder() as folder,
        open_series(bold, folder, any_order=True) as reader,
        Eager(folder, make_step_printer("recovered_detail", resolver.verbose)),
    ):
        reader.tr = settings.t_r or reader.tr
        _check_series(reader)
        resolver._find_poses(reader, None)
        columns = None if confounds is None else load_confounds(confounds, reader.shape[3])
        n_dummy = learned_run.basics.n_dummy
        task = plan_task(
            load_events(events),
            settings.contrasts,
            design,
            reader.shape[3],
            reader.tr,
            n_dummy=n_dummy,
        )
        check_blocks(task.events, design, reader.shape[3], reader.tr, n_dummy=n_dummy)
        fitted_run = to_fitted_run(reader, learned_run.basics, learned_run.calibration)
        nuisance = None
        if columns is not None and not is_program_table(columns):
            nuisance = list(columns)
        model = task.build_model(fitted_run, columns, nuisance)
        assert learned_run.model is not None
        # a method that was not applied has no results by contrast
        rows, _ = check_intervals(
            resample_acquired(fitted_run),
            fitted_run,
            learned_run.model.write(folder),
            model,
            fitted_run.calibration,
            series_name=resolver.method,
            smoothing=settings.smoothing,
            random_seed=learned_run.random_seed,
            omp_nthreads=resolver.n_jobs,
        )
    methods = {resolver.method: "" if resolver.applied_ else _NOT_APPLIED}
    return tabulate_support(rows, methods, list(task.contrasts), settings.smoothing)


def _check_series(reader: SeriesReader) -> None:
    """Raise an error unless a series has a repetition time and finite values in all volumes."""
    check_is_series(reader, "bold")
    check_repetition_time(reader)
    for _ in reader.volumes():  # Reading raises an error for NaN.
        pass
