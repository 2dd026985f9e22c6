"""What a model card must hold before it is believed: a card may come from anyone.

Values of a wrong kind would otherwise fail far from where they came in, or pass for something they are not. What a
card says of the images that a model serves is also kept, as a checksum, in the weights file that the card names by
its own checksum: a card that was edited to make a model look as if it fitted does not go with its weights any more.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BOUND = ("method", "recipe", "factor", "resolution", "contrast", "orientation")
METADATA_KEY = "bids_sr_card"
LARGEST_CARD = 5_000_000  # bytes; ours have a few thousand
_ORIENTATIONS = ("R-L", "P-A", "I-S")
_LARGEST_FACTOR = 8.0
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]{0,63}")


def wrong_values(card: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values that the program rests on, one phrase each; empty for a sound card."""
    out = []
    for key in ("method", "recipe", "contrast"):
        if not (isinstance(card[key], str) and _WORD.fullmatch(card[key])):
            out.append(f"{key} is no plain name")
    if card["orientation"] not in _ORIENTATIONS:
        out.append(f"orientation is none of {', '.join(_ORIENTATIONS)}")
    if not _numbers(card["factor"], 1.0, _LARGEST_FACTOR):
        out.append(f"factor is not three numbers from 1 to {_LARGEST_FACTOR:g}")
    resolution = card["resolution"]
    if not (isinstance(resolution, Mapping) and _numbers(resolution.get("lowres_mm"), 1e-3, 1e3)):
        out.append("resolution has no three voxel sizes in mm")
    if not (isinstance(card["weights_sha256"], str) and re.fullmatch("[0-9a-f]{64}", card["weights_sha256"])):
        out.append("weights_sha256 is no checksum")
    channels = card.get("channels", 1)
    if not (isinstance(channels, int) and not isinstance(channels, bool) and 1 <= channels <= 16):
        out.append("channels is no number from 1 to 16")
    return out


def _numbers(values: Any, low: float, high: float) -> bool:
    """Whether these are three finite numbers within bounds."""
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        and all(math.isfinite(v) and low <= v <= high for v in values)
    )


def digest(card: Mapping[str, Any]) -> str:
    """Checksum of what a card says of the images that the model serves; the order of keys does not matter."""
    said = {key: card.get(key) for key in BOUND}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def bound_digest(data: bytes) -> str | None:
    """That checksum as the bytes of a safetensors file hold it; None in files that hold none, as older ones do."""
    if len(data) < 8:
        return None
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        return None
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        return None
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    found = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    return found if isinstance(found, str) else None


def size_of_file(path: Path) -> int:
    """Bytes of a regular file, links followed.

    Raises
    ------
    FileNotFoundError : there is none
    ValueError : a directory, a pipe or a device, which could be read without end
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is no regular file")
    return state.st_size
