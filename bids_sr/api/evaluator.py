"""`Evaluator`: scikit-learn estimator that tests the accuracy of super-resolved series."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from bids_sr.api import evaluation_inputs
from bids_sr.api.evaluated_run import (
    EvaluatedRun,
    EvaluationSettings,
    evaluate_series,
    load_region,
    make_baselines,
    measure_detail,
    model_run,
    prepare_run,
    resample_other_series,
)
from bids_sr.api.image_inputs import (
    Dummies,
    ImageInputError,
    ImageLike,
    MaskLike,
    Motion,
    SuperResolutionWarning,
    filter_repeated_messages,
    open_series,
    open_with_tr,
    parse_factor,
    working_folder,
)
from bids_sr.api.learned_run import LearnedRun
from bids_sr.api.progress import make_step_printer
from bids_sr.api.run_basics import RunBasics, fit_basics, warn_if_not_realigned
from bids_sr.api.run_inputs import RunInputs, Truth
from bids_sr.api.several_runs import (
    check_single_run,
    collect_attributes,
    is_several,
    split_arguments,
    split_inputs,
)
from bids_sr.api.super_resolver import SuperResolver
from bids_sr.evaluation.advice import Audience
from bids_sr.evaluation.support_table import tabulate_support
from bids_sr.evaluation.verdict_text import verdict_line
from bids_sr.glm.blocks import TooFewBlocks
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import DesignSettings
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.metrics.rows import frame as make_table
from bids_sr.pipeline.flow import Eager
from bids_sr.series import ACQUIRED_BAND, BASELINES, DEFAULT_BASELINES, PAIR_BASELINES
from bids_sr.workflows.series_requests import ComputedSeries

if TYPE_CHECKING:
    from bids_sr.api.html_report import HtmlReport

_NOT_APPLIED = "the method was not applied to this run"


@dataclass(eq=False, repr=False)
class Evaluator(BaseEstimator):
    """Compare super-resolved series with baselines, relative to a reference.

    The reference is a measured high-resolution series or known activation. With a measured series,
    blocks of each condition are split into halves, and the effect in one half is compared with the
    measured effect in the other half, both above the acquired Nyquist frequency and over all
    frequencies. With known activation, the effect of the whole run is compared. Without a
    reference, series are not compared. The detail of fitted estimators is then tested at half the
    resolution, as in `recovered_detail`.
    Interpolations and simple arithmetic are always computed and evaluated as baselines, and the
    summary only claims gains over all baselines.

    Parameters
    ----------
    factor : float or tuple of three, default=2
        Acquired over high-resolution voxel size, in plane or by axis.
    tr : float, optional
        Repetition time (s). If None, it is read from the header of the acquired series, which must
        specify it with a unit.
    contrasts : sequence of str, optional
        Contrasts such as ``thumb``, ``thumb-little``, ``name=0.5*thumb-0.5*little`` or ``all``. If
        None, each condition, all conditions, and pairs of conditions in alphabetical order.
    baselines : sequence of str, optional
        Baselines that series are compared with. If None, ``bspline``, ``zerofill``, ``sdmod`` and,
        with a guide, ``inject`` and ``ratio``. B-spline is always included.
    high_pass : float, default=1/128
        Cut-off of the drift of the linear model (Hz).
    start_time : float, optional
        Reference time of a volume (s after its start), such as the reference time of slice-timing
        correction. If None, the middle of TR.
    n_dummy : int or "auto", default="auto"
        Number of volumes at the start that are excluded; "auto" detects non-steady-state volumes.
    realigned, registered : bool, default=False
        As in `SuperResolver`.
    margin : float, optional
        Differences within ± this value count as equivalent. If None, a tenth of the gap between
        the B-spline and the measured series.
    seed_radius_mm : float, default=6.0
        Radius of the spheres around seeds (mm).
    n_boot : int, default=1000
        Number of resamples of blocks for the 95 % intervals.
    random_state : int, default=0
        Seed of the resamples.
    n_jobs : int, default=1
        Number of threads.
    verbose : int, default=0
        If 1, each step is printed with the elapsed time.

    Attributes
    ----------
    runs_ : list of Evaluator
        Fitted evaluator of each run if `fit` was called with a list; `verdict_`, `compared_` and
        `contrasts_` are then lists.
    table_ : pandas.DataFrame
        One value per row, with the columns of the program's evaluation table. For several runs,
        the first column is run (from 1).
    detail_ : pandas.DataFrame
        Detail that the run supports, see `bids_sr.recovered_detail`: a row per contrast and region
        for each fitted `SuperResolver` in `series` whose method has a prior. Empty with a
        reference. For several runs, the first column is run (from 1).
    verdict_ : dict
        Headline, status, sentences and limitations, as in the output of the program.
    compared_ : list of dict
        Verdicts on series of other programs: name, status, headline, text.
    contrasts_ : dict
        Weights of conditions by contrast.

    Notes
    -----
    The table contains the values that support the verdict. Comparisons of t maps, placebos and
    quality flags are only available in ``bids-sr``.

    Examples
    --------
    >>> from bids_sr import Evaluator
    >>> Evaluator(factor=2, tr=2.0, n_boot=200)
    Evaluator(n_boot=200, tr=2.0)
    >>> Evaluator().summary()
    Traceback (most recent call last):
        ...
    sklearn.exceptions.NotFittedError: This Evaluator instance is not fitted yet...
    """

    factor: float | Factor = 2
    _: KW_ONLY
    tr: float | None = None
    contrasts: Sequence[str] | None = None
    baselines: Sequence[str] | None = None
    high_pass: float = 1 / 128
    start_time: float | None = None
    n_dummy: Dummies = "auto"
    realigned: bool = False
    registered: bool = False
    margin: float | None = None
    seed_radius_mm: float = 6.0
    n_boot: int = 1000
    random_state: int = 0
    n_jobs: int = 1
    verbose: int = 0

    # The command has its own audience.
    _audience: ClassVar[Audience] = "python"
    _report_name: ClassVar[str] = "Evaluator.fit"

    def fit(
        self,
        acquired: ImageLike | Sequence[ImageLike],
        y: None = None,
        *,
        series: Mapping[str, ImageLike | Sequence[ImageLike] | SuperResolver] | None = None,
        compared: Mapping[str, ImageLike | Sequence[ImageLike]] | None = None,
        events: pd.DataFrame | str | Path | None = None,
        seeds: Mapping[str, Sequence[float]] | None = None,
        confounds: pd.DataFrame | np.ndarray | str | Path | None = None,
        mask: MaskLike | None = None,
        roi: MaskLike | None = None,
        truth: Truth | None = None,
        guide: ImageLike | None = None,
        lowres: ImageLike | None = None,
        motion: Motion | None = None,
        boldref: ImageLike | None = None,
        guide_xfm: Motion | None = None,
        other_run: ImageLike | None = None,
        other_events: pd.DataFrame | str | Path | None = None,
        not_applied: Sequence[str] = (),
    ) -> Evaluator:
        """Compute the evaluation of one or several runs.

        Parameters
        ----------
        acquired : path or nibabel.Nifti1Image, or list of them
            Acquired series (x, y, z, t); baselines are computed from this series. Runs of a list
            are evaluated separately; for every other argument and each entry of `series`, a list
            has one value per run, and other values apply to all runs.
        y : None
            Not used.
        series : mapping of name to image or fitted SuperResolver
            Series to evaluate: motion-corrected series on the high-resolution grid of the boldref,
            or estimators fitted to `acquired`, which are applied. Mask, boldref and head motion of
            the first estimator are used for all series, unless they are passed.
        compared : mapping of name to image, optional
            Series of the run from other programs, on the acquired grid or on a higher-resolution
            grid with the same field of view. Whether their head motion was corrected is
            determined. The evaluation tests whether each is more accurate than the acquired
            series.
        events : DataFrame or path, optional
            BIDS events: onset (s), duration (s), trial_type.
        seeds : mapping of name to (x, y, z), optional
            Centers of seeds in scanner coordinates (RAS mm), instead of events, for resting-state
            runs.
        confounds : DataFrame, array (t, columns) or path of a TSV, optional
            Confounds, one row per volume including dummy scans. All columns enter the linear
            models, except that from a table of the program or of fMRIPrep, the columns that the
            program includes by default are used. If None, the estimated head motion.
        mask : path, image or array (x, y, z), optional
            Brain on the acquired grid.
        roi : path, image or array (X, Y, Z), optional
            Region of interest on the high-resolution grid. If None, the brain.
        truth : image, or mapping of contrast to image, optional
            High-resolution series (X, Y, Z, t) measured in the same run and field of view, without
            motion correction; or known activation by contrast in signal units, on any grid in the
            frame of the boldref that covers the brain.
        guide, lowres, motion, boldref, guide_xfm : ImageLike | None, optional
            As in `SuperResolver.fit`, for the baselines.
        other_run, other_events : image and events, optional
            Another acquired run of the same task, a reference for `compared` in the acquired band.
        not_applied : sequence of str
            Series passed as images whose method fell back to zero filling; they are listed and not
            compared.

        Returns
        -------
        Evaluator
            The fitted evaluator.

        Raises
        ------
        ImageInputError
            If names, grids, fields of view or numbers of volumes do not match, if the repetition
            time is missing, or if neither or both of events and seeds are passed.
        TooFewBlocks
            If no condition has two blocks inside the run.
        """
        inputs = RunInputs(
            events=events,
            seeds=seeds,
            confounds=confounds,
            mask=mask,
            roi=roi,
            truth=truth,
            guide=guide,
            lowres=lowres,
            motion=motion,
            boldref=boldref,
            guide_xfm=guide_xfm,
            other_run=other_run,
            other_events=other_events,
        )
        return self._fit_all(acquired, series, compared, inputs, not_applied)

    def _fit_all(
        self,
        acquired: ImageLike | Sequence[ImageLike],
        series: Mapping[str, ImageLike | Sequence[ImageLike] | SuperResolver] | None,
        compared: Mapping[str, ImageLike | Sequence[ImageLike]] | None,
        inputs: RunInputs,
        not_applied: Sequence[str],
    ) -> Evaluator:
        """Evaluate one or several runs; for parameters see `fit`."""
        if (inputs.events is None) == (inputs.seeds is None):
            raise ImageInputError(
                "events, seeds: exactly one of these arguments is required. Pass events for a "
                "task run, or seeds for a resting-state run."
            )
        evaluation_inputs.check_names(series, not_applied, compared)
        series, compared = series or {}, compared or {}
        if (inputs.other_run is None) != (inputs.other_events is None):
            raise ImageInputError(
                "other_run, other_events: a second run can only be compared if both arguments "
                "are specified. Pass the run together with its events, or omit both."
            )
        series_arguments = {
            f"series {name}": evaluation_inputs.list_runs(source)
            for name, source in series.items()
        }
        series_arguments |= {f"compared {name}": image for name, image in compared.items()}
        if not is_several(acquired):
            self.runs_: list[Evaluator] = []
            check_single_run(inputs, {"acquired": acquired}, series_arguments)
            return self._fit_one(acquired, series, compared, inputs, not_applied)  # type: ignore[arg-type]
        n_runs = len(acquired)
        evaluators = [
            clone(self)._fit_all(
                run_acquired,
                {name: run_arguments[f"series {name}"] for name in series},
                {name: run_arguments[f"compared {name}"] for name in compared},
                run_inputs,
                not_applied,
            )
            for run_acquired, run_inputs, run_arguments in zip(
                acquired,
                split_inputs(n_runs, inputs),
                split_arguments(n_runs, series_arguments),
                strict=True,
            )
        ]
        self.runs_ = evaluators
        self.__dict__.update(
            collect_attributes(evaluators, ("verdict_", "compared_", "contrasts_"))
        )
        self.table_ = _join_tables([evaluator.table_ for evaluator in evaluators])
        self.detail_ = _join_tables([evaluator.detail_ for evaluator in evaluators])
        return self

    def _fit_one(
        self,
        acquired: ImageLike,
        series: Mapping[str, ImageLike | SuperResolver],
        compared: Mapping[str, ImageLike],
        inputs: RunInputs,
        not_applied: Sequence[str],
    ) -> Evaluator:
        """Evaluate one run."""
        first_resolver, unapplied_resolvers = _inspect_resolvers(series)
        unapplied_names = [*not_applied, *unapplied_resolvers]
        with (
            filter_repeated_messages(TooFewBlocks.__module__),
            working_folder() as folder,
            open_series(acquired, folder, "acquired", any_order=True) as reader,
            ExitStack() as open_files,
            Eager(folder, make_step_printer(self._report_name, self.verbose)),
        ):
            confounds = (
                None
                if inputs.confounds is None
                else evaluation_inputs.load_confounds(inputs.confounds, reader.shape[3])
            )
            reader.tr = self.tr or reader.tr
            self._check_inputs(reader, compared, inputs, folder)
            settings = self._make_settings(reader, inputs)
            run_basics = self._fit_basics(reader, inputs, folder, settings.factor, first_resolver)
            if self.realigned and first_resolver is None and inputs.motion is None:
                warn_if_not_realigned(
                    reader,
                    run_basics.motion.boldref,
                    run_basics.brain.bold_mask,
                    run_basics.n_dummy,
                )
            baselines = self._list_baselines(
                has_guide=inputs.guide is not None, with_acquired=bool(compared)
            )
            learned = {} if inputs.truth is not None else _list_learned(series)
            run = prepare_run(
                reader,
                run_basics,
                self._add_guide_position(inputs, first_resolver),
                settings,
                baselines,
                list(compared),
                tests_detail=bool(learned),
            )
            roi_hr = load_region(run, folder)
            model = model_run(run, confounds)
            all_series = make_baselines(run, folder)
            image_dir = folder / "series"
            image_dir.mkdir()  # A series may have the name of another image.
            all_series |= resample_other_series(run, compared, image_dir)
            for name, source in series.items():
                if isinstance(source, SuperResolver) and inputs.truth is None:
                    # Without a reference, only the test at half the resolution is computed.
                    _check_fit(name, source, reader, settings.factor)
                    continue
                evaluated_series = self._open_series(name, source, run, reader, image_dir)
                open_files.enter_context(evaluated_series.series)
                all_series[name] = evaluated_series
            detail_tests = measure_detail(run, model, learned, folder) if learned else None
            self._metric_rows, self.verdict_ = evaluate_series(
                run,
                model,
                roi_hr,
                all_series,
                {name: name not in unapplied_names for name in series},
                detail_tests,
                folder,
            )
        for name in unapplied_names:
            text = (
                f"{name} was not applied to this run. The series is identical to zero filling "
                "(zerofill) and is excluded from the comparisons."
            )
            warnings.warn(text, SuperResolutionWarning, stacklevel=4)
        self.contrasts_: Contrasts = settings.contrasts
        self.detail_ = tabulate_support(
            self._metric_rows,
            {name: _NOT_APPLIED if name in unapplied_names else "" for name in learned},
            list(settings.contrasts),
            settings.smoothing,
            None if detail_tests is None else detail_tests.self_test,
        )
        self.compared_ = self.verdict_.pop("compared", [])
        if inputs.roi is None:
            self._metric_rows = [row for row in self._metric_rows if row.region != "roi"]
        self._evaluated_names = [*series, *compared]
        self.table_ = make_table(self._metric_rows)
        return self

    def _fit_basics(
        self,
        reader: SeriesReader,
        inputs: RunInputs,
        folder: Path,
        factor: Factor,
        first_resolver: SuperResolver | None,
    ) -> RunBasics:
        """Return dummies, head motion and brain of a run, from the first estimator if possible."""
        n_dummy, previous = self.n_dummy, None
        if first_resolver is not None:
            if n_dummy == "auto":
                n_dummy = first_resolver.n_dummy_
            if first_resolver.factor_ == factor:
                previous = first_resolver._learned.basics
        return fit_basics(
            reader,
            inputs,
            folder,
            factor=factor,
            n_dummy=n_dummy,
            realigned=self.realigned,
            previous=previous,
        )

    def _check_inputs(
        self,
        reader: SeriesReader,
        compared: Mapping[str, ImageLike],
        inputs: RunInputs,
        folder: Path,
    ) -> None:
        """Raise an error if inputs do not match the run, before processing."""
        evaluation_inputs.check_inputs(
            reader,
            compared,
            inputs,
            folder,
            factor=parse_factor(self.factor),
            tr=reader.tr,
            design=self._make_design(),
            contrasts=self.contrasts or (),
        )

    def _make_design(self) -> DesignSettings:
        """Return the options of the design of the linear models."""
        return DesignSettings(high_pass=self.high_pass, start_time=self.start_time)

    def _make_settings(self, reader: SeriesReader, inputs: RunInputs) -> EvaluationSettings:
        """Return the settings of the evaluation of a run."""
        return EvaluationSettings(
            factor=parse_factor(self.factor),
            tr=reader.tr,
            contrasts=evaluation_inputs.parse_contrasts(
                inputs, self.contrasts or (), self._make_design(), reader.shape[3], reader.tr
            ),
            design=self._make_design(),
            registered=self.registered,
            smoothing=self._list_widths(),
            margin=self.margin,
            seed_radius_mm=self.seed_radius_mm,
            n_boot=self.n_boot,
            random_seed=self.random_state,
            omp_nthreads=self.n_jobs,
            audience=self._audience,
        )

    def _list_widths(self) -> Sequence[float]:
        """Return the smoothing of the effects whose detail is tested (FWHM, mm)."""
        return (0.0,)

    def _list_baselines(self, *, has_guide: bool, with_acquired: bool) -> list[str]:
        """Return the names of the baselines of the run."""
        if self.baselines is None:
            names = [name for name in DEFAULT_BASELINES if has_guide or name not in PAIR_BASELINES]
        else:
            names = list(dict.fromkeys(["bspline", *self.baselines]))
        if with_acquired and ACQUIRED_BAND not in names:
            names.append(ACQUIRED_BAND)
        if unknown := [name for name in names if name not in BASELINES]:
            raise ImageInputError(
                f"baselines: unknown baseline {', '.join(unknown)}. Choose from "
                f"{', '.join(BASELINES)}."
            )
        return names

    @staticmethod
    def _add_guide_position(inputs: RunInputs, first_resolver: SuperResolver | None) -> RunInputs:
        """Return the inputs, with the guide position that the first estimator found."""
        registered_guide = (
            None if first_resolver is None else first_resolver._learned.registered_guide
        )
        if registered_guide is None:
            return inputs
        (xfm,) = registered_guide.guide.highres2boldref_xfm
        return replace(inputs, guide_xfm=xfm)

    @staticmethod
    def _open_series(
        name: str,
        source: ImageLike | SuperResolver,
        run: EvaluatedRun,
        acquired: SeriesReader,
        folder: Path,
    ) -> ComputedSeries:
        """Open a series that was passed, or compute it with its estimator."""
        brain = run.fitted_run.registration.bold_mask_hr
        image: ImageLike
        if isinstance(source, SuperResolver):
            target = folder / f"{name}_bold.nii"
            source.transform(str(acquired.path), out_file=target)
            image = str(target)
        else:
            image = source
        file = evaluation_inputs.check_series(brain, image, acquired.shape[3], folder, name)
        return ComputedSeries(name=name, series=open_with_tr(file, run.settings.tr), mask=brain)

    def evaluate(
        self, acquired: ImageLike | Sequence[ImageLike], **fit_params: object
    ) -> pd.DataFrame:
        """Call `fit`, and return the table.

        Parameters
        ----------
        acquired : ImageLike | Sequence[ImageLike]
            Acquired series (4D), or list of several runs.
        **fit_params : object
            Further arguments of `fit`.

        Returns
        -------
        pd.DataFrame
            Evaluation table, one value per row.
        """
        return self.fit(acquired, **fit_params).table_  # type: ignore[arg-type]

    def summary(self) -> str:
        """Summarize each run: large motion, methods not applied, verdict and limitations.

        Returns
        -------
        str
            Several lines per run.
        """
        check_is_fitted(self)
        if self.runs_:
            return "\n\n".join(
                f"Run {run}\n{evaluator.summary()}" for run, evaluator in enumerate(self.runs_, 1)
            )
        lines = [*(compared["text"] for compared in self.compared_), verdict_line(self.verdict_)]
        sections = evaluation_inputs.list_evidence_and_limits(self.verdict_)
        for heading, sentences in sections.items():
            if sentences:
                lines += [f"\n{heading}", *(f"- {sentence}" for sentence in sentences)]
        return "\n".join(lines)

    def generate_report(self) -> HtmlReport:
        """Return a self-contained page per run: summary, agreement of all series, and table.

        Returns
        -------
        HtmlReport
            Page to save, open in the browser, or show in a notebook.
        """
        from bids_sr.api.html_report import render_evaluation, render_page

        check_is_fitted(self)
        runs = self.runs_ or [self]
        contents = [
            render_evaluation(
                evaluator._metric_rows,
                evaluator.verdict_,
                list(evaluator.contrasts_),
                evaluator.table_,
                evaluator.detail_,
                evaluator.compared_,
            )
            for evaluator in runs
        ]
        evaluated_names = dict.fromkeys(
            name for evaluator in runs for name in evaluator._evaluated_names
        )
        return render_page(
            f"Accuracy of {', '.join(evaluated_names)}",
            contents,
            is_doubtful=not all(
                any(
                    facts["status"] in ("more accurate", "recovered")
                    for facts in (evaluator.verdict_, *evaluator.compared_)
                )
                for evaluator in runs
            ),
        )

    report = generate_report


def _list_learned(series: Mapping[str, ImageLike | SuperResolver]) -> dict[str, LearnedRun]:
    """Return the results of the fit of estimators whose method has a prior, by series."""
    return {
        name: source._learned
        for name, source in series.items()
        if isinstance(source, SuperResolver) and source._learned.has_prior
    }


def _check_fit(name: str, resolver: SuperResolver, reader: SeriesReader, factor: Factor) -> None:
    """Raise ImageInputError if an estimator was fitted to another run or with another factor."""
    resolver._find_poses(reader, None)
    if resolver.factor_ != factor:
        raise ImageInputError(
            f"series: {name} was fitted with factor {resolver.factor_}, but factor is {factor}. "
            "Use the same factor."
        )


def _join_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of all runs in one table, whose first column is the run (from 1)."""
    table = pd.concat(dict(enumerate(tables, 1)), names=["run", None])
    return table.reset_index("run").reset_index(drop=True)


def _inspect_resolvers(
    series: Mapping[str, ImageLike | SuperResolver],
) -> tuple[SuperResolver | None, list[str]]:
    """Return the first estimator, and the names of estimators whose method was not applied.

    The first estimator is None if all series are images; NotFittedError is raised if it is not
    fitted.
    """
    resolvers = {
        name: source for name, source in series.items() if isinstance(source, SuperResolver)
    }
    first_resolver = next(iter(resolvers.values()), None)
    if first_resolver is not None:
        check_is_fitted(first_resolver)
    return first_resolver, [name for name, resolver in resolvers.items() if not resolver.applied_]
