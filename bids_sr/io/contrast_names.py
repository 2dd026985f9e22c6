"""Order of contrasts in tables and texts, from their names."""

_ALL = "all"  # mean of all trial types, see `bids_sr.glm.contrasts`
WITHOUT = "Without"
"""Part of the name of a contrast that lacks some trial types of another contrast."""


def rank_contrast(name: str) -> int:
    """Return the position of a contrast in lists: 0 is ``all``, 1 is ``all`` without some types.

    All other contrasts have rank 2.

    >>> [rank_contrast(name) for name in ("all", "allWithoutFace", "face")]
    [0, 1, 2]
    """
    if name == _ALL:
        return 0
    return 1 if name.startswith(f"{_ALL}{WITHOUT}") else 2
