"""Metadata of statistical maps in sidecars that the maps of a series share.

By the inheritance principle of BIDS, one sidecar describes all maps of a series with the same
smoothing and grid. Entries that depend on the statistic or on the contrast are listed by their
labels. Programs that do not know the entities ``contrast`` and ``stat``, such as pybids, therefore
find exactly one sidecar per map.
"""

from collections.abc import Mapping

Metadata = dict[str, object]
CONTRASTS, STATISTICS = "Contrasts", "Statistics"
"""Keys of entries by label of the contrast and of the statistic."""
SHARED_ENTITIES = ("contrast", "stat")
"""Entities that names of shared sidecars do not contain."""
_SOURCES = "Sources"
_WEIGHTS = "ContrastWeights"
# keys of maps that are never at the top level, so that their place does not depend on values
_NESTED_KEYS = frozenset({"Description", "Units", _WEIGHTS})
# metadata of maps or regions by labels of contrast and statistic
_Maps = Mapping[tuple[str, str], Mapping[str, object]]


def join_map_metadata(maps: _Maps) -> Metadata:
    """Return the content of the sidecar that maps share; see `select_map_metadata`.

    Entries that all maps have with the same value are at the top level, and ``Sources`` are the
    sources of all maps. Other entries are listed by statistic if all contrasts have them and their
    values only depend on the statistic, otherwise by contrast. Entries that depend on both are
    listed by statistic, and by contrast within it. Regions have the statistic "".
    """
    has_statistics = any(statistic for _, statistic in maps)
    nested_keys = _NESTED_KEYS if has_statistics else frozenset()
    common: Metadata = {}
    by_contrast: dict[str, Metadata] = {}
    by_statistic: dict[str, Metadata] = {}
    for key in dict.fromkeys(key for content in maps.values() for key in content):
        values = {labels: content[key] for labels, content in maps.items() if key in content}
        if key == _SOURCES:
            lists = [value for value in values.values() if isinstance(value, list)]
            common[key] = list(dict.fromkeys(item for items in lists for item in items))
        elif len(values) == len(maps) and key not in nested_keys and _agree(values):
            common[key] = next(iter(values.values()))
        elif (
            has_statistics
            and key != _WEIGHTS
            and _agree_within(values, 1)
            and {stat for _, stat in maps.keys() - values.keys()}.isdisjoint(
                stat for _, stat in values
            )
        ):
            for (_, statistic), value in values.items():
                by_statistic.setdefault(statistic, {})[key] = value
        elif _agree_within(values, 0):
            for (contrast, _), value in values.items():
                by_contrast.setdefault(contrast, {})[key] = value
        else:
            for (contrast, statistic), value in values.items():
                entries = by_statistic.setdefault(statistic, {}).setdefault(CONTRASTS, {})
                assert isinstance(entries, dict)
                entries.setdefault(contrast, {})[key] = value
    nested = {STATISTICS: by_statistic, CONTRASTS: by_contrast}
    return common | {key: entries for key, entries in nested.items() if entries}


def _agree(values: Mapping[tuple[str, str], object]) -> bool:
    """Return whether all values are equal."""
    first = next(iter(values.values()))
    return all(value == first for value in values.values())


def _agree_within(values: Mapping[tuple[str, str], object], label: int) -> bool:
    """Return whether values with the same label (0: contrast, 1: statistic) are equal."""
    firsts: dict[str, object] = {}
    return all(
        firsts.setdefault(labels[label], value) == value for labels, value in values.items()
    )


def select_map_metadata(shared: Mapping[str, object], contrast: str, statistic: str) -> Metadata:
    """Return the metadata of one map from the sidecar that it shares with other maps.

    A sidecar without entries by contrast or statistic is returned unchanged.
    """
    statistic_entries = _entries_of(shared, STATISTICS, statistic)
    metadata = {key: value for key, value in shared.items() if key not in (STATISTICS, CONTRASTS)}
    metadata |= _entries_of(shared, CONTRASTS, contrast)
    metadata |= {key: value for key, value in statistic_entries.items() if key != CONTRASTS}
    return metadata | _entries_of(statistic_entries, CONTRASTS, contrast)


def _entries_of(content: Mapping[str, object], key: str, label: str) -> Metadata:
    """Return the entries of a contrast or statistic, {} if there are none."""
    entries = content.get(key)
    selected = entries.get(label) if isinstance(entries, Mapping) else None
    return dict(selected) if isinstance(selected, Mapping) else {}
