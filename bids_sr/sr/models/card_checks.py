"""Model cards as read, and their validation: a card may come from anyone.

What a card says of the images that a model serves is also kept, as a checksum, in the weights file, so that an edited
card does not go with its weights any more.
"""

import hashlib
import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

BOUND = ("method", "recipe", "factor", "resolution", "contrast", "orientation")
METADATA_KEY = "bids_sr_card"
LARGEST_CARD = 5_000_000  # bytes; ours have a few thousand
_ORIENTATIONS = ("R-L", "P-A", "I-S")
_LARGEST_FACTOR = 8.0
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """What the program rests on of a card; the file (`json`) says more, for people."""

    # names; an old `paper` of srgan goes by today's name, `paper-mse`
    method: str = ""
    recipe: str = ""
    # low- over high-resolution voxel size; those that were drawn in its place, if any
    factor: tuple[float, float, float] = (1.0, 1.0, 1.0)
    factors: tuple[float, ...] = ()
    # BIDS suffix, axis across slices, voxel size of the images that the model serves
    contrast: str = ""
    orientation: str = ""
    lowres_mm: tuple[float, ...] = ()
    trained_on: str = "pair"
    channels: int = 1
    seed: int | None = None
    reproducible: bool = False
    weights_sha256: str = ""
    data_sha256: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    # intensity that is 1 for the network over the 99th percentile of the image it was trained on, or None
    headroom: float | None = None
    perceptual: bool = False  # whether features of VGG-19 were in the loss
    start_sha256: str | None = None  # weights with which training began, or None
    align: str | None = None  # structural scans: what registered those of a head
    # `domain_entry` of the training image; metrics on held-out data
    domain: Mapping[str, Any] = field(default_factory=dict)
    held_out: Mapping[str, Any] = field(default_factory=dict)
    json: Mapping[str, Any] = field(default_factory=dict)  # the card as it was written

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The card of a file; what is missing, or of another kind, takes the default."""

        def part(name: str, of: Mapping[str, Any] = values) -> Mapping[str, Any]:
            found = of.get(name)
            return found if isinstance(found, Mapping) else {}

        names = ("method", "recipe", "contrast", "orientation", "trained_on", "channels", "seed", "weights_sha256")
        plain = {name: values[name] for name in names if name in values}
        old = plain.get("method") == "srgan" and "content:MSE" in part("losses", part("settings"))
        if old and plain.get("recipe") == "paper":
            plain["recipe"] = "paper-mse"
        fx, fy, fz = (float(f) for f in values.get("factor", (1, 1, 1)))
        headroom = part("intensity").get("headroom")
        return cls(
            **plain, factor=(fx, fy, fz), factors=tuple(values.get("factors") or ()),
            lowres_mm=tuple(float(v) for v in part("resolution").get("lowres_mm", ())),
            reproducible=values.get("reproducible") is True, data_sha256=part("data_sha256"),
            settings=part("settings"), headroom=float(headroom[0]) if headroom else None,
            perceptual=part("perceptual").get("active") is True,
            start_sha256=part("started_from").get("weights_sha256"), align=values.get("anat_align"),
            domain=part("domain"), held_out=part("held_out"), json=values,
        )  # fmt: skip


def wrong_values(card: Mapping[str, Any]) -> list[str]:
    """What is wrong with a card's values, one phrase each."""
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
    """Checksum of what a card says of the images that the model serves."""
    said = {key: card.get(key) for key in BOUND}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def bound_digest(data: bytes) -> str | None:
    """That checksum in the bytes of a safetensors file; None in older ones."""
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
    """Bytes of a regular file, links followed; ValueError for a directory, a pipe or a device."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is no regular file")
    return state.st_size
