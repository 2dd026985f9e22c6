"""First part of a participant's page: the combined map of all runs, with its error."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from itertools import compress
from operator import attrgetter

from markupsafe import Markup

from bids_sr.engine.metric_rows import MISSING
from bids_sr.engine.number_text import number
from bids_sr.evaluation.result import RunResult
from bids_sr.io.frozen import frozen
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.io.word_lists import enumerate_words
from bids_sr.report.first_screen import (
    ContrastView,
    UseRow,
    make_first_screen,
    render_first_screen,
)
from bids_sr.report.markup import ColumnHead, join, render, table
from bids_sr.report.sections import run_text

NO_MAP_ADVICE = (
    "To combine runs, correct the differences (such as names, events, or voxel size), or exclude"
    " runs with --run-id, --session-label or --task-id, then rerun the command."
)
"""Advice if there is no map of all runs."""
LARGEST_EFFECTS = 0.05
"""Part of the described voxels whose effects count as the largest."""
MIN_SHARE_OF_RUN = 0.5
"""Number of significant voxels of the combined map, relative to a run, below which the check
fails.
"""
MIN_CHECKED_VOXELS = 50
"""Smallest number of significant voxels of a run that is compared with the combined map."""
COVERAGE_OF_TWO = (0.94, 0.95)
"""Measured coverage of 95 % intervals of two unsmoothed runs (`participant_maps.py pairs`)."""
# difference between two intervals, relative to their width, that counts as small
_SIMILAR_SHARE = 0.1
_CM3_PER_MM3 = 1e-3


@frozen
class MapError:
    """Error and extent of one map: of a run, or of all runs combined.

    `weight` is 1 for the combined map. `noise` is the median SD of the noise, `reconstruction` the
    median SD of the reconstruction error (None if unknown), and `interval` the median half-width
    of the effect's 95 % interval (None if the interval would lack the reconstruction error).
    `largest_effects_interval` is the median half-width in the voxels with the largest effects (see
    `LARGEST_EFFECTS`). These are in percent of the mean brain signal. `significant_mm3`
    and `sign_reliable_mm3` are the volumes of significant and sign reliable voxels. The last three
    are None if they were not computed.
    """

    name: str
    weight: float
    noise: float
    reconstruction: float | None
    interval: float | None
    largest_effects_interval: float | None = None
    significant_mm3: float | None = None
    sign_reliable_mm3: float | None = None


@frozen
class ParticipantMap:
    """Facts about the combined map of all runs.

    `entities` are common entities of the runs: long names to labels. `series`, `contrast` and
    smoothing `fwhm_mm` (FWHM) describe the map, and `input_fwhm_mm` is the smoothing before
    super-resolution. `at_rest` states whether maps are of seeds instead of conditions. The first
    of the combined `runs` defines the frame of the map. `n_voxels` is the number of voxels in the
    medians, which are over the significant voxels if `in_region`; otherwise, they are over the
    brain.

    `shared` is the correlation of the reconstruction error between runs; None if the error is
    unknown. `no_error` is the reason why the reconstruction error is unknown; "" if it is known,
    or if the series has no reconstruction error. `person_interval` is the median half-width of the
    95 % interval for the participant, from the spread between runs; None if there are fewer than
    three runs.

    `left_out` has reasons by name of the excluded runs, and `not_applied` the names of combined
    runs whose series are zero filled. `shared_brain` is the part of the larger brain mask
    that a run shares with the first run, by name of the run; it contains only runs with a small
    shared part. `spaces_apart` are the grids of the runs, by output space; spaces with equal grids
    are not included. If not all runs have the same weight (`equal_weights`), weights depend on
    their noise.

    `disagreeing_runs` has reasons by name of combined runs that disagree with other runs, and
    `scales` the signal relative to the first run, by name of runs that have another scale.
    `fewer_than` is the name of a run with many more significant voxels than the combined map; ""
    if there is none. `uncombined` are phrases on contrasts that are not combined, with the reason.
    `result` is the result for the detail of the combined contrasts, and `reasons` are its reasons.
    `views` are the parts of the first screen by contrast; the first is of `contrast`.
    `place_share` is the share of the error of the registration in the variance of a contrast over
    runs; None for a mean of runs. `smallest_change` of a voxel (percent) is found with a
    probability of 80 % in such a contrast, given the median errors.
    """

    entities: Mapping[str, str]
    series: str
    contrast: str
    fwhm_mm: float
    input_fwhm_mm: float
    at_rest: bool
    runs: Sequence[MapError]
    combined: MapError
    n_voxels: int
    in_region: bool
    shared: float | None
    no_error: str
    person_interval: float | None
    left_out: Mapping[str, str]
    not_applied: Sequence[str]
    shared_brain: Mapping[str, float] = field(default_factory=dict)
    spaces_apart: Mapping[str, str] = field(default_factory=dict)
    equal_weights: bool = True
    disagreeing_runs: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    fewer_than: str = ""
    place_share: float | None = None
    smallest_change: float = math.nan
    uncombined: Sequence[str] = ()
    result: RunResult = field(default_factory=RunResult)
    reasons: Sequence[str] = ()
    views: Sequence[ContrastView] = ()


def participant_html(facts: ParticipantMap) -> Markup:
    """Render the first screen of the participant's map."""
    interval = facts.combined.interval
    error = (
        []
        if interval is None
        else [
            UseRow(
                "Error",
                text=f"median 95 % interval {_plus_minus(interval)} in {_voxels_text(facts)}",
            )
        ]
    )
    return render_first_screen(
        make_first_screen(
            title=_join_title(facts.entities, "all runs"),
            facts=_describe_runs(facts),
            result=facts.result,
            views=[
                replace(view, use=[*view.use, *error]) if view.contrast == facts.contrast else view
                for view in facts.views
            ],
            alerts=[*_left_out_sentences(facts), *_check_sentences(facts)],
        )
    )


def participant_reasons_html(facts: ParticipantMap) -> Markup:
    """Render the reasons of the answers, and the error of the participant's map."""
    sentences = [
        *facts.reasons,
        *_uncombined_sentences(facts),
        _error_sentence(facts),
        *_largest_effects_sentences(facts),
        *_repeated_error_sentences(facts),
        *_shared_brain_sentences(facts),
        *_space_sentences(facts),
        *_scale_sentences(facts),
        *_noise_sentences(facts),
        *_person_sentences(facts),
    ]
    return join([render("items", sentences), _error_table(facts)])


def _describe_runs(facts: ParticipantMap) -> str:
    """Return the runs in the map, their weights, and smoothing before super-resolution."""
    names = enumerate_words([run.name for run in facts.runs])
    weights = "equal weights" if facts.equal_weights else "weights by noise"
    text = f"mean of {len(facts.runs)} runs ({names}), {weights}"
    if facts.place_share is not None:
        terms = [f"{number(run.weight, '+.3g')} {run.name}" for run in facts.runs]
        text = f"{facts.contrast}: weighted sum of runs ({', '.join(terms)})"
    elif len(facts.runs) == 1:
        text = f"only {names}, because other runs were left out"
    smoothing = smoothing_text(facts.fwhm_mm, facts.input_fwhm_mm)
    return f"{text} · {smoothing}" if facts.input_fwhm_mm else text


def _left_out_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence on the runs that are not in the map, with the reasons; [] if all are."""
    if not facts.left_out:
        return []
    reasons = [f"{name} ({reason})" for name, reason in facts.left_out.items()]
    return [f"Left out: {'; '.join(reasons)}."]


def _uncombined_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence on contrasts that are not in the map, [] if all are."""
    if not facts.uncombined:
        return []
    return [f"Contrasts without a map of all runs: {'; '.join(facts.uncombined)}."]


def _check_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence per failed check of the combined map, [] if all checks passed."""
    sentences = [
        f"Failed check: {name} disagrees with other runs ({reason}). Check the events and the"
        " images, and exclude the run that is wrong (--run-id)."
        for name, reason in facts.disagreeing_runs.items()
    ]
    if facts.fewer_than:
        sentences.append(
            "Failed check: the map of all runs together has less than half of the significant"
            f" voxels of {facts.fewer_than}. Check whether the runs show the same task and were"
            " recorded with the right events."
        )
    return sentences


def _error_sentence(facts: ParticipantMap) -> str:
    """Return a sentence on the error of the map and its components."""
    combined = facts.combined
    phrases = [f"{_percent(combined.noise)} for the SD of the noise"]
    if combined.reconstruction is not None:
        phrases.append(
            f"{_percent(combined.reconstruction)} for the SD of the reconstruction error"
        )
    smoothing = smoothing_text(facts.fwhm_mm, facts.input_fwhm_mm)
    map_kind = "seed" if facts.at_rest else "contrast"
    subject = f"Error of the {facts.series} map ({map_kind} {facts.contrast}, {smoothing})"
    if combined.interval is None:
        return (
            f"{subject}: the median SD of the noise is {_percent(combined.noise)} of the mean"
            f" brain signal in {_voxels_text(facts)}."
        )
    return (
        f"{subject}: the median 95 % interval of the effect is"
        f" {_plus_minus(combined.interval)} of the mean brain signal in {_voxels_text(facts)},"
        f" with medians of {' and '.join(phrases)}."
    )


def _voxels_text(facts: ParticipantMap) -> str:
    """Return the voxels of the medians with their number or the reason, as text."""
    if facts.in_region:
        return f"the {facts.n_voxels:,} significant voxels (FDR .05)"
    return "the brain (because no voxel is significant at FDR .05)"


def _largest_effects_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence on the error of the voxels with the largest effects, [] if unknown."""
    interval = facts.combined.largest_effects_interval
    if interval is None:
        return []
    return [
        f"In the {number(LARGEST_EFFECTS, '.0%')} of these voxels that have the largest effects,"
        f" the median interval is {_plus_minus(interval)}."
    ]


def _repeated_error_sentences(facts: ParticipantMap) -> list[str]:
    """Return sentences on the dependence of the error on the number of runs."""
    if facts.combined.reconstruction is None:
        return _unknown_error_sentences(facts)
    if facts.shared is None:
        return []
    origin_sentence = (
        f"The reconstruction error (the difference from a measurement at the high resolution) was"
        f" estimated by {facts.series}, not measured."
    )
    if facts.place_share is not None:
        return [
            f"{origin_sentence} Only the part that the runs do not share counts in this contrast,"
            " and it contains the error of the registration of the runs"
            f" ({number(facts.place_share, '.0%')} of the variance in the brain). Distortion and"
            " scale that differ between runs are not included.",
            f"With this error, a change of {_percent(facts.smallest_change)} in a voxel"
            " is found with a probability of 80 % (two-sided p < .05).",
        ]
    if facts.shared >= 1:
        return [
            f"{origin_sentence} It is taken to be the same in all runs, so that more runs reduce"
            " only the noise.",
            *_coverage_sentences(facts),
        ]
    return [
        f"{origin_sentence} Most of it repeats in every run (correlation between runs"
        f" {facts.shared:.2f}), so that more runs reduce the noise, but hardly the reconstruction"
        " error.",
        *_coverage_sentences(facts),
    ]


def _unknown_error_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence on why the reconstruction error is unknown.

    The list is empty if the series has no reconstruction error.
    """
    if facts.not_applied:
        names = enumerate_words(facts.not_applied)
        return [
            f"Intervals contain only noise, because the reconstruction error is unknown:"
            f" {facts.series} was not applied to {names} (zero filled)."
        ]
    reason = facts.no_error.rstrip(".")
    if not reason:
        return []
    return [
        f"Intervals contain only noise, because the reconstruction error is unknown. {reason}."
    ]


def _coverage_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence on the tested coverage of intervals of two unsmoothed runs."""
    if len(facts.runs) != 2 or facts.fwhm_mm or facts.series != "sbl":
        return []
    low, high = COVERAGE_OF_TWO
    return [
        f"In tests on two runs of a participant, {100 * low:.0f} to {100 * high:.0f} % of"
        " such 95 % intervals contained the effect that was measured at the high resolution, in"
        " voxels that were active in the measured maps."
    ]


def _shared_brain_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence on runs whose brain hardly overlaps with the first run's, [] if none."""
    if not facts.shared_brain:
        return []
    shares = [f"{name} {number(share, '.0%')}" for name, share in facts.shared_brain.items()]
    return [
        f"The map is limited to a part of the brain: after registration, runs share little of the"
        f" larger brain mask with {facts.runs[0].name} ({', '.join(shares)}). Exclude such runs"
        " with --run-id if the remaining part is too small."
    ]


def _space_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence per output space without a map, because the grids of the runs differ."""
    return [
        f"There is no map of all runs in {space}, because runs are on different grids ({grids})."
        for space, grids in facts.spaces_apart.items()
    ]


def _scale_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence on runs with another scale than the first run, [] if there are none."""
    if not facts.scales:
        return []
    ratios = [f"{name} {number(ratio, '.3g')}" for name, ratio in facts.scales.items()]
    return [
        "Runs were recorded with different scales. Their effects were divided by the signal"
        f" relative to {facts.runs[0].name} ({', '.join(ratios)})."
    ]


def _noise_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence on a run with less noise than the combined map, [] if there is none."""
    if len(facts.runs) < 2 or facts.place_share is not None:  # differences add noise
        return []
    best_run = min(facts.runs, key=attrgetter("noise"))
    if best_run.noise >= facts.combined.noise:
        return []
    return [
        f"The map of all runs together has more noise ({_percent(facts.combined.noise)}) than the"
        f" map of {best_run.name} ({_percent(best_run.noise)}). To weight runs by their noise, use"
        " --set activation.combine_weights=precision."
    ]


def _person_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence on the interval for the participant, [] if it is unknown."""
    if facts.person_interval is None:
        return []
    sentences = [
        "This interval is for the mean of these runs. For the participant in general, including"
        " runs that were not acquired, the 95 % interval is"
        f" {_plus_minus(facts.person_interval)}, which also contains the spread between runs."
    ]
    interval = facts.combined.interval
    if (
        facts.combined.reconstruction is not None
        and interval is not None
        and abs(facts.person_interval - interval) <= _SIMILAR_SHARE * interval
    ):
        sentences.append(
            "Both intervals are similar, because the reconstruction error is the largest part of"
            " both, and most of this error repeats in every run."
        )
    return [" ".join(sentences)]


def _plus_minus(value: float) -> str:
    """Return the half-width of an interval in percent, for the middle of a sentence."""
    return f"±\N{NO-BREAK SPACE}{_percent(value)}"


def _percent(value: float) -> str:
    r"""Return a value in percent with two significant digits.

    >>> unbroken = "\N{NO-BREAK SPACE}%"
    >>> [_percent(value).removesuffix(unbroken) for value in (0.123, 1.26)]
    ['0.12', '1.3']
    """
    return f"{number(value, '.2f' if value < 1 else '.1f')}\N{NO-BREAK SPACE}%"


def _error_table(facts: ParticipantMap) -> Markup:
    """Return a table with errors and volumes of the combined map, and of each run with its weight.

    Columns without values for any run are omitted.
    """
    heads: list[ColumnHead] = [
        "map",
        "weight",
        ("noise", "SD, %"),
        ("reconstruction error", "SD, %"),
        ("95 % interval", "±, %"),
        ("significant voxels", "cm³"),
        ("sign reliable voxels", "cm³"),
    ]
    combined_row = _table_row(Markup("<strong>all runs together</strong>"), "", facts.combined)
    run_rows = [_table_row(run.name, number(run.weight, ".2f"), run) for run in facts.runs]
    has_values = [
        any(cell != MISSING for cell in column) for column in zip(*run_rows, strict=True)
    ]
    voxels = "the significant voxels of all runs together" if facts.in_region else "the brain"
    return table(
        f"Error of the {facts.series} map (medians over {voxels}, in percent of the mean brain"
        " signal), and volumes",
        list(compress(heads, has_values)),
        [list(compress(row, has_values)) for row in (combined_row, *run_rows)],
    )


def _table_row(name: str, weight: str, error: MapError) -> list[str]:
    """Return the cells of one map."""
    volumes = (error.significant_mm3, error.sign_reliable_mm3)
    return [
        name,
        weight,
        number(error.noise, ".2f"),
        MISSING if error.reconstruction is None else number(error.reconstruction, ".2f"),
        MISSING if error.interval is None else number(error.interval, ".2f"),
        *(
            MISSING if volume is None else number(volume * _CM3_PER_MM3, ".1f")
            for volume in volumes
        ),
    ]


def no_map_html(
    entities: Mapping[str, str],
    names: Sequence[str],
    reason: str,
    *,
    over_sessions: bool,
) -> Markup:
    """Render the message that there is no map of all runs, with the reason.

    `entities` are common entities of the runs: long names to labels. The map would contain all
    sessions if `over_sessions`, else all runs.
    """
    title = _join_title(entities, f"no map of all {'sessions' if over_sessions else 'runs'}")
    return Markup("<div class='line'><h2>{}</h2></div>").format(title) + render(
        "messages",
        "warning",
        [
            f"{enumerate_words(names)} were not combined, because {reason}. Each run"
            f" has a separate map below. {NO_MAP_ADVICE}"
        ],
    )


def _join_title(entities: Mapping[str, str], subject: str) -> str:
    """Return the title of the first screen: participant, common entities, and subject."""
    parts = [f"sub-{entities['subject']}", run_text(entities), subject]
    return " · ".join(filter(None, parts))
