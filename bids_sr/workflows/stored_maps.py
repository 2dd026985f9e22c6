"""Maps and regions of a series that become files."""

from collections.abc import Collection

from bids_sr.config.levels import StoredMaps
from bids_sr.glm.activation_regions import SIGN_RELIABLE, parse_thresholds
from bids_sr.io.series import map_label

# statistics of `bids_sr.evaluation.steps.error_maps`, by the statistic whose storage includes them
_ERROR_STATS = {
    "effect": ("sdTotal", "tTotal"),
    "variance": ("sd",),
    "z": ("wrongsign", "zTotal"),
}


def list_stored_maps(
    series: str, stored_maps: StoredMaps, contrasts: Collection[str]
) -> list[dict[str, str]]:
    """Return the entities of the maps and regions of a series that are stored.

    The list is empty if the storage level does not include maps of the series.
    """
    entities: list[dict[str, str]] = []
    for fwhm_mm, statistics in stored_maps.outputs_of(series).items():
        desc = map_label(series, fwhm_mm)
        stats = [
            stored_stat
            for stat in statistics.stats
            for stored_stat in (stat, *_ERROR_STATS.get(stat, ()))
        ]
        entities += [{"suffix": "statmap", "stat": stat, "desc": desc} for stat in stats]
        regions = [
            map_label(series, fwhm_mm, threshold.label)
            for threshold in parse_thresholds(statistics.thresholds)
        ]
        if "effect" in statistics.stats:
            regions.append(desc + SIGN_RELIABLE)
        entities += [{"suffix": "mask", "desc": region} for region in regions]
    omitted_contrasts = stored_maps.omitted_contrasts(series)
    if not omitted_contrasts:
        return entities
    contrast_entity = {"statmap": "contrast", "mask": "label"}
    stored_contrasts = [name for name in contrasts if name not in omitted_contrasts]
    return [
        {**map_entities, contrast_entity[map_entities["suffix"]]: name}
        for map_entities in entities
        for name in stored_contrasts
    ]
