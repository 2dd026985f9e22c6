"""Model cards as read, and their validation: a card may come from anyone.

What a card says of the images that a model serves is also kept, as a checksum, in the weights
file, so that an edited card does not go with its weights any more.
"""

import hashlib
import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Self

from bids_sr.frozen import frozen

BOUND = ("method", "recipe", "factor", "resolution", "contrast", "orientation")
METADATA_KEY = "bids_sr_card"
LARGEST_CARD = 5_000_000  # bytes; ours have a few thousand
_ORIENTATIONS = ("R-L", "P-A", "I-S")
_LARGEST_FACTOR = 8.0
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]{0,63}")


@frozen
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
    settings: Mapping[str, object] = field(default_factory=dict)
    # intensity that is 1 for the network over the 99th percentile of the image it was trained on,
    # or None
    headroom: float | None = None
    perceptual: bool = False  # whether features of VGG-19 were in the loss
    start_sha256: str | None = None  # weights with which training began, or None
    align: str | None = None  # structural scans: what registered those of a head
    # quantiles and edge content of the training image, see `domain_of`; metrics on held-out data
    domain: tuple[tuple[float, ...], float] | None = None
    held_out: Mapping[str, object] = field(default_factory=dict)
    json: Mapping[str, object] = field(default_factory=dict)  # the card as it was written

    @property
    def psnr(self) -> dict[str, float]:
        """Return held-out peak signal-to-noise ratio (dB) of network and plain interpolation."""
        found = {
            name: part_of(self.held_out, name).get("psnr")
            for name in ("network", "input", "bspline", "zerofill")
        }
        return {
            name: float(value) for name, value in found.items() if isinstance(value, int | float)
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """The card of a file; what is missing, or of another kind, takes the default."""
        settings, domain, intensity = (
            part_of(values, name) for name in ("settings", "domain", "intensity")
        )
        text = {
            name: str(values.get(name, ""))
            for name in ("method", "recipe", "contrast", "orientation")
        }
        if (
            text["method"] == "srgan"
            and "content:MSE" in part_of(settings, "losses")
            and text["recipe"] == "paper"
        ):
            text["recipe"] = "paper-mse"
        channels, seed, align = (values.get(name) for name in ("channels", "seed", "anat_align"))
        fx, fy, fz = _floats(values.get("factor")) or (1.0, 1.0, 1.0)
        headroom, start = (
            _floats(intensity.get("headroom")),
            part_of(values, "started_from").get("weights_sha256"),
        )
        sums = part_of(values, "data_sha256")
        return cls(
            **text,
            factor=(fx, fy, fz),
            factors=_floats(values.get("factors")),
            lowres_mm=_floats(part_of(values, "resolution").get("lowres_mm")),
            trained_on=str(values.get("trained_on", "pair")),
            channels=channels if isinstance(channels, int) else 1,
            seed=seed if isinstance(seed, int) else None,
            reproducible=values.get("reproducible") is True,
            weights_sha256=str(values.get("weights_sha256", "")),
            data_sha256={name: str(found) for name, found in sums.items()},
            settings=settings,
            headroom=headroom[0] if headroom else None,
            perceptual=part_of(values, "perceptual").get("active") is True,
            start_sha256=None if start is None else str(start),
            align=None if align is None else str(align),
            domain=(_floats(domain["quantiles"]), float(str(domain["edges"]))) if domain else None,
            held_out=part_of(values, "held_out"),
            json=values,
        )


def part_of(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    """An entry that is a mapping; nothing where it is none."""
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _floats(values: object) -> tuple[float, ...]:
    """A list of numbers; nothing where it is none."""
    return tuple(float(value) for value in values) if isinstance(values, list | tuple) else ()


def wrong_values(card: Mapping[str, object]) -> list[str]:
    """What is wrong with a card's values, one phrase each."""
    out = []
    for key in ("method", "recipe", "contrast"):
        word = card[key]
        if not (isinstance(word, str) and _WORD.fullmatch(word)):
            out.append(f"{key} is no plain name")
    if card["orientation"] not in _ORIENTATIONS:
        out.append(f"orientation is none of {', '.join(_ORIENTATIONS)}")
    if not _numbers(card["factor"], 1.0, _LARGEST_FACTOR):
        out.append(f"factor is not three numbers from 1 to {_LARGEST_FACTOR:g}")
    resolution = card["resolution"]
    if not (isinstance(resolution, Mapping) and _numbers(resolution.get("lowres_mm"), 1e-3, 1e3)):
        out.append("resolution has no three voxel sizes in mm")
    checksum = card["weights_sha256"]
    if not (isinstance(checksum, str) and re.fullmatch("[0-9a-f]{64}", checksum)):
        out.append("weights_sha256 is no checksum")
    channels = card.get("channels", 1)
    if not (isinstance(channels, int) and not isinstance(channels, bool) and 1 <= channels <= 16):
        out.append("channels is no number from 1 to 16")
    return out


def _numbers(values: object, low: float, high: float) -> bool:
    """Whether these are three finite numbers within bounds."""
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        and all(math.isfinite(v) and low <= v <= high for v in values)
    )


def digest(card: Mapping[str, object]) -> str:
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
