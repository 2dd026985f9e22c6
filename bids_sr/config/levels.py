"""How much of what is made is stored: the levels, and which series and maps of a run each of them stores.

Every level makes the same results and the same report, and decides which of them become files. What is stored is known
from the settings alone, before anything runs. What a user named beyond the defaults is stored at the standard level,
too.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, get_args

from bids_sr.frozen import frozen
from bids_sr.series import BASELINES, MEASURED, RAW

Level = Literal["minimal", "standard", "full"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""From the fewest files to the most."""
SMOOTHING, THRESHOLDS = (0.0, 5.0), ("quarter", "fdr")
"""Widths (mm FWHM) and thresholds that nobody named."""
OF_QUARTER = "cc"  # the map that the threshold `quarter` is applied to; all others are applied to z
_CORRELATED, _FITTED, _GROUP = ("cc",), ("t", "effect", "variance"), ("t", "effect")


def reaches(asked: Level, least: Level) -> bool:
    """Whether what is stored from one level up is stored at the level that was asked for."""
    return LEVELS.index(asked) >= LEVELS.index(least)


def series_level(name: str, asked_for: Collection[str]) -> Level:
    """The smallest level at which a series is stored.

    The acquired one and those of the methods always; baselines and the measured one can be made again. `asked_for`:
    names of the methods and baselines that were asked for.
    """
    can_be_made_again = name == MEASURED or (name in BASELINES and name not in asked_for)
    return "full" if can_be_made_again else "minimal"


def maps_level(name: str, asked_for: Collection[str], baselines: str) -> Level:
    """The smallest level at which maps of a series are stored; `baselines` as of the settings."""
    always = name in (RAW, MEASURED, "bspline") or name not in BASELINES
    return "standard" if always or name in asked_for or baselines != "default" else "full"


@frozen
class Stored:
    """What is stored at one smoothing: maps by statistic, regions by threshold (as of the settings), amplitudes.

    `amplitudes`: whether maps of the amplitude of slow fluctuations are, of runs without events.
    """

    stats: Sequence[str] = ()
    thresholds: Sequence[str] = ()
    amplitudes: bool = True


def maps_stored(
    level: Level, *, smoothing: Sequence[float], thresholds: Sequence[str], kinds: Sequence[str]
) -> Mapping[float, Stored]:
    """What is stored of every contrast of a series that has maps at this level, by FWHM (mm).

    Full: everything. Standard: t, effect, its variance and the correlation at the smallest width, t and effect, which
    the group level reads, at the smallest width above 0, and the region of the first threshold. Widths that were named
    get what the smallest gets, and thresholds that were named have their regions.
    """
    correlated, fitted = "cc" in kinds, "glm" in kinds
    every = (*(_CORRELATED if correlated else ()), *((*_FITTED, "z") if fitted else ()))
    possible = [each for each in thresholds if (correlated if each == "quarter" else fitted)]
    if level == "full":
        return {width: Stored(stats=every, thresholds=possible) for width in smoothing}
    if level == "minimal":
        return {}
    most = Stored(
        stats=[stat for stat in every if stat != "z"],
        thresholds=possible[:1] if tuple(thresholds) == THRESHOLDS else possible,
    )
    if tuple(sorted(smoothing)) != SMOOTHING:
        return dict.fromkeys(smoothing, most)
    least, above = sorted(smoothing)
    return {least: most, above: Stored(stats=_GROUP if fitted else _CORRELATED, amplitudes=False)}
