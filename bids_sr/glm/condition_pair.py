"""Selection of two conditions whose active regions are compared (``--overlap``)."""

from collections.abc import Sequence

from bids_sr.glm.contrasts import Contrasts, camel_case, single_conditions


def condition_pair(names: Sequence[str], contrasts: Contrasts) -> tuple[str, str] | None:
    """Return the two conditions of a run that are compared, or None if the run has no such pair.

    `names` are two trial types as in the events table or as labels. If `names` is empty, the two
    conditions of a run with exactly two conditions against rest are used. Returns the names of two
    contrasts of one condition each.

    >>> contrasts = {"thumb": {"thumb": 1.0}, "little": {"little": 1.0}}
    >>> condition_pair((), contrasts), condition_pair(["thumb", "toe"], contrasts)
    (('thumb', 'little'), None)
    """
    conditions = single_conditions(contrasts)
    labels = [camel_case(name) for name in names] or conditions
    if len(labels) != 2 or not set(labels) <= set(conditions):
        return None
    return labels[0], labels[1]
