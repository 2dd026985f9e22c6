"""`Evaluator`: scikit-learn estimator that tests whether super-resolved series are true."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from bids_sr.api import evaluation_inputs as given_as
from bids_sr.api.evaluated_run import (
    EvaluationSettings,
    judge_series,
    make_baselines,
    model_run,
    place_others,
    prepare_run,
    region_of,
)
from bids_sr.api.found_run import doubt_realigned, find_run
from bids_sr.api.image_inputs import (
    Dummies,
    ImageInputError,
    ImageLike,
    MaskLike,
    Motion,
    SuperResolutionWarning,
    in_plane,
    opened,
    told_once,
    working_folder,
)
from bids_sr.api.progress import notes
from bids_sr.api.run_inputs import RunInputs, Truth
from bids_sr.api.several_runs import each_run, in_lists, inputs_of_runs, is_several, of_one_run
from bids_sr.api.super_resolver import SuperResolver
from bids_sr.evaluation.advice import Audience
from bids_sr.evaluation.verdict_text import verdict_line
from bids_sr.glm.blocks import TooFewBlocks
from bids_sr.glm.contrasts import Contrasts
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import frame as frame_of
from bids_sr.pipeline.flow import Eager, series_in
from bids_sr.series import ACQUIRED_BAND, BASELINES, DEFAULT_BASELINES, PAIR_BASELINES
from bids_sr.workflows.make_series import MadeSeries

if TYPE_CHECKING:
    from bids_sr.api.html_report import HtmlReport


@dataclass(eq=False, repr=False)
class Evaluator(BaseEstimator):
    """Compare super-resolved series with baselines, by a measured series or known activation.

    Blocks of each condition are split into halves; the effect of one half is held against the
    measured effect of the other, beyond the acquired Nyquist limit as well as over all
    frequencies, that of the whole run against known activation. Without either nothing is
    compared, and the table says which series were applied alone. Interpolations and simple
    arithmetic are made and evaluated beside the series without being requested, and the summary
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
    start_time : float, optional
        Moment of a volume for which its values hold (s after its start), such as the one to which
        slice timing was corrected; the middle of TR where None.
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
    verdict_ : dict
        Headline, status, sentences and limits, as the program writes them.
    compared_ : list of dict
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

    # the command has its own
    _audience: ClassVar[Audience] = "python"
    _name: ClassVar[str] = "Evaluator.fit"

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
        confounds : DataFrame, array (t, columns) or path of a TSV, optional
            One row a volume, dummy scans too. All columns enter the linear models; of fMRIPrep's
            table head motion and its derivatives. Those of the head motion where None.
        mask : path, image or array (x, y, z), optional
            Brain on the acquired grid.
        roi : path, image or array (X, Y, Z), optional
            Region of interest on the high-resolution grid; the brain where None.
        truth : image, or mapping of contrast to image, optional
            High-resolution series (X, Y, Z, t) measured in the same run, as acquired, with its
            field of view; or known activation by contrast, in signal units, on any grid in the
            frame of the reference that covers the brain.
        guide, lowres, motion, boldref, guide_xfm : ImageLike | None, optional
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
        return self._fit(acquired, series, compared, inputs, not_applied)

    def _fit(
        self,
        acquired: ImageLike | Sequence[ImageLike],
        series: Mapping[str, ImageLike | Sequence[ImageLike] | SuperResolver] | None,
        compared: Mapping[str, ImageLike | Sequence[ImageLike]] | None,
        inputs: RunInputs,
        not_applied: Sequence[str],
    ) -> Evaluator:
        """Evaluate; for parameters see `fit`."""
        if (inputs.events is None) == (inputs.seeds is None):
            raise ImageInputError(
                "events, seeds: exactly one of these arguments is required. Pass events for a "
                "task run, or seeds for a resting-state run."
            )
        given_as.checked_names(series, not_applied, compared)
        series, compared = series or {}, compared or {}
        if (inputs.other_run is None) != (inputs.other_events is None):
            raise ImageInputError(
                "other_run, other_events: a second run can only be compared if both arguments "
                "are specified. Pass the run together with its events, or omit both."
            )
        of_series = {name: given_as.of_runs(what) for name, what in series.items()}
        by_argument = {f"series {name}": what for name, what in of_series.items()}
        by_argument |= {f"compared {name}": what for name, what in compared.items()}
        if not is_several(acquired):
            self.runs_: list[Evaluator] = []
            of_one_run(inputs, {"acquired": acquired}, by_argument)
            return self._fit_one(acquired, series, compared, inputs, not_applied)  # type: ignore[arg-type]
        n_runs = len(acquired)
        fitted = [
            clone(self)._fit(
                one,
                {name: own[f"series {name}"] for name in series},
                {name: own[f"compared {name}"] for name in compared},
                own_inputs,
                not_applied,
            )
            for one, own_inputs, own in zip(
                acquired,
                inputs_of_runs(n_runs, inputs),
                each_run(n_runs, by_argument),
                strict=True,
            )
        ]
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
        inputs: RunInputs,
        not_applied: Sequence[str],
    ) -> Evaluator:
        """Evaluate one run."""
        resolvers = {
            name: each for name, each in series.items() if isinstance(each, SuperResolver)
        }
        frame = next(iter(resolvers.values()), None)
        if frame is not None:
            check_is_fitted(frame)
        idle = [*not_applied, *(name for name, each in resolvers.items() if not each.applied_)]
        with (
            told_once(TooFewBlocks.__module__),
            working_folder() as folder,
            opened(acquired, folder, "acquired", any_order=True) as reader,
            Eager(folder, notes(self._name, self.verbose)),
        ):
            confounds = None
            if inputs.confounds is not None:
                confounds = given_as.confounds_of(inputs.confounds, reader.shape[3])
            self._check(reader, compared, inputs, folder)
            how = self._evaluation(reader, inputs)
            found = find_run(
                reader,
                inputs,
                folder,
                factor=how.factor,
                n_dummy=self.n_dummy
                if frame is None or self.n_dummy != "auto"
                else frame.n_dummy_,
                realigned=self.realigned,
                known=None
                if frame is None or frame.factor_ != how.factor
                else frame._learned.found,
            )
            if self.realigned and frame is None and inputs.motion is None:
                doubt_realigned(reader, found.motion.boldref, found.brain.bold_mask, found.n_dummy)
            names = self._baselines(
                has_guide=inputs.guide is not None, with_acquired=bool(compared)
            )
            inputs = self._with_guide(inputs, frame)
            run = prepare_run(reader, found, inputs, how, names, list(compared))
            roi_hr = region_of(run, folder)
            model = model_run(run, confounds)
            made = make_baselines(run, folder)
            images = folder / "series"
            images.mkdir()  # one of them may be called as another image is
            made |= place_others(run, compared, images)
            brain = found.brain.bold_mask_hr
            for name, what in series.items():
                file = self._made(name, what, reader, brain, images)
                made[name] = MadeSeries(
                    name=name,
                    series=series_in(file),
                    mask=brain,
                    card_file={"applied": name not in idle},
                )
            self._rows, self.verdict_ = judge_series(
                run, model, roi_hr, made, list(series), folder
            )
        for name in idle:
            text = (
                f"{name} was not applied to this run. The series is identical to zero filling "
                "(zerofill) and is excluded from the comparisons."
            )
            warnings.warn(text, SuperResolutionWarning, stacklevel=4)
        self.contrasts_: Contrasts = how.contrasts
        self.compared_ = self.verdict_.pop("compared", [])
        if inputs.roi is None:
            self._rows = [each for each in self._rows if each.region != "roi"]
        self._judged = [*series, *compared]
        self.table_ = frame_of(self._rows)
        return self

    def _check(
        self,
        reader: SeriesReader,
        compared: Mapping[str, ImageLike],
        inputs: RunInputs,
        folder: Path,
    ) -> None:
        """Refuse what does not fit the run, before any work."""
        given_as.check_inputs(
            reader,
            compared,
            inputs,
            folder,
            factor=in_plane(self.factor),
            tr=self.tr or reader.tr,
            high_pass=self.high_pass,
            contrasts=self.contrasts or (),
        )

    def _evaluation(self, reader: SeriesReader, inputs: RunInputs) -> EvaluationSettings:
        """Return how a run is evaluated."""
        tr = self.tr or reader.tr
        return EvaluationSettings(
            factor=in_plane(self.factor),
            tr=tr,
            contrasts=given_as.contrasts_of(inputs, self.contrasts or ()),
            high_pass=self.high_pass,
            start_time=tr / 2 if self.start_time is None else self.start_time,
            registered=self.registered,
            margin=self.margin,
            seed_radius_mm=self.seed_radius_mm,
            n_boot=self.n_boot,
            random_seed=self.random_state,
            omp_nthreads=self.n_jobs,
            audience=self._audience,
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
                f"baselines: unknown baseline {', '.join(wrong)}. Choose from "
                f"{', '.join(BASELINES)}."
            )
        return names

    @staticmethod
    def _with_guide(inputs: RunInputs, frame: SuperResolver | None) -> RunInputs:
        """Return what was given, with the place of the guide that the first estimator found."""
        placed = None if frame is None else frame._learned.placed
        if placed is None:
            return inputs
        (xfm,) = placed.guide.highres2boldref_xfm
        return replace(inputs, guide_xfm=xfm)

    @staticmethod
    def _made(
        name: str,
        what: ImageLike | SuperResolver,
        acquired: SeriesReader,
        brain: Volume,
        folder: Path,
    ) -> Path:
        """The file of a series that is given, or made here."""
        if isinstance(what, SuperResolver):
            target = folder / f"{name}_bold.nii"
            what.transform(str(acquired.path), out_file=target)
            what = str(target)
        return given_as.series_on(brain, what, acquired.shape[3], folder, name)

    def evaluate(
        self, acquired: ImageLike | Sequence[ImageLike], **fit_params: object
    ) -> pd.DataFrame:
        """`fit`, then the table.

        Parameters
        ----------
        acquired : ImageLike | Sequence[ImageLike]
            Series as acquired (4D), or list of several runs.
        **fit_params : object
            Further arguments of `fit`.

        Returns
        -------
        pd.DataFrame
            Evaluation table, one value a row.
        """
        return self.fit(acquired, **fit_params).table_  # type: ignore[arg-type]

    def summary(self) -> str:
        """Summarize each run: large motion, methods not applied, verdict and limitations.

        The verdict is a headline with its evidence.

        Returns
        -------
        str
            Text of several lines, for each run.
        """
        check_is_fitted(self)
        if self.runs_:
            return "\n\n".join(
                f"Run {k}\n{each.summary()}" for k, each in enumerate(self.runs_, 1)
            )
        parts = [*(each["text"] for each in self.compared_), verdict_line(self.verdict_)]
        for head, lines in given_as.evidence_and_limits(self.verdict_).items():
            if lines:
                parts += [f"\n{head}", *(f"- {line}" for line in lines)]
        return "\n".join(parts)

    def generate_report(self) -> HtmlReport:
        """Return a self-contained page per run: summary, agreement of all series and table.

        Returns
        -------
        HtmlReport
            Page to save, to open in the browser or to show in a notebook.
        """
        from bids_sr.api.html_report import evaluated, page

        check_is_fitted(self)
        runs = self.runs_ or [self]
        contents = [
            evaluated(
                each._rows, each.verdict_, list(each.contrasts_), each.table_, each.compared_
            )
            for each in runs
        ]
        judged = dict.fromkeys(name for each in runs for name in each._judged)
        return page(
            f"Accuracy of {', '.join(judged)}",
            contents,
            doubt=not all(
                "more accurate" in (one["status"] for one in (each.verdict_, *each.compared_))
                for each in runs
            ),
        )

    report = generate_report
