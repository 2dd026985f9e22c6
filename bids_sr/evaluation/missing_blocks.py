"""Numbers of blocks of conditions as rows, and in words if they are too few for halves."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.statements import Statement
from bids_sr.glm.blocks import MIN_BLOCKS
from bids_sr.glm.contrasts import Contrasts, name_without_types
from bids_sr.io.word_lists import enumerate_words

BLOCKS = "blocks"
"""Number of blocks of a condition (region of the row), by contrast that contains the condition."""
_MAX_LISTED = 4  # conditions in a sentence


def iterate_block_counts(
    series: str, block_counts: Mapping[str, int], contrasts: Contrasts
) -> Iterator[MetricRow]:
    """Yield the number of blocks of each condition of a contrast.

    `series` is the series whose effects are split. `block_counts` contains the number of used
    blocks by condition; {} if blocks were not counted. `contrasts` contains the weights of
    conditions by contrast.
    """
    if not block_counts:
        return
    for contrast, weights in contrasts.items():
        for condition, weight in weights.items():
            if weight:
                yield MetricRow(
                    series=series,
                    statistic=BLOCKS,
                    value=float(block_counts.get(condition, 0)),
                    contrast=contrast,
                    region=condition,
                )


def find_map_contrasts(rows: Iterable[MetricRow]) -> dict[str, str]:
    """Return the contrast of the maps by the contrast that was tested in its place.

    Contrasts of the maps with a condition that has too few blocks are tested without it, under the
    name of `bids_sr.glm.contrasts.name_without_types`.

    >>> counts, weights = {"face": 1, "body": 4}, {"face": 0.5, "body": 0.5}
    >>> rows = iterate_block_counts("sbl", counts, {"all": weights})
    >>> find_map_contrasts(rows)
    {'allWithoutFace': 'all'}
    """
    return {
        name_without_types(contrast, conditions): contrast
        for contrast, conditions in list_untested(rows).items()
    }


def list_untested(rows: Iterable[MetricRow]) -> dict[str, list[str]]:
    """Return the conditions with too few blocks for the test, by contrast of the maps."""
    untested: dict[str, list[str]] = {}
    for row in rows:
        is_missing = row.statistic == BLOCKS and row.value < MIN_BLOCKS
        if is_missing and row.region not in untested.setdefault(row.contrast, []):
            untested[row.contrast].append(row.region)
    return untested


def explain_missing_blocks(rows: Iterable[MetricRow], contrast: str) -> str:
    """Return why a contrast cannot be split, as a clause; "" if no condition is missing.

    >>> rows = iterate_block_counts("sbl", {"face": 1}, {"all": {"face": 1.0, "body": 1.0}})
    >>> explain_missing_blocks(rows, "all")
    'face has only one block and body has no block in the run, and two are required'
    """
    conditions: dict[int, list[str]] = {}  # by number of blocks
    for row in rows:
        if (row.statistic, row.contrast) == (BLOCKS, contrast):
            conditions.setdefault(int(row.value), []).append(row.region)
    clauses = [
        f"{_list_conditions(conditions[n_blocks])} {'has' if len(names) == 1 else 'have'} {count}"
        for n_blocks, count in ((1, "only one block"), (0, "no block"))
        if (names := conditions.get(n_blocks))
    ]
    return Statement.FEW_BLOCKS.format(conditions=enumerate_words(clauses)) if clauses else ""


def list_single_splits(rows: Iterable[MetricRow]) -> list[str]:
    """Return the conditions with two blocks, which have a single split into halves.

    >>> counts, weights = {"face": 1, "body": 2}, {"face": 0.5, "body": 0.5}
    >>> rows = iterate_block_counts("sbl", counts, {"all": weights})
    >>> list_single_splits(rows)
    ['body']
    """
    conditions = [
        row.region for row in rows if row.statistic == BLOCKS and row.value == MIN_BLOCKS
    ]
    return list(dict.fromkeys(conditions))


def _list_conditions(conditions: Sequence[str]) -> str:
    """Join conditions to an enumeration, with the number of conditions that are not named."""
    hidden = len(conditions) - _MAX_LISTED
    if hidden <= 1:
        return enumerate_words(conditions)
    return enumerate_words([*conditions[:_MAX_LISTED], f"{hidden} other conditions"])
