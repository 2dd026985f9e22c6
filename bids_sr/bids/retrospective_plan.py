"""Plan of ``--retrospective`` from headers: size, pair and lost volumes of each run.

The sizes and pairs are those of the downsampled runs.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from bids_sr.bids.findings import Findings
from bids_sr.bids.headers import LEAST_MATRIX
from bids_sr.bids.inputs import DEFAULT_FACTOR, BoldRun, Pair, Subject, Truth, entities_of
from bids_sr.config import Settings
from bids_sr.io.image_header import Triple

_LEAST_AVERAGED, _SHARE_AVERAGED = 10, 0.1  # volumes whose mean stands for a T2*-weighted image
_LEAST_KEPT = 10  # volumes of what is worked on
_ONE_AT_A_TIME = (
    "Run them apart, each with its own output directory: --session-label, --task-id or --run-id."
)


def retrospective_factor(settings: Settings) -> Triple:
    """By how much the BOLD is downsampled: ``--sr-factor`` in plane, 2 where it is not given.

    Downsampled over measured voxel size along each axis, 1 along slices.
    """
    factor = settings.superres.factor or DEFAULT_FACTOR
    return factor, factor, 1.0


def averaged(run: BoldRun) -> int:
    """Number of volumes whose mean takes the place of the high-resolution image of a pair."""
    return max(_LEAST_AVERAGED, math.ceil(_SHARE_AVERAGED * run.n_volumes))


def pair_place(pair: Pair) -> tuple[str | None, str | None]:
    """Session and number of a pair, which name its images.

    Labels of the entities ``ses`` and ``run`` of the high-resolution image, or None.
    """
    labels = entities_of(pair.highres)
    return labels.get("session"), labels.get("run")


def makers(subject: Subject) -> dict[str | None, BoldRun]:
    """Return, by session, the first run without a pair, which makes the pair for all.

    The pair is made from the mean of the first volumes of that run.

    Run by label of its session; empty where all runs have pairs.
    """
    found: dict[str | None, BoldRun] = {}
    for run in subject.runs:
        if run.pair is None:
            found.setdefault(run.entities.get("session"), run)
    return found


def left_out(run: BoldRun, subject: Subject, settings: Settings) -> int:
    """Return the number of initial volumes that a run gives up.

    These are dummy scans, where their number is given, and the volumes that make a pair.
    """
    makes = any(run is maker for maker in makers(subject).values())
    return (settings.preprocessing.dummy_scans or 0) + (averaged(run) if makes else 0)


def check_retrospective(subject: Subject, settings: Settings, found: Findings) -> None:
    """Refuse runs with too little left, or whose pairs would share names in one data set."""
    for run, coarse in zip(subject.runs, foreseen(subject, settings).runs, strict=True):
        kept, reason = max(0, run.n_volumes - left_out(run, subject, settings)), ""
        if kept < _LEAST_KEPT:
            reason = (
                f"only {kept} of its {run.n_volumes} volumes would be left besides those averaged"
                " to make a pair"
            )
        elif min(coarse.shape[:2]) < LEAST_MATRIX:
            reason = (
                f"its downsampled copy would have {coarse.shape[0]} × {coarse.shape[1]} voxels in"
                " plane"
            )
        if reason:
            fix = (
                "Leave this run out (--task-id, --run-id), or --retrospective; the method needs"
                " more of a run."
            )
            found.refuse(run.bold, f"--retrospective: {reason}", fix)
    places: dict[tuple[str | None, str | None], Pair] = {}
    for pair in (*subject.pairs, *subject.holdouts.values()):
        first = places.setdefault(pair_place(pair), pair)
        if first != pair:
            reason = (
                f"--retrospective: one session has pairs of two kinds ({first.highres.name} too)"
            )
            found.refuse(pair.highres, reason, _ONE_AT_A_TIME)
    for session, maker in makers(subject).items():
        for run in subject.runs:
            if run.entities.get("session") != session:
                continue
            if run.pair is not None:
                reason = (
                    f"--retrospective: it has a pair, and {maker.stem} of the same session has"
                    " none"
                )
                found.refuse(run.bold, reason, _ONE_AT_A_TIME)
            elif any(abs(a / b - 1) > 0.02 for a, b in zip(run.zooms, maker.zooms, strict=True)):
                reason = (
                    f"its voxels differ from those of {maker.stem}, and one pair has to serve both"
                )
                found.refuse(run.bold, f"--retrospective: {reason}", _ONE_AT_A_TIME)


def foreseen(subject: Subject, settings: Settings) -> Subject:
    """Return the participant as downsampled, for estimates; paths remain those of the data.

    A run of which nothing is left, which is refused, counts as one volume.

    Participant with smaller runs, each with a pair and its measured series as truth.
    """
    factor = retrospective_factor(settings)

    def downsampled(run: BoldRun) -> BoldRun:
        nx, ny, nz = (max(1, int(n / f)) for n, f in zip(run.shape, factor, strict=True))
        dx, dy, dz = (zoom * f for zoom, f in zip(run.zooms, factor, strict=True))
        n_volumes = max(1, run.n_volumes - left_out(run, subject, settings))
        pair = Pair(
            highres=(run.pair.lowres or run.pair.highres) if run.pair else run.bold,
            lowres=None,
            factor=factor,
        )
        return replace(
            run,
            header=replace(run.header, shape=(nx, ny, nz, n_volumes), zooms=(dx, dy, dz)),
            factor=factor,
            pair=pair,
            holdout=None,
            truth=Truth(series=run),
        )

    return replace(subject, runs=tuple(downsampled(run) for run in subject.runs))


def as_downsampled(subjects: Sequence[Subject], settings: Settings) -> tuple[Subject, ...]:
    """Return participants as they are processed: downsampled, with ``--retrospective``.

    Participants with coarser runs, or unchanged without ``--retrospective``.
    """
    if settings.evaluation.retrospective is None:
        return tuple(subjects)
    return tuple(foreseen(subject, settings) for subject in subjects)


def tell_retrospective(subjects: Sequence[Subject], settings: Settings, found: Findings) -> None:
    """What is made, for the terminal and the report."""
    noisy = settings.evaluation.retrospective == "noisy"
    how = "with as much thermal noise as the run has" if noisy else "no noise added"
    factor = retrospective_factor(settings)[0]
    for subject in subjects:
        for run in subject.runs:
            text = (
                f"--retrospective: a copy downsampled by {factor:g} in plane ({how}) is"
                " super-resolved; the original series is the reference."
            )
            with found.about(subject.label, run.stem):
                found.tell(run.bold, text)
        for run in makers(subject).values():
            text = (
                f"there is no T2*-weighted pair: the mean of {averaged(run)} volumes at its start"
                " is used as the highres image, and they are removed from run and reference. Such"
                " a pair has the contrast, distortion and head position of the run, so it is an"
                " easier case than a real pair."
            )
            with found.about(subject.label, run.stem):
                found.tell(run.bold, text)
        for pair in subject.pairs:
            name = (pair.lowres or pair.highres).name
            text = (
                f"{name} (resolution of the BOLD) is used as the highres image, its downsampled"
                " copy as the lowres."
            )
            with found.about(subject.label):
                found.tell(pair.highres, f"--retrospective: {text}")
