"""First part of a participant's page: the combined map of all runs, with its error."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from markupsafe import Markup

from bids_sr.engine.number_text import number
from bids_sr.evaluation.result import RunResult
from bids_sr.io.frozen import frozen
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.io.word_lists import enumerate_words
from bids_sr.report.first_screen import (
    ContrastView,
    make_first_screen,
    render_first_screen,
)
from bids_sr.report.markup import render
from bids_sr.report.sections import run_text

NO_MAP_ADVICE = (
    "To combine runs, correct the differences (such as names, events, or voxel size), or exclude"
    " runs with --run-id, --session-label or --task-id, then rerun the command."
)
"""Advice if there is no map of all runs."""
MIN_SHARE_OF_RUN = 0.5
"""Number of significant voxels of the combined map, relative to a run, below which the check
fails.
"""
MIN_CHECKED_VOXELS = 50
"""Smallest number of significant voxels of a run that is compared with the combined map."""


@frozen
class ParticipantMap:
    """Facts about the combined map of all runs.

    `entities` are common entities of the runs: long names to labels. `series` and smoothing
    `fwhm_mm` (FWHM) describe the map, and `input_fwhm_mm` is the smoothing before
    super-resolution. The combined `runs` are weights by name, the run that
    defines the frame first.

    `shared` is the correlation of the reconstruction error between runs; None if the error is
    unknown. `no_error` is the reason why the reconstruction error is unknown; "" if it is known,
    or if the series has no reconstruction error.

    `left_out` has reasons by name of the excluded runs, and `not_applied` the names of combined
    runs whose series are zero filled. `shared_brain` is the part of the larger brain mask
    that a run shares with the first run, by name of the run; it contains only runs with a small
    shared part. `spaces_apart` are the grids of the runs, by output space; spaces with equal grids
    are not included.

    `disagreeing_runs` has reasons by name of combined runs that disagree with other runs, and
    `scales` the signal relative to the first run, by name of runs that have another scale.
    `fewer_than` is the name of a run with many more significant voxels than the combined map; ""
    if there is none. `uncombined` are phrases on contrasts that are not combined, with the reason.
    `result` is the result for the detail of the combined contrasts, and `reasons` are its reasons.
    `views` are the parts of the first screen by contrast.
    `place_share` is the share of the error of the registration in the variance of a contrast over
    runs; None for a mean of runs. `lost` are the names of contrasts over runs without maps.
    """

    entities: Mapping[str, str]
    series: str
    fwhm_mm: float
    input_fwhm_mm: float
    runs: Mapping[str, float]
    shared: float | None
    no_error: str
    left_out: Mapping[str, str]
    not_applied: Sequence[str]
    shared_brain: Mapping[str, float] = field(default_factory=dict)
    spaces_apart: Mapping[str, str] = field(default_factory=dict)
    disagreeing_runs: Mapping[str, str] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    fewer_than: str = ""
    place_share: float | None = None
    lost: Sequence[str] = ()
    uncombined: Sequence[str] = ()
    result: RunResult = field(default_factory=RunResult)
    reasons: Sequence[str] = ()
    views: Sequence[ContrastView] = ()


def participant_html(facts: ParticipantMap) -> Markup:
    """Render the first screen of the participant's map."""
    return render_first_screen(
        make_first_screen(
            title=_join_title(facts.entities, "all runs"),
            facts=_describe_runs(facts),
            result=facts.result,
            views=facts.views,
            alerts=[*_left_out_sentences(facts), *_check_sentences(facts)],
        )
    )


def participant_reasons_html(facts: ParticipantMap) -> Markup:
    """Render the reasons of the answers, and the error of the participant's map."""
    sentences = [
        *facts.reasons,
        *_uncombined_sentences(facts),
        *_repeated_error_sentences(facts),
        *_shared_brain_sentences(facts),
        *_space_sentences(facts),
        *_scale_sentences(facts),
    ]
    return render("items", sentences)


def _describe_runs(facts: ParticipantMap) -> str:
    """Return the runs in the map, their weights, and smoothing before super-resolution."""
    names = enumerate_words(list(facts.runs))
    weights = "weights by noise" if len(set(facts.runs.values())) > 1 else "equal weights"
    text = f"mean of {len(facts.runs)} runs ({names}), {weights}"
    if facts.place_share is not None:
        terms = [f"{number(weight, '+.3g')} {name}" for name, weight in facts.runs.items()]
        text = f"weighted sum of runs ({', '.join(terms)})"
    elif len(facts.runs) == 1:
        text = f"only {names}, because other runs were left out"
    smoothing = smoothing_text(facts.fwhm_mm, facts.input_fwhm_mm)
    return f"{text} · {smoothing}" if facts.input_fwhm_mm else text


def _left_out_sentences(facts: ParticipantMap) -> list[str]:
    """Return sentences on runs that are not in the map, and on contrasts without them."""
    sentences = [f"{name} has no map of {facts.series}." for name in facts.lost]
    if facts.left_out:
        reasons = [f"{name} ({reason})" for name, reason in facts.left_out.items()]
        sentences.append(f"Left out: {'; '.join(reasons)}.")
    return sentences


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


def _repeated_error_sentences(facts: ParticipantMap) -> list[str]:
    """Return sentences on the dependence of the error on the number of runs."""
    if facts.shared is None:
        return _unknown_error_sentences(facts)
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
        ]
    if facts.shared >= 1:
        return [
            f"{origin_sentence} It is taken to be the same in all runs, so that more runs reduce"
            " only the noise.",
        ]
    return [
        f"{origin_sentence} Most of it repeats in every run (correlation between runs"
        f" {facts.shared:.2f}), so that more runs reduce the noise, but hardly the reconstruction"
        " error.",
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


def _shared_brain_sentences(facts: ParticipantMap) -> list[str]:
    """Return a sentence on runs whose brain hardly overlaps with the first run's, [] if none."""
    if not facts.shared_brain:
        return []
    shares = [f"{name} {number(share, '.0%')}" for name, share in facts.shared_brain.items()]
    return [
        "The map is limited to a part of the brain: after registration, runs share little of the"
        f" larger brain mask with {next(iter(facts.runs))} ({', '.join(shares)}). Exclude such"
        " runs with --run-id if the remaining part is too small."
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
        f" relative to {next(iter(facts.runs))} ({', '.join(ratios)})."
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
