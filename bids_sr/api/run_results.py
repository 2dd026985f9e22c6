"""Results of one run: super-resolved series, brain, head motion, prior SD map, and effects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bids_sr.api.image_inputs import check_is_series, open_series
from bids_sr.api.progress import make_step_printer
from bids_sr.api.run_basics import to_fitted_run
from bids_sr.api.run_inputs import RunInputs
from bids_sr.api.super_resolver import SuperResolver
from bids_sr.api.task_inputs import RunTask, load_task
from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.flow import Eager
from bids_sr.evaluation.steps import reconstruction_error
from bids_sr.glm.steps.activation import MapSettings, map_series
from bids_sr.glm.steps.mapped_series import MaskedSeries, SampledSeries
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.series import ACQUIRED
from bids_sr.io.volume import Volume
from bids_sr.preproc.head_motion import motion_columns
from bids_sr.sr.steps.super_resolution import SuperResolvedSeries
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.model_run import resample_acquired


@frozen
class RunResults:
    """Results of one run, in files of a working folder or as arrays.

    `series_file` is the super-resolved series, uncompressed, in signal units. `brain` and
    `prior_sd` are on its grid (X, Y, Z); `prior_sd` is None if the method does not estimate it.
    `motion` has one row per volume. `maps` are files of the unsmoothed effects (``effect``) in
    percent of the mean brain signal and, if the reconstruction error is known, of their total
    standard deviations (``sdTotal``). Without a task, there are no maps.
    """

    series_file: Path
    brain: Volume
    prior_sd: Volume | None
    motion: pd.DataFrame
    maps: Sequence[Derivative]

    @property
    def has_error(self) -> bool:
        """Whether the reconstruction error is known, and part of the maps."""
        return any(derivative.entities["stat"] == "sdTotal" for derivative in self.maps)


def super_resolve_run(
    resolver: SuperResolver,
    bold: Path,
    folder: Path,
    *,
    mask_img: Path | None = None,
    events: Path | None = None,
    t_r: float = 0.0,
) -> RunResults:
    """Fit an estimator to a series, super-resolve it, and map the effects of its events if given.

    Nothing is computed if an argument is invalid. Files are written to `folder`. `t_r` is the
    repetition time (s); 0 if the header specifies it.
    """
    resolver._check_parameters(RunInputs(mask_img=mask_img))
    with open_series(bold, folder, any_order=True) as reader:
        reader.tr = t_r or reader.tr
        check_is_series(reader, "bold")
        task = None if events is None else load_task(events, reader)
        resolver.fit(reader.path, mask_img=mask_img)
        return _compute_run(resolver, reader, folder, task)


def _compute_run(
    resolver: SuperResolver, reader: SeriesReader, folder: Path, task: RunTask | None
) -> RunResults:
    """Super-resolve the run of a fitted estimator, and map the effects of its task if given."""
    print_line = make_step_printer(f"SuperResolver {resolver.method}", resolver.verbose)
    learned_run = resolver._learned
    with_error = task is not None and learned_run.has_prior and resolver.applied_
    super_resolved = resolver._super_resolve(
        reader,
        resolver._find_poses(reader, None),
        folder,
        print_line,
        with_error_samples=with_error,
    )
    maps: list[Derivative] = []
    if task is not None:
        (map_folder := folder / "maps").mkdir()
        with Eager(map_folder, print_line):
            fitted_run = to_fitted_run(reader, learned_run.basics, learned_run.calibration)
            maps = _map_effects(fitted_run, super_resolved, task, resolver.method)
    return RunResults(
        series_file=super_resolved.series.path,
        brain=learned_run.basics.brain.bold_mask_hr,
        prior_sd=learned_run.weight,
        motion=motion_columns(learned_run.basics.motion.motion),
        maps=maps,
    )


def _map_effects(
    fitted_run: FittedRun, super_resolved: SuperResolvedSeries, task: RunTask, name: str
) -> list[Derivative]:
    """Map the effects of a series, and their total standard deviations if samples were drawn.

    `name` is the method or baseline of the series.
    """
    settings = MapSettings(
        kinds=("glm",),
        thresholds=(),
        smoothing=(0.0,),
        axis_order=AS_STORED,
    )
    model = task.build_model(fitted_run)
    brain = fitted_run.bold_mask_hr
    with SeriesReader(super_resolved.series.path) as series:
        series.tr = fitted_run.acquired.tr
        masked = MaskedSeries(series_name=name, series=series, mask=brain)
        maps = map_series(masked, brain, model, fitted_run, settings=settings).maps
    effects = [derivative for derivative in maps if derivative.entities["stat"] == "effect"]
    if super_resolved.error_draws is None or super_resolved.acquired_draws is None:
        return effects
    bold_mask = fitted_run.bold_mask
    acquired_series = MaskedSeries(
        series_name=ACQUIRED, series=resample_acquired(fitted_run), mask=bold_mask
    )
    acquired = map_series(acquired_series, bold_mask, model, fitted_run, settings=settings)
    with (
        SeriesReader(super_resolved.error_draws.path) as error_draws,
        SeriesReader(super_resolved.acquired_draws.path) as acquired_draws,
    ):
        sampled = SampledSeries(
            series_name=name,
            series=super_resolved.series,
            mask=brain,
            error_draws=error_draws,
            acquired_draws=acquired_draws,
        )
        error_maps, _, _ = reconstruction_error.measure_error(
            maps, acquired.maps, sampled, fitted_run, [], smoothing=settings.smoothing
        )
    return effects + [
        derivative for derivative in error_maps if derivative.entities.get("stat") == "sdTotal"
    ]
