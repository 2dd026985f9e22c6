"""Trial types that the runs of a task share, so that means over types can be combined over runs.

Maps of runs are combined only if the weights of the contrast are equal. If no majority of the runs
of a participant and task has the same types in the mean ``all``, the mean is therefore limited to
the types that all of these runs have.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.glm.contrasts import ALL
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.entities import (
    EntityKey,
    parse_entities,
    parse_owner,
    without_entities,
)
from bids_sr.survey.notices import attribute, note
from bids_sr.survey.preflight.estimability import TypesOfRun, join_names

# entities that differ between runs that are combined, or between their echoes
_RUN_ENTITIES = ("run", "session", "echo")
_MIN_TYPES = 2  # in a mean
_MIN_SHARE = 0.5  # a mean over fewer of a run's types than this is another contrast


def share_averaged_types(types: Mapping[Path, TypesOfRun]) -> dict[Path, TypesOfRun]:
    """Return trial types with means over the types that the runs of a participant and task share.

    Means are unchanged if most runs already average the same types, or if too few types are
    shared. `types` are by BOLD file.
    """
    groups: dict[EntityKey, list[Path]] = defaultdict(list)
    for bold, run_types in types.items():
        if run_types.averaged:
            groups[without_entities(parse_entities(bold), _RUN_ENTITIES)].append(bold)
    shared_types = dict(types)
    for bolds in groups.values():
        shared = _find_shared_types([types[bold].averaged for bold in bolds])
        if shared is None:
            continue
        for bold in bolds:
            averaged = tuple(name for name in types[bold].averaged if name in shared)
            shared_types[bold] = replace(types[bold], averaged=averaged)
    return shared_types


def unshared_types(
    types: Mapping[Path, TypesOfRun], shared: Mapping[Path, TypesOfRun]
) -> Iterator[Notice]:
    """Note each run whose mean lacks some of its types after `share_averaged_types`."""
    for bold, run_types in types.items():
        omitted = [name for name in run_types.averaged if name not in shared[bold].averaged]
        if omitted:
            is_one = len(omitted) == 1
            noun, verb, pronoun = ("type", "is", "it") if is_one else ("types", "are", "them")
            text = (
                f"the trial {noun} {join_names(omitted)} {verb} left out of the mean over"
                f" trial types (contrast {ALL}, and comparisons with the mean of the"
                f" others), because another run of the task lacks {pronoun}. Means of all"
                " runs over the same types can be combined."
            )
            yield from attribute([note(run_types.table, text)], *parse_owner(bold), code="events")


def _find_shared_types(averaged: Sequence[Sequence[str]]) -> set[str] | None:
    """Return the types in the means of all runs, None if the means should not change."""
    type_sets = [frozenset(names) for names in averaged]
    _, most_frequent = Counter(type_sets).most_common(1)[0]
    if 2 * most_frequent > len(type_sets):
        return None
    shared = set(frozenset.intersection(*type_sets))
    least_shared = min(len(shared) / len(names) for names in type_sets)
    return shared if len(shared) >= _MIN_TYPES and least_shared > _MIN_SHARE else None
