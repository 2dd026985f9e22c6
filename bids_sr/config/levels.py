"""Levels of storage: which series and maps of a run each level stores.

Every level makes the same results and the same report, and decides which of them become files.
What is stored is known from the settings alone, before anything runs. What a user named beyond the
defaults is stored at the standard level, too.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, get_args

from bids_sr.frozen import frozen
from bids_sr.series import BASELINES, MEASURED, RAW, series_names

Level = Literal["minimal", "standard", "full"]
_LEVELS: tuple[Level, ...] = get_args(Level)
"""From the fewest files to the most."""
SMOOTHING, THRESHOLDS = (0.0, 5.0), ("quarter", "fdr")
"""Widths (mm FWHM) and thresholds that nobody named."""
_CORRELATED, _FITTED, _GROUP = ("cc",), ("t", "effect", "variance"), ("t", "effect")


def reaches(asked: Level, least: Level) -> bool:
    """Whether what is stored from one level up is stored at the level that was asked for."""
    return _LEVELS.index(asked) >= _LEVELS.index(least)


def series_level(name: str, asked_for: Collection[str]) -> Level:
    """The smallest level at which a series is stored.

    The acquired one and those of the methods always; baselines and the measured one can be made
    again. `asked_for`: names of the methods and baselines that were asked for.
    """
    can_be_made_again = name == MEASURED or (name in BASELINES and name not in asked_for)
    return "full" if can_be_made_again else "minimal"


def _maps_level(name: str, asked_for: Collection[str], baselines: str) -> Level:
    """The smallest level at which maps of a series are stored; `baselines` as of the settings."""
    always = name in (RAW, MEASURED, "bspline") or name not in BASELINES
    return "standard" if always or name in asked_for or baselines != "default" else "full"


@frozen
class _Stored:
    """Maps by statistic and regions by threshold (as in the settings) stored at one smoothing."""

    stats: Sequence[str] = ()
    thresholds: Sequence[str] = ()


@frozen
class StoredMaps:
    """Settings that decide which maps become files.

    The fields are named as the settings; `methods` includes the named baselines.

    `baselines`: which baselines are compared: ``default`` or ``all``. `kinds`: maps to make:
    ``cc`` (correlation), ``glm`` (linear model), or both. `correlation`: whether correlation is
    stored beside the linear model at the standard level. `minus_others`: contrasts that nobody
    asked for, stored of the acquired and the primary series alone at the standard level.
    """

    level: Level
    methods: Collection[str] = ()
    baselines: str = "default"
    smoothing: Sequence[float] = SMOOTHING
    thresholds: Sequence[str] = THRESHOLDS
    kinds: Sequence[str] = ("cc", "glm")
    correlation: bool = False
    primary: str = ""
    minus_others: Collection[str] = ()

    def of(self, series: str) -> Mapping[float, _Stored]:
        """What is stored of every contrast of a series, by FWHM (mm).

        Full: everything. Standard: t, effect and its variance (not of baselines) at the smallest
        width, t and effect, which the group level reads, at the smallest width above 0.
        Correlation, with the region of the first threshold, is stored where nothing else is mapped
        or `correlation` says so. Widths that were named get what the smallest gets, and thresholds
        that were named have their regions.
        """
        if not reaches(
            self.level, _maps_level(series, series_names(self.methods), self.baselines)
        ):
            return {}
        correlated, fitted = "cc" in self.kinds, "glm" in self.kinds
        every = (*(_CORRELATED if correlated else ()), *((*_FITTED, "z") if fitted else ()))
        possible = [
            each for each in self.thresholds if (correlated if each == "quarter" else fitted)
        ]
        if self.level == "full":
            return {width: _Stored(stats=every, thresholds=possible) for width in self.smoothing}
        can_be_made_again = series_level(series, series_names(self.methods)) == "full"
        least_fitted = _GROUP if can_be_made_again else _FITTED
        correlated = correlated and (self.correlation or not fitted)
        unnamed = possible[:1] if correlated else ()
        most = _Stored(
            stats=[*(_CORRELATED if correlated else ()), *(least_fitted if fitted else ())],
            thresholds=unnamed if tuple(self.thresholds) == THRESHOLDS else possible,
        )
        if tuple(sorted(self.smoothing)) != SMOOTHING:
            return dict.fromkeys(self.smoothing, most)
        least, above = sorted(self.smoothing)
        return {least: most, above: _Stored(stats=_GROUP if fitted else _CORRELATED)}

    def leaves_out(self, series: str) -> Collection[str]:
        """Return the contrasts of which nothing is stored of a series."""
        every = self.level == "full" or series in (RAW, self.primary)
        return () if every else self.minus_others

    def holds(self, series: str, contrast: str, fwhm_mm: float, stat: str) -> bool:
        """Whether the map of a contrast and statistic is stored of a series at one smoothing."""
        return contrast not in self.leaves_out(series) and any(
            stat in own.stats
            for width, own in self.of(series).items()
            if round(10 * (width - fwhm_mm)) == 0
        )
