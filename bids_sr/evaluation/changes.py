"""Changes of regions in a contrast over runs: what was found, and what would have been found.

Regions of interest are named before the data are seen, so that their intervals are ordinary.
Atlas labels are searched: the intervals of the labels that are found are widened for the selection
(Benjamini and Yekutieli 2005), and a change must be larger to be found.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np

from bids_sr.engine.artifacts import RecordKind
from bids_sr.engine.number_text import interval, number, p_value
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.statistics.multiple_comparisons import benjamini_hochberg
from bids_sr.glm.region_means import MeanEffect
from bids_sr.io.frozen import frozen

MAX_Q = 0.05
_MAX_NAMED = 4  # labels in a sentence


@frozen
class RegionChange:
    """Change of the mean effect of a region (percent) with its interval; `is_found` by q."""

    region: str
    effect: float
    lower: float
    upper: float
    is_found: bool


@frozen
class MapChange:
    """Significant voxels of the safe map of a contrast over runs, and their largest cluster."""

    n_voxels: int
    largest: str
    is_increase: bool


@frozen
class Change:
    """Result of a contrast over runs, with its label in files and its `name` as requested.

    `regions` are all regions of interest or, if there are none (`is_search`), the atlas labels
    that are found among `n_labels`. `smallest_q` is the smallest q of the labels. A change of
    `named` percent is found with a probability of 80 % in a region that was named before, and of
    `searched` in a search over all labels (medians over the regions; NaN if there are none).
    `in_map` is None if no voxel is significant.
    """

    contrast: str
    name: str
    regions: tuple[RegionChange, ...]
    n_labels: int
    smallest_q: float
    named: float
    searched: float
    is_search: bool = False
    in_map: MapChange | None = None

    @property
    def is_found(self) -> bool:
        """Whether a region changed."""
        return any(region.is_found for region in self.regions)


StoredChanges = Annotated[tuple[Change, ...], RecordKind(tuple[Change, ...])]
"""Results of the contrasts over runs of a participant."""


def find_change(
    contrast: str, name: str, effects: Mapping[tuple[str, str], MeanEffect]
) -> tuple[Change, list[float]]:
    """Return the result of a contrast over runs, and q of each region.

    `effects` are by origin and name of the region. q is the false discovery rate (Benjamini and
    Hochberg) among the regions of interest, or among the atlas labels.
    """
    is_label = np.array([origin == "atlas" for origin, _ in effects], bool)
    p = np.array([effect.compute_p() for effect in effects.values()])
    q = np.full(len(p), np.nan)
    for family in (is_label, ~is_label):
        q[family] = benjamini_hochberg(p[family].tolist())
    rates = dict(zip(effects, q.tolist(), strict=True))
    labels = {key: effect for key, effect in effects.items() if key[0] == "atlas"}
    named = {key: effect for key, effect in effects.items() if key not in labels}
    shown = named or {key: effect for key, effect in labels.items() if rates[key] <= MAX_Q}
    level = 0.95 if named else 1 - MAX_Q * len(shown) / max(len(labels), 1)
    regions = []
    for key, effect in shown.items():
        lower, upper = effect.compute_interval(level)
        regions.append(
            RegionChange(
                region=key[1],
                effect=effect.effect,
                lower=lower,
                upper=upper,
                is_found=rates[key] <= MAX_Q,
            )
        )
    change = Change(
        contrast=contrast,
        name=name,
        regions=tuple(sorted(regions, key=lambda region: not region.is_found)),
        n_labels=len(labels),
        smallest_q=min((rates[key] for key in labels), default=np.nan),
        named=_median(effect.compute_smallest_change() for effect in (named or labels).values()),
        searched=_median(
            effect.compute_smallest_change(0.05 / len(labels)) for effect in labels.values()
        ),
        is_search=not named,
    )
    return change, q.tolist()


def _median(values: Iterable[float]) -> float:
    """Return the median; NaN without values."""
    numbers = list(values)
    return float(np.median(numbers)) if numbers else np.nan


def write_change(change: Change) -> str:
    """Return the answer to the question what changed: in regions, and in the map."""
    if change.in_map is None:
        return _write_regions(change)
    sentence = Statement.CHANGED_IN_MAP.format(
        n=f"{change.in_map.n_voxels:,}",
        place=change.in_map.largest,
        direction="increase" if change.in_map.is_increase else "decrease",
    )
    return f"{_write_regions(change)} {sentence}"


def _write_regions(change: Change) -> str:
    """Return what changed in named regions, or in the labels of the atlas."""
    found = [region for region in change.regions if region.is_found]
    clauses = [_describe_region(region) for region in change.regions[: _MAX_NAMED + 1]]
    if len(change.regions) > _MAX_NAMED + 1:
        clauses[_MAX_NAMED:] = [f"{len(change.regions) - _MAX_NAMED} others"]
    if not change.regions and not change.n_labels:
        return Statement.CHANGE_WITHOUT_REGIONS.format(contrast=change.name)
    sizes = {"named": number(change.named, ".2f"), "searched": number(change.searched, ".2f")}
    if not change.regions:
        q = p_value(change.smallest_q, ".2f")
        return Statement.NO_LABEL_CHANGED.format(
            contrast=change.name, n=change.n_labels, q=q, **sizes
        )
    if change.is_search:
        clauses[-1] += Statement.WIDENED.format(n=change.n_labels)
    sentence = Statement.CHANGED.format(contrast=change.name, regions="; ".join(clauses))
    if len(found) == len(change.regions):
        return sentence
    return f"{sentence} {Statement.FOUND_CHANGE.format(**sizes)}"


def _describe_region(region: RegionChange) -> str:
    """Return a region with its change and interval, such as ``v1: +0.99 % [0.55, 1.42], changed``.

    Labels that were found are an increase or a decrease.
    """
    answer = "changed" if region.is_found else "not shown to have changed"
    ends = interval(region.lower, region.upper, ".2f")
    return f"{region.region}: {number(region.effect, '+.2f')} % {ends}, {answer}"
