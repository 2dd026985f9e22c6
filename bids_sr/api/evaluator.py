"""`Evaluator`: scikit-learn estimator that tests whether super-resolved series are true."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from bids_sr.api import evaluation_inputs as given_as
from bids_sr.api.evaluated_series import JudgedRun, Model, check_inputs
from bids_sr.api.evaluation_inputs import Inputs, Truth
from bids_sr.api.image_inputs import (
    Dummies,
    ImageInputError,
    ImageLike,
    MaskLike,
    Motion,
    PreparedRun,
    Say,
    SuperResolutionWarning,
    in_plane,
    opened,
    prepare_run,
    told_tr,
    working_folder,
)
from bids_sr.api.model_fitting import Given
from bids_sr.api.several_runs import each_run, in_lists, is_several, notes, of_one_run
from bids_sr.api.super_resolver import SuperResolver
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.metrics.long_tables import MetricRow, frame
from bids_sr.series import ACQUIRED_BAND, BASELINES, DEFAULT_BASELINES, PAIR_BASELINES
from bids_sr.stats.evaluation.compared_verdict import ComparedVerdict
from bids_sr.stats.evaluation.evidence import compared_rows
from bids_sr.stats.evaluation.verdict import Verdict, make_verdict
from bids_sr.stats.evaluation.verdict_text import PYTHON, verdict_line
from bids_sr.stats.glm.confounds import framewise_displacement
from bids_sr.stats.glm.regressors import Regressors
from bids_sr.steps.judgment import judge_compared
from bids_sr.steps.super_resolution import undo_motion

if TYPE_CHECKING:
    from bids_sr.api.html_report import HtmlReport


class Evaluator(BaseEstimator):
    """Compare super-resolved series with baselines, by a measured series or known activation.

    Blocks of each condition are split into halves; the effect of one half is held against the
    measured effect of the other, beyond the acquired Nyquist limit as well as over all
    frequencies, that of the whole run against known activation. Without either nothing is
    compared, and the table says which series were applied alone. Interpolations and simple
    arithmetic are made and evaluated beside the series without being asked for, and the summary
    claims nothing that does not exceed them all.

    Parameters
    ----------
    factor : float or tuple of three, default=2
        Acquired over high-resolution voxel size, in plane, or by axis.
    tr : float, optional
        Repetition time (s); where None that of the acquired series, whose header must tell it with
        a unit.
    contrasts : sequence of str, optional
        Forms ``thumb``, ``thumb-little``, ``name=0.5*thumb-0.5*little``, ``all``; each condition,
        all and pairs where None.
    baselines : sequence of str, optional
        Series that must be beaten; where None, ``bspline``, ``zerofill``, ``sdmod`` and, with a
        guide, ``inject`` and ``ratio``. B-spline is always among them.
    high_pass : float, default=1/128
        Cut-off of the drift of the linear model (Hz).
    slice_time_ref : float, default=0.5
        Moment within a TR to which slice timing was corrected, if `slice_timing_corrected`.
    slice_timing_corrected : bool, default=False
        Whether it was.
    n_dummy : int or "auto", default="auto"
        Volumes at the start that are left out.
    realigned, registered : bool, default=False
        As of `SuperResolver`.
    margin : float, optional
        Differences within it count as none; a tenth of the gap between B-spline and measured
        series where None.
    seed_radius_mm : float, default=6.0
        Of the spheres about seeds.
    n_boot : int, default=1000
        Resamples of blocks for the 95 % intervals.
    random_state : int, default=0
        Seed of the resamples.
    n_jobs : int, default=1
        Threads.
    verbose : int, default=0
        1 prints each step as it begins, with the seconds so far.

    Attributes
    ----------
    runs_ : list of Evaluator
        Fitted evaluator of each run where `fit` was given a list; `verdict_` and `contrasts_` are
        lists then.
    table_ : pandas.DataFrame
        One value a row, with the columns of the evaluation table of the program; of several runs
        with a first column, run (from 1).
    verdict_ : object
        Headline, sentences and limits.
    compared_ : list
        Verdicts on series of other programs: name, status, headline, text.
    contrasts_ : dict
        Weights of conditions by contrast.

    Notes
    -----
    The table has what the verdict rests on. Comparisons of t maps, placebos and quality
    flags are made by ``bids-sr`` alone.

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

    _advice, _name = PYTHON, "Evaluator.fit"  # the command has its own

    def __init__(
        self,
        factor: float | tuple[float, float, float] = 2,
        *,
        tr: float | None = None,
        contrasts: Sequence[str] | None = None,
        baselines: Sequence[str] | None = None,
        high_pass: float = 1 / 128,
        slice_time_ref: float = 0.5,
        slice_timing_corrected: bool = False,
        n_dummy: Dummies = "auto",
        realigned: bool = False,
        registered: bool = False,
        margin: float | None = None,
        seed_radius_mm: float = 6.0,
        n_boot: int = 1000,
        random_state: int = 0,
        n_jobs: int = 1,
        verbose: int = 0,
    ) -> None:
        self.factor = factor
        self.tr = tr
        self.contrasts = contrasts
        self.baselines = baselines
        self.high_pass = high_pass
        self.slice_time_ref = slice_time_ref
        self.slice_timing_corrected = slice_timing_corrected
        self.n_dummy = n_dummy
        self.realigned = realigned
        self.registered = registered
        self.margin = margin
        self.seed_radius_mm = seed_radius_mm
        self.n_boot = n_boot
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self,
        acquired: ImageLike | Sequence[ImageLike],
        y: None = None,
        *,
        series: Mapping[str, ImageLike | Sequence[ImageLike] | SuperResolver] | None = None,
        compared: Mapping[str, ImageLike | Sequence[ImageLike]] | None = None,
        events: pd.DataFrame | str | Path | None = None,
        seeds: Mapping[str, Sequence[float]] | None = None,
        confounds: pd.DataFrame | None = None,
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
        """Evaluate.

        Parameters
        ----------
        acquired : path or nibabel.Nifti1Image, or list of them
            Series (x, y, z, t) as acquired, from which the baselines are made. Runs of a list are
            evaluated one by one; of every other argument, and of each entry of `series`, a list
            has one for each run, and anything else holds for all.
        y : None
            Not used.
        series : mapping of name to image or fitted SuperResolver
            What is evaluated: series on the high-resolution grid of the reference, head motion
            undone, or estimators fitted on `acquired`, which are applied. Mask, reference and head
            motion of the first estimator are used for all, unless given.
        compared : mapping of name to image, optional
            Series that other programs made of the run, on the acquired grid or a finer one of its
            field of view, head motion undone or not (that is measured): is each more accurate than
            the acquired series?
        events : DataFrame or path, optional
            BIDS events: onset, duration (s), trial_type.
        seeds : mapping of name to (x, y, z), optional
            In the place of events: centers in scanner coordinates (RAS mm), for runs at rest.
        confounds : DataFrame, optional
            One row a volume with the columns ``trans_x`` ... ``rot_z`` and their ``_derivative1``,
            which enter the linear model; those of the head motion where None.
        mask : path, image or array (x, y, z), optional
            Brain on the acquired grid.
        roi : path, image or array (X, Y, Z), optional
            Region of interest on the high-resolution grid; the brain where None.
        truth : image, or mapping of contrast to image, optional
            High-resolution series (X, Y, Z, t) measured in the same run, as acquired, with its
            field of view; or known activation by contrast, in signal units, on any grid in the
            frame of the reference that covers the brain.
        guide, lowres, guide_xfm, motion, boldref
            As of `SuperResolver.fit`, for the baselines.
        other_run, other_events : image and events, optional
            Another acquired run of the same task, a reference for `compared` within the acquired
            band.
        not_applied : sequence of str
            Series given as images whose method fell back to zero filling; they are named and not
            compared.

        Returns
        -------
        Evaluator
            Itself.

        Raises
        ------
        ImageInputError
            Names, grids, fields of view or numbers of volumes that do not fit, no repetition time,
            or neither events nor seeds.
        TooFewBlocks
            No condition has two blocks inside the run.
        """
        if (events is None) == (seeds is None):
            raise ImageInputError(
                "events, seeds: give one of them, events of a task or seeds of a run at rest"
            )
        given_as.checked_names(series, not_applied, compared)
        series, compared = series or {}, compared or {}
        if (other_run is None) != (other_events is None):
            raise ImageInputError(
                "other_run, other_events: give both, the run and its events, or neither"
            )
        given: dict[str, object] = {
            "events": events,
            "seeds": seeds,
            "confounds": confounds,
            "mask": mask,
            "roi": roi,
            "truth": truth,
            "guide": guide,
            "lowres": lowres,
            "motion": motion,
            "boldref": boldref,
            "guide_xfm": guide_xfm,
            "other_run": other_run,
            "other_events": other_events,
        }
        made = {f"series {name}": given_as.of_runs(what) for name, what in series.items()}
        made |= {f"compared {name}": what for name, what in compared.items()}
        if not is_several(acquired):
            self.runs_: list[Evaluator] = []
            of_one_run({"acquired": acquired, **given, **made})
            return self._fit_one(acquired, series, compared, Inputs(**given), not_applied)  # type: ignore[arg-type]
        fitted = []
        for one, own in each_run(acquired, {**given, **made}):
            of_run = {name: own.pop(f"series {name}") for name in series}
            others = {name: own.pop(f"compared {name}") for name in compared}
            fitted.append(
                clone(self).fit(
                    one, series=of_run, compared=others, not_applied=not_applied, **own
                )
            )
        self.runs_ = fitted
        self.__dict__.update(in_lists(fitted, ("verdict_", "compared_", "contrasts_")))
        self.table_ = (
            pd.concat({k: each.table_ for k, each in enumerate(fitted, 1)}, names=["run", None])
            .reset_index("run")
            .reset_index(drop=True)
        )
        return self

    def _fit_one(
        self,
        acquired: ImageLike,
        series: Mapping[str, ImageLike | SuperResolver],
        compared: Mapping[str, ImageLike],
        given: Inputs,
        not_applied: Sequence[str],
    ) -> Evaluator:
        """Evaluate one run."""
        say = notes(self._name, self.verbose)
        resolvers = {
            name: each for name, each in series.items() if isinstance(each, SuperResolver)
        }
        frame = next(iter(resolvers.values()), None)
        if frame is not None:
            check_is_fitted(frame)
        with (
            working_folder() as folder,
            opened(acquired, folder, "acquired", any_order=True) as reader,
        ):
            say("inputs")
            model = self._model(reader)
            check_inputs(reader, compared, given, model, folder)
            run = self._run(reader, folder, frame, given, say)
            regressors = self._regressors(reader, run, given, folder)
            brain = run.fine_brain(model.factor)
            judged = JudgedRun(
                reader.path, run, brain, given, regressors, model, list(compared), folder
            )
            say("baselines")
            baselines = self._baselines(
                has_guide=given.guide is not None, with_acquired=bool(compared)
            )
            judged.add_baselines(baselines, self._guide(given, frame))
            facts = []
            for name, other in compared.items():
                say(f"compared {name}")
                facts.append(judged.place(name, other))
            for name, what in series.items():
                say(f"series {name}")
                judged.add(
                    name, self._made(name, what, reader.path, brain, len(run.poses), folder)
                )
            say(f"effects and comparison of {len(baselines) + len(compared) + len(series)} series")
            rows, widths = judged.measure(say)
        self.contrasts_ = judged.contrasts
        self.compared_: list[ComparedVerdict] = judge_compared(
            rows,
            list(compared),
            facts,
            widths,
            margin=self.margin,
            advice=self._advice,
        )
        idle = [*not_applied, *(name for name, each in resolvers.items() if not each.applied_)]
        self._judge(rows, list(series), list(baselines), idle, run)
        return self

    def _model(self, reader: SeriesReader) -> Model:
        """How effects of the run are modeled."""
        return Model(
            factor=in_plane(self.factor),
            tr=self.tr or told_tr(reader.header),
            contrasts=self.contrasts or (),
            high_pass=self.high_pass,
            slice_time_ref=self.slice_time_ref,
            n_jobs=self.n_jobs,
            slice_timing_corrected=self.slice_timing_corrected,
            n_boot=self.n_boot,
            random_state=self.random_state,
        )

    def _regressors(
        self, reader: SeriesReader, run: PreparedRun, given: Inputs, folder: Path
    ) -> Regressors:
        """Return the events, or the seed time series of the motion-corrected acquired series."""
        if given.seeds is None:
            return given_as.events_of(given.events)
        with undo_motion(reader, run.boldref, run.poses, here=folder) as raw:
            return given_as.seeds_of(raw, given.seeds, run, self.seed_radius_mm)

    def _run(
        self,
        reader: SeriesReader,
        folder: Path,
        frame: SuperResolver | None,
        given: Inputs,
        say: Say,
    ) -> PreparedRun:
        """Reference, brain and head motion: given, else of the first estimator, else found."""
        boldref, motion, mask = given.boldref, given.motion, given.mask
        if frame is not None:
            boldref = frame.boldref_ if boldref is None else boldref
            motion = frame.motion_ if motion is None else motion
            mask = frame.mask_img_ if mask is None else mask
        dummies = self.n_dummy if frame is None or self.n_dummy != "auto" else frame.n_dummy_
        return prepare_run(
            reader,
            folder,
            mask=mask,
            boldref=boldref,
            motion=motion,
            realigned=self.realigned,
            n_dummy=dummies,
            say=say,
        )

    def _baselines(self, *, has_guide: bool, with_acquired: bool) -> list[str]:
        """Names of the baselines of the run."""
        names = list(
            DEFAULT_BASELINES
            if self.baselines is None
            else dict.fromkeys(["bspline", *self.baselines])
        )
        names += [ACQUIRED_BAND] if with_acquired and ACQUIRED_BAND not in names else []
        if self.baselines is None and not has_guide:
            names = [name for name in names if name not in PAIR_BASELINES]
        if wrong := [name for name in names if name not in BASELINES]:
            raise ImageInputError(
                f"baselines: {', '.join(wrong)}; there are {', '.join(BASELINES)}"
            )
        return names

    def _guide(self, given: Inputs, frame: SuperResolver | None) -> Given:
        """Return the image that gives the baselines their detail, and its transform.

        The transform is the one that the first estimator found, unless one is given.
        """
        known = None if frame is None or frame._guide is None else frame._guide.from_boldref
        return Given(
            guide=given.guide,
            lowres=given.lowres,
            guide_xfm=given.guide_xfm if known is None else known,
            registered=self.registered,
        )

    @staticmethod
    def _made(
        name: str,
        what: ImageLike | SuperResolver,
        acquired: Path,
        brain: Volume,
        n_volumes: int,
        folder: Path,
    ) -> Path:
        """The file of a series that is given, or made here."""
        if isinstance(what, SuperResolver):
            target = folder / f"{name}_bold.nii"
            what.transform(str(acquired), out_file=target)
            what = str(target)
        return given_as.series_on(brain, what, n_volumes, folder, name)

    def _judge(
        self,
        rows: list[MetricRow],
        methods: list[str],
        baselines: list[str],
        idle: list[str],
        run: PreparedRun,
    ) -> None:
        """Verdict and table."""
        for name in idle:
            text = f"{name} was not applied: its series is that of zerofill, and not compared"
            warnings.warn(text, SuperResolutionWarning, stacklevel=4)
        self.verdict_: Verdict = make_verdict(
            rows,
            methods=methods,
            baselines=baselines,
            margin=self.margin,
            not_applied=idle,
            advice=self._advice,
            displacement=framewise_displacement(run.params).tolist(),
        )
        told = [row for each in self.compared_ for row in each.rows]
        self._kept = compared_rows([*rows, *self.verdict_.rows, *told])
        self.table_ = frame(self._kept)

    def evaluate(
        self, acquired: ImageLike | Sequence[ImageLike], **fit_params: object
    ) -> pd.DataFrame:
        """`fit`, then the table."""
        return self.fit(acquired, **fit_params).table_  # type: ignore[arg-type]

    def summary(self) -> str:
        """Summarize each run: large motion, methods not applied, verdict and limitations.

        The verdict is a headline with its evidence.
        """
        check_is_fitted(self)
        if self.runs_:
            return "\n\n".join(
                f"Run {k}\n{each.summary()}" for k, each in enumerate(self.runs_, 1)
            )
        verdict = self.verdict_
        parts = [*(each.text for each in self.compared_), verdict_line(verdict.to_json())]
        told = {
            "Evidence": [sentence.text for sentence in verdict.sentences],
            "Limitations": verdict.limits,
        }
        for head, lines in told.items():
            if lines:
                parts += [f"\n{head}", *(f"- {line}" for line in lines)]
        return "\n".join(parts)

    def generate_report(self) -> HtmlReport:
        """Return a self-contained page per run: summary, agreement of all series and table."""
        from bids_sr.api.html_report import evaluated, page

        check_is_fitted(self)
        runs = self.runs_ or [self]
        contents = [
            evaluated(
                each._kept, each.verdict_, list(each.contrasts_), each.table_, each.compared_
            )
            for each in runs
        ]
        return page(
            "Evaluator",
            contents,
            doubt=not all(
                "more accurate" in (each.verdict_.status, *(one.status for one in each.compared_))
                for each in runs
            ),
        )

    report = generate_report
