"""Comparison of the runs of a participant before they are combined: scale, head and effects."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from bids_sr.config.sections.activation import COMBINE_ALL_OPTION
from bids_sr.engine.artifacts import Facts, Image, Map, Mask
from bids_sr.engine.memory import Need
from bids_sr.engine.step import Stage, step
from bids_sr.group.combination.run_agreement import (
    EffectAgreement,
    compare_effects,
    find_agreeing_runs,
)
from bids_sr.group.combination.steps.combined_runs import MapsByStatistic, maps_by_run
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import FIRST_BOLDREF
from bids_sr.io.json_values import as_mapping, as_number
from bids_sr.io.word_lists import enumerate_words
from bids_sr.preproc.head_comparison import (
    SAME_HEAD,
    head_similarity,
    is_mirrored,
    resample_with_field_of_view,
    signal_ratio,
)
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.masks import compute_mean_signal

_LOGGER = logging.getLogger(__name__)

SAME_SCALE = 1.1
"""Largest ratio between the signals of runs with the same scale; larger ratios are reported."""


@step(
    Stage.COMBINATION,
    makes=("framed_boldref", "run_scale"),
    memory=Need(always=0.05, high=0.0),
)
def compare_with_first_run(
    boldref: Image,
    first_boldref: Image,
    first_mask: Mask,
    first2run_xfm: Transforms,
    *,
    run: str,
    first: str,
    over_sessions: bool,
) -> tuple[Image, Facts]:
    """Compare the boldref of a run with the boldref of the first run.

    `first_mask` is the brain of the first run on the grid of its boldref, and `first2run_xfm`
    transforms points of the first run to points of the run (1, 4, 4; RAS+ mm). `run` and `first`
    are the names of both runs. `over_sessions` states whether the effects of each run remain in
    percent of its own signal, so that they do not depend on the scale. Returns the boldref on the
    grid of the first run, 0 outside its field of view, and three facts. ``SignalRatio`` is the
    median signal in the brain, relative to the first run. ``FirstMeanSignal`` is the mean signal
    of the first run in its brain. ``Mirrored`` states whether left and right are swapped relative
    to the first run.
    """
    xfm = first2run_xfm[0]
    resampled_boldref = resample_with_field_of_view(boldref, first_boldref, xfm)
    ratio = signal_ratio(first_boldref.data, resampled_boldref, first_mask.data)
    if not over_sessions and max(ratio, 1 / ratio) > SAME_SCALE:
        _LOGGER.warning(
            "%s: the signal is %.3g times the signal of %s, so the runs have different scales."
            " In maps of all runs, the effects of this run are divided by this factor",
            run,
            ratio,
            first,
        )
    similarity = head_similarity(
        first_boldref.data, resampled_boldref, first_mask.data, first_boldref.zooms
    )
    mirrored = similarity < SAME_HEAD and is_mirrored(
        first_boldref, boldref, first_mask.data, xfm, similarity
    )
    return first_boldref.like(resampled_boldref.astype(np.float32)), {
        "SignalRatio": ratio,
        "FirstMeanSignal": compute_mean_signal(first_boldref.data, first_mask.data),
        "Mirrored": bool(mirrored),
    }


@step(
    Stage.COMBINATION,
    makes="run_agreement",
    memory=Need(always=0.1, high=0.1),
)
def check_runs(
    acquired_maps: list[Map],
    framed_boldrefs: dict[str, Image],
    run_scales: dict[str, Facts],
    first_boldref: Image,
    first_mask: Mask,
    *,
    first: str,
    combine_all: bool,
    unusual_runs: Mapping[str, str],
) -> Facts:
    """Compare the heads and the acquired effects of all pairs of runs, and find disagreeing runs.

    The largest set of runs that agree with each other is combined. If several sets are the
    largest, as for two runs that disagree, no run is left out.

    `acquired_maps` are maps of all runs before super-resolution, in the frame of the first run.
    `framed_boldrefs` are boldrefs on the grid of the first run, and `run_scales` results of
    `compare_with_first_run`, by name of each further run. `first_mask` is the brain of the first
    run on the grid of its boldref, and `first` the name of the first run. With `combine_all`, runs
    that disagree are combined. `unusual_runs` has the reasons by name of runs that were acquired
    otherwise but are combined, which count as disagreeing.

    Returns reasons by name of the runs that are left out (``LeftOut``), reasons by name of
    combined runs that disagree (``Disagreeing``), reasons by name of the runs with another head
    (``OtherHead``), which are not in contrasts over runs either, and comparisons of all pairs of
    runs (``Pairs``).
    """
    boldrefs = {first: first_boldref, **framed_boldrefs}
    mirrored_runs = {name for name, facts in run_scales.items() if facts["Mirrored"]}
    maps_by_contrast = _select_least_smoothed(acquired_maps)
    pairs: list[_RunPair] = []
    head_pairs: list[_RunPair] = []
    for run, other_run in combinations(boldrefs, 2):
        similarity = head_similarity(
            boldrefs[run].data, boldrefs[other_run].data, first_mask.data, first_boldref.zooms
        )
        is_swapped = (run in mirrored_runs) != (other_run in mirrored_runs)
        effects = list(_compare_run_effects(maps_by_contrast, (run, other_run)))
        head_reason = (
            f"left and right of {run} and {other_run} are swapped"
            if is_swapped
            else _explain_other_head((run, other_run), similarity)
        )
        reason = head_reason or _explain_other_effects(effects)
        pairs.append(_RunPair((run, other_run), similarity, effects, reason))
        if head_reason:
            head_pairs.append(pairs[-1])
    reasons, is_majority = _find_disagreeing(
        list(boldrefs), [pair for pair in pairs if pair.reason]
    )
    other_heads, is_majority_of_heads = _find_disagreeing(list(boldrefs), head_pairs)
    leave_out = is_majority and not combine_all
    _warn_of_disagreement(reasons, leave_out=leave_out)
    return {
        "LeftOut": reasons if leave_out else {},
        "OtherHead": other_heads if is_majority_of_heads and not combine_all else {},
        "Disagreeing": {**unusual_runs, **({} if leave_out else reasons)},
        "Pairs": [pair.to_json() for pair in pairs],
    }


def _select_least_smoothed(maps: Sequence[Map]) -> dict[str, Mapping[str, MapsByStatistic]]:
    """Return the maps in the frame of the first run with the least smoothing.

    The maps are by contrast, run and statistic.
    """
    frame_maps = {
        (contrast, fwhm_mm): by_run
        for (space, contrast, fwhm_mm), by_run in maps_by_run(maps).items()
        if space == FIRST_BOLDREF
    }
    least_fwhm_mm = min((fwhm_mm for _, fwhm_mm in frame_maps), default=0.0)
    return {
        contrast: by_run
        for (contrast, fwhm_mm), by_run in frame_maps.items()
        if fwhm_mm == least_fwhm_mm
    }


@frozen
class _EffectComparison:
    """Agreement of the effect of a contrast in a run with the effect in another run."""

    run: str
    other_run: str
    contrast: str
    agreement: EffectAgreement

    def to_json(self) -> dict[str, object]:
        """Return the comparison as JSON values."""
        return {
            "Run": self.run,
            "OtherRun": self.other_run,
            "Contrast": self.contrast,
            "Slope": round(self.agreement.slope, 3),
            "StandardError": round(self.agreement.error, 3),
            "Correlation": round(self.agreement.correlation, 3),
            "Voxels": self.agreement.n_voxels,
        }


def _compare_run_effects(
    maps_by_contrast: Mapping[str, Mapping[str, MapsByStatistic]], runs: tuple[str, str]
) -> Iterator[_EffectComparison]:
    """Yield the comparisons of two runs in both directions, by contrast."""
    for contrast, by_run in maps_by_contrast.items():
        for run, other_run in permutations(runs):
            agreement = _compare_maps(by_run.get(run, {}), by_run.get(other_run, {}))
            if agreement is not None:
                yield _EffectComparison(
                    run=run, other_run=other_run, contrast=contrast, agreement=agreement
                )


def _compare_maps(maps: MapsByStatistic, other_maps: MapsByStatistic) -> EffectAgreement | None:
    """Compare the effect of a run with another run; None if they cannot be compared."""
    if not all({"effect", "variance"} <= run_maps.keys() for run_maps in (maps, other_maps)):
        return None
    effect, other_effect = maps["effect"].volume.data, other_maps["effect"].volume.data
    if effect.shape != other_effect.shape:
        return None
    weights = as_mapping(maps["effect"].sidecar["ContrastWeights"])
    return compare_effects(
        effect,
        maps["variance"].volume.data,
        other_effect,
        other_maps["variance"].volume.data,
        is_difference=any(as_number(weight) < 0 for weight in weights.values()),
    )


def _explain_other_head(runs: tuple[str, str], similarity: float) -> str:
    """Return why heads of two runs differ, "" if they are the same or `similarity` is NaN."""
    if similarity < SAME_HEAD:
        return (
            f"the boldrefs of {runs[0]} and {runs[1]} show different heads (correlation of local"
            f" detail {similarity:.2f}; expected at least {SAME_HEAD:g})"
        )
    return ""


def _explain_other_effects(effects: Sequence[_EffectComparison]) -> str:
    """Return why effects of two runs differ, "" if they agree."""
    disagreeing = [effect for effect in effects if effect.agreement.disagrees]
    worst = min(disagreeing, key=attrgetter("agreement.slope"), default=None)
    if worst is None:
        return ""
    return (
        f"in active voxels, the effect of {worst.run} is {worst.agreement.slope:.2f} times the"
        f" effect of {worst.other_run} (contrast {worst.contrast};"
        f" r {worst.agreement.correlation:.2f})"
    )


class _RunPair(NamedTuple):
    """Comparison of two runs.

    `similarity` is the similarity of their heads, NaN if unknown. `effects` are comparisons of
    effects in both directions. `reason` states why the runs disagree, "" if they agree.
    """

    runs: tuple[str, str]
    similarity: float
    effects: Sequence[_EffectComparison]
    reason: str

    def to_json(self) -> dict[str, object]:
        """Return the comparison as JSON values."""
        return {
            "Runs": list(self.runs),
            "HeadSimilarity": None if np.isnan(self.similarity) else round(self.similarity, 3),
            "Reason": self.reason,
            "Effects": [effect.to_json() for effect in self.effects],
        }


def _find_disagreeing(
    names: Sequence[str], pairs: Sequence[_RunPair]
) -> tuple[dict[str, str], bool]:
    """Return reasons of runs that disagree by name, and whether most runs agree without them.

    `pairs` are the pairs of runs that disagree.
    """
    agreeing = find_agreeing_runs(names, [pair.runs for pair in pairs])
    if agreeing is None:
        disagreeing = {name for pair in pairs for name in pair.runs}
    else:
        disagreeing = set(names) - set(agreeing)
    reasons = {
        name: _explain_disagreement(name, pairs, disagreeing)
        for name in names
        if name in disagreeing
    }
    return reasons, agreeing is not None


def _explain_disagreement(name: str, pairs: Sequence[_RunPair], disagreeing: set[str]) -> str:
    """Return the reason why a run disagrees with other runs, and their names.

    Reasons that concern runs of the largest set, which are not in `disagreeing`, come first.
    """
    run_pairs = [pair for pair in pairs if name in pair.runs]
    run_pairs.sort(key=lambda pair: set(pair.runs) <= disagreeing)
    other_runs = [next(run for run in pair.runs if run != name) for pair in run_pairs]
    more_runs = other_runs[1:]
    more_text = f", and likewise for {enumerate_words(more_runs)}" if more_runs else ""
    return run_pairs[0].reason + more_text


def _warn_of_disagreement(reasons: Mapping[str, str], *, leave_out: bool) -> None:
    """Warn of runs that disagree with other runs, given the reasons by name of the run."""
    consequence = (
        f"The run is left out of the maps of all runs; {COMBINE_ALL_OPTION} combines it"
        if leave_out
        else "The run is combined nevertheless"
    )
    for name, reason in reasons.items():
        _LOGGER.warning(
            "%s: this run disagrees with other runs: %s. %s. Check the events and the images of"
            " this run",
            name,
            reason,
            consequence,
        )
