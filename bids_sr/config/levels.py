"""Storage levels: the series and maps of a run that each level saves.

All levels compute the same results and report, and only determine which results become files. The
stored files follow from the settings alone, before processing. Outputs that a user requests beyond
the defaults are also stored at the standard level.
"""

from collections.abc import Collection, Mapping, Sequence

from bids_sr.engine.storage_level import StorageLevel, reaches
from bids_sr.io.frozen import frozen
from bids_sr.io.series import ACQUIRED, ALL_BASELINES, MEASURED, get_kind, series_names

_CORRELATION_STATS = ("cc",)
_MODEL_STATS = ("t", "effect", "variance")
_MAP, _GROUP_LEVEL_STATS = ("t",), ("effect",)
"""Statistics of a map to look at, and those that the group level reads."""
_STATS_BY_SERIES: Mapping[str, Sequence[str]] = {"bspline": ("t", "effect")}
"""Statistics of the map to use if the detail may not be interpreted."""


@frozen
class _StoredStats:
    """Statistics and thresholds (as in the settings) that are stored at a smoothing width."""

    stats: Sequence[str] = ()
    thresholds: Sequence[str] = ()


@frozen
class StoredMaps:
    """Settings that determine which maps become files.

    Fields have the names of the settings; `methods` includes the requested baselines. `kinds` are
    the maps to compute: ``cc`` (correlation) and ``glm`` (linear model). `correlation` is whether
    correlation is stored in addition to the linear model at the standard level. `primary` is the
    name of the exported series. `minus_others` are default contrasts that the standard level only
    stores for the exported series and for B-spline interpolation, whose map is to be used if the
    detail may not be interpreted.

    `requests_widths` and `requests_thresholds` state whether the user chose other widths and
    thresholds than the defaults. The standard level stores requested maps and regions in full, and
    of the defaults a selection; see `outputs_of`.
    """

    level: StorageLevel
    smoothing: Sequence[float]
    thresholds: Sequence[str]
    requests_widths: bool = False
    requests_thresholds: bool = False
    methods: Collection[str] = ()
    kinds: Sequence[str] = ("cc", "glm")
    correlation: bool = False
    primary: str = ""
    minus_others: Collection[str] = ()

    def outputs_of(self, series: str) -> Mapping[float, _StoredStats]:
        """Return the outputs stored for every contrast of a series, by FWHM (mm).

        At the full level, everything is stored. At the standard level, these are t at the smallest
        width, with effect and variance of the exported series and the effect of B-spline
        interpolation (without maps that the page does not name, see
        `bids_sr.evaluation.steps.unused_maps`), and the effect, which the group
        level reads, at the smallest width above 0. Correlation, with the region of the first
        threshold, is stored if no linear model is mapped or if `correlation` is true. Requested
        widths get all these statistics, and requested thresholds get their regions, with the
        effect.
        """
        if not reaches(self.level, _maps_level(series, series_names(self.methods))):
            return {}
        has_correlation, has_model = "cc" in self.kinds, "glm" in self.kinds
        # "quarter" is a threshold of correlation, all others of the linear model
        is_mapped = {"quarter": has_correlation}
        thresholds = [name for name in self.thresholds if is_mapped.get(name, has_model)]
        if self.level == "full":
            correlation_stats = _CORRELATION_STATS if has_correlation else ()
            model_stats = (*_MODEL_STATS, "z") if has_model else ()
            everything = _StoredStats(
                stats=(*correlation_stats, *model_stats), thresholds=thresholds
            )
            return dict.fromkeys(self.smoothing, everything)
        stores_correlation = has_correlation and (self.correlation or not has_model)
        stats = _STATS_BY_SERIES.get(series, _MAP)
        if series == self.primary:
            stats = _MODEL_STATS
        if self.requests_widths or self.requests_thresholds:
            # regions of all runs list the effects of the runs as sources
            stats = tuple(dict.fromkeys((*stats, *_GROUP_LEVEL_STATS)))
        first_threshold = thresholds[:1] if stores_correlation else []
        smallest_outputs = _StoredStats(
            stats=[
                *(_CORRELATION_STATS if stores_correlation else ()),
                *(stats if has_model else ()),
            ],
            thresholds=thresholds if self.requests_thresholds else first_threshold,
        )
        if self.requests_widths:
            return dict.fromkeys(self.smoothing, smallest_outputs)
        smallest, larger = sorted(self.smoothing)
        return {
            smallest: smallest_outputs,
            larger: _StoredStats(stats=_GROUP_LEVEL_STATS if has_model else _CORRELATION_STATS),
        }

    def omitted_contrasts(self, series: str) -> Collection[str]:
        """Return the contrasts without any stored output for a series."""
        has_all = self.level == "full" or series in (self.primary, "bspline")
        return () if has_all else self.minus_others

    def includes(self, series: str, contrast: str, fwhm_mm: float, stat: str) -> bool:
        """Return whether the map of a contrast and statistic is stored for a series and width."""
        return contrast not in self.omitted_contrasts(series) and any(
            stat in outputs.stats
            for width, outputs in self.outputs_of(series).items()
            if round(10 * (width - fwhm_mm)) == 0
        )


def _maps_level(name: str, requested: Collection[str]) -> StorageLevel:
    """Return the lowest level that stores maps of a series; ``all`` requests all baselines."""
    is_standard = name in (ACQUIRED, MEASURED, "bspline") or get_kind(name) != "baseline"
    is_requested = name in requested or ALL_BASELINES in requested
    return "standard" if is_standard or is_requested else "full"


def series_level(name: str, requested: Collection[str]) -> StorageLevel:
    """Return the lowest level that stores a series.

    The acquired series and the series of methods are always stored. Baselines that were not
    requested and the measured series are only stored at the full level, because they can be
    recomputed.

    `requested` contains the names of the requested methods and baselines.
    """
    is_recomputable = name == MEASURED or (get_kind(name) == "baseline" and name not in requested)
    return "full" if is_recomputable else "minimal"
