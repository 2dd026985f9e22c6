"""Storage levels by ascending number of stored files."""

from typing import Literal, get_args

StorageLevel = Literal["minimal", "standard", "full"]
_LEVELS: tuple[StorageLevel, ...] = get_args(StorageLevel)


def reaches(level: StorageLevel, lowest: StorageLevel) -> bool:
    """Return whether outputs stored from level `lowest` upward are stored at `level`."""
    return _LEVELS.index(level) >= _LEVELS.index(lowest)
