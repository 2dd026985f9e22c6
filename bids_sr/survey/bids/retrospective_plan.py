"""Plan of ``--retrospective`` from headers: size, pair and removed volumes of each run.

Sizes and pairs refer to the downsampled runs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bids_sr.config import Settings
from bids_sr.io.grids import Factor
from bids_sr.io.notices import Notice
from bids_sr.sr.method import get_method
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.headers import MIN_MATRIX
from bids_sr.survey.bids.inputs import DEFAULT_FACTORS, BoldRun, HighresReference, Pair, Subject
from bids_sr.survey.bids.pairs import factor_text
from bids_sr.survey.bids.pretrained_models import factor_without_pair
from bids_sr.survey.notices import attribute, note, problem, warning

# minimum number, and share, of the volumes that are averaged as T2*-weighted image
_MIN_AVERAGED, _AVERAGED_SHARE = 10, 0.1
_MIN_REMAINING = 10  # minimum number of volumes that remain for processing
_MIN_SLICES = 2  # minimum number of slices of a run that was downsampled across slices
_MAX_ZOOM_DIFFERENCE = 0.02  # largest relative difference of voxel sizes of runs with one pair
_SEPARATE_CALLS_FIX = (
    "Process these runs in separate calls with different output directories, using"
    " --session-label, --task-id or --run-id."
)


def _refuse_small_runs(subject: Subject, settings: Settings) -> Iterator[Notice]:
    """Reject runs that become too small."""
    downsampled_runs = downsampled_subject(subject, settings).runs
    for run, downsampled in zip(subject.runs, downsampled_runs, strict=True):
        n_volumes = max(0, run.n_volumes - n_removed_volumes(run, subject, settings))
        if reason := _explain_too_small(run, downsampled, n_volumes):
            fix = "Exclude this run (--task-id, --run-id), or omit --retrospective."
            yield problem(run.bold, f"--retrospective: {reason}", fix)


def _refuse_several_pairs(subject: Subject, _settings: Settings) -> Iterator[Notice]:
    """Reject pairs that would get the same name."""
    pair_by_labels: dict[tuple[str | None, str | None], Pair] = {}
    for pair in (*subject.pairs, *subject.holdouts.values()):
        first_pair = pair_by_labels.setdefault(pair_labels(pair), pair)
        if first_pair != pair:
            yield problem(
                pair.highres,
                "--retrospective supports only one pair per session, but another pair was found"
                f" ({first_pair.highres.name})",
                _SEPARATE_CALLS_FIX,
            )


def _explain_too_small(run: BoldRun, downsampled: BoldRun, n_volumes: int) -> str:
    """Return why the downsampled copy of a run with `n_volumes` is too small, "" if it is not."""
    nx, ny, nz = downsampled.shape
    if n_volumes < _MIN_REMAINING:
        return (
            f"only {n_volumes} of {run.n_volumes} volumes remain after removal of dummy scans"
            f" and the volumes averaged to create a pair, but at least {_MIN_REMAINING} are"
            " required"
        )
    if min(nx, ny) < MIN_MATRIX:
        return (
            f"the downsampled copy would have {nx} × {ny}"
            f" in-plane voxels, but at least {MIN_MATRIX} × {MIN_MATRIX} are required"
        )
    if nz < _MIN_SLICES and downsampled.factor[2] != 1:
        return (
            f"the downsampled copy would have {nz} slice(s), but at least {_MIN_SLICES} are"
            " required"
        )
    return ""


def pair_labels(pair: Pair) -> tuple[str | None, str | None]:
    """Return the ``ses`` and ``run`` labels of the high-resolution image of a pair, or None."""
    labels = parse_entities(pair.highres)
    return labels.get("session"), labels.get("run")


def _judge_shared_pairs(subject: Subject, _settings: Settings) -> Iterator[Notice]:
    """Reject runs that cannot share the pair computed from another run of their session."""
    for session, source in select_pair_sources(subject).items():
        for run in subject.runs:
            if run.entities.get("session") != session:
                continue
            if run.pair is not None:
                yield problem(
                    run.bold,
                    "--retrospective requires that all runs of a session have a pair or that"
                    f" none has, but {source.stem} has no pair",
                    _SEPARATE_CALLS_FIX,
                )
            elif any(
                abs(zoom / source_zoom - 1) > _MAX_ZOOM_DIFFERENCE
                for zoom, source_zoom in zip(run.zooms, source.zooms, strict=True)
            ):
                yield problem(
                    run.bold,
                    f"--retrospective: the voxel sizes differ from {source.stem}, but the two runs"
                    " share one T2*-weighted pair",
                    _SEPARATE_CALLS_FIX,
                )


RETROSPECTIVE_RULES = (_refuse_small_runs, _refuse_several_pairs, _judge_shared_pairs)
"""Rules on a participant and the settings of a call with ``--retrospective``."""


def as_downsampled(subjects: Sequence[Subject], settings: Settings) -> tuple[Subject, ...]:
    """Return the participants as they are processed: downsampled with ``--retrospective``."""
    if settings.evaluation.retrospective is None:
        return tuple(subjects)
    return tuple(downsampled_subject(subject, settings) for subject in subjects)


def downsampled_subject(subject: Subject, settings: Settings) -> Subject:
    """Return the participant after downsampling, for estimates.

    Paths still refer to the original files. Each run gets a pair, and the measured series as
    reference. A run without remaining volumes, which is rejected, counts as one volume.
    """
    runs = tuple(_downsample_run(run, subject, settings) for run in subject.runs)
    return replace(subject, runs=runs)


def _downsample_run(run: BoldRun, subject: Subject, settings: Settings) -> BoldRun:
    """Return a run of a participant after downsampling."""
    factor = retrospective_factor(settings)
    nx, ny, nz = (
        max(1, int(size / axis_factor))
        for size, axis_factor in zip(run.shape, factor, strict=True)
    )
    dx, dy, dz = (zoom * axis_factor for zoom, axis_factor in zip(run.zooms, factor, strict=True))
    n_volumes = max(1, run.n_volumes - n_removed_volumes(run, subject, settings))
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
        truth=HighresReference(series=run),
    )


def n_removed_volumes(run: BoldRun, subject: Subject, settings: Settings) -> int:
    """Return the number of initial volumes that are removed from a run.

    These are dummy volumes, if their number is given, and volumes that are averaged for a pair.
    """
    n_dummies = settings.preprocessing.dummy_scans or 0
    is_pair_source = any(run is source for source in select_pair_sources(subject).values())
    return n_dummies + (n_averaged_volumes(run) if is_pair_source else 0)


def note_retrospective(subjects: Sequence[Subject], settings: Settings) -> Iterator[Notice]:
    """Report the planned downsampling and pairs, for the terminal and the report.

    A warning is added if a network is trained with another operator than the operator of the data.
    """
    yield from _warn_of_other_operators(settings)
    noise_text = (
        "with thermal noise added up to the level of the run"
        if settings.evaluation.retrospective == "noisy"
        else "without added noise"
    )
    downsampling = describe_downsampling(settings)
    for subject in subjects:
        for run in subject.runs:
            text = (
                f"--retrospective: the run is downsampled by {downsampling} ({noise_text}) and"
                " super-resolved. The original series is used as the high-resolution reference."
            )
            yield from attribute([note(run.bold, text)], *run.owner)
        for run in select_pair_sources(subject).values():
            text = (
                "no T2*-weighted pair was found, so the mean of the first"
                f" {n_averaged_volumes(run)} volumes of the run is used as the highres image."
                " These volumes are removed from the run and from the reference. This pair has the"
                " contrast, distortion and head position of the run, so it is easier to"
                " super-resolve than a separately acquired pair."
            )
            yield from attribute([note(run.bold, text)], *run.owner)
        for pair in subject.pairs:
            name = (pair.lowres or pair.highres).name
            text = (
                f"{name}, which has the resolution of the BOLD run, is used as the highres image,"
                " and its downsampled copy is used as the lowres image."
            )
            yield from attribute([note(pair.highres, f"--retrospective: {text}")], subject.label)


def _warn_of_other_operators(settings: Settings) -> Iterator[Notice]:
    """Warn of networks trained without high-resolution images that assume another operator."""
    operator, recipe_name = settings.evaluation.retrospective_operator, settings.superres.recipe
    for name in settings.superres.learned:
        recipe = get_method(name).recipes.get(recipe_name)
        if recipe is None or recipe.objective != "self" or recipe.degradation == operator:
            continue
        yield warning(
            f"--sr-method {name}",
            f"recipe {recipe_name} is trained with the operator {recipe.degradation}, but"
            f" --retrospective downsamples the data with the operator {operator}, which can make"
            f" {name} less accurate than interpolation. To use one operator, add --set"
            f" evaluation.retrospective_operator={recipe.degradation}",
        )


def describe_downsampling(settings: Settings) -> str:
    """Return factor and operator of the downsampling as text."""
    factor = retrospective_factor(settings)
    if settings.evaluation.retrospective_operator == "trilinear":
        x, y, z = factor
        return f"factor {x:g}×{y:g}×{z:g}, trilinear interpolation"
    return f"{factor_text(factor)}, crop of k-space"


def retrospective_factor(settings: Settings) -> Factor:
    """Return the downsampling factor along each axis.

    The factor is taken from ``--sr-factor`` or the given models, and is 2 in-plane otherwise.
    """
    return factor_without_pair(settings.superres) or DEFAULT_FACTORS


def select_pair_sources(subject: Subject) -> dict[str | None, BoldRun]:
    """Return, by session, the first run without a pair, which provides the session's pair.

    The high-resolution image of the pair is the mean of the run's first volumes.
    """
    source_by_session: dict[str | None, BoldRun] = {}
    for run in subject.runs:
        if run.pair is None:
            source_by_session.setdefault(run.entities.get("session"), run)
    return source_by_session


def n_averaged_volumes(run: BoldRun) -> int:
    """Return the number of volumes that are averaged as high-resolution image of a pair."""
    return max(_MIN_AVERAGED, math.ceil(_AVERAGED_SHARE * run.n_volumes))
