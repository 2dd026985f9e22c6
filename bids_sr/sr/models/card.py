"""Model cards: what they say, how they are written, and how they are read and checked.

A card may come from anyone. What it says of the images that a model serves is also kept, as a
checksum, in the weights file, so that an edited card does not go with its weights any more.
"""

from __future__ import annotations

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
from bids_sr.io.grids import Factor
from bids_sr.sr.former_names import current_names

_BOUND = ("method", "recipe", "factor", "resolution", "contrast", "orientation")
CARD_VERSION = 1
_LARGEST_CARD = 5_000_000  # bytes; ours have a few thousand
_REQUIRED = ("card_version", *_BOUND, "weights_sha256")
_ORIENTATIONS = ("R-L", "P-A", "I-S")
_LARGEST_FACTOR = 8.0
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]{0,63}")


class ModelError(ValueError):
    """A model file that cannot be trusted or understood."""


@frozen
class ModelCard:
    """What the program rests on of a card; the file (`json`) says more, for people.

    `method`, `recipe`: as this version names them; `json` has the names that the version had which
    made the model. `factors`: drawn in place of `factor`; empty for none. `contrast`: BIDS suffix.
    `orientation`: anatomical axis across slices: ``R-L``, ``P-A`` or ``I-S``. `lowres_mm`: voxel
    size of the images that the model serves. `trained_on`: kind of training data: ``pair``,
    ``series``, ``self`` or ``images``. `changed_settings`: settings of the recipe that had another
    value than its own, by name. `channels`: contrasts that go in together. `reproducible`: if the
    same training gives the same weights again. `headroom`: intensity that is 1 for the network
    over the 99th percentile of the image it was trained on, or None. `perceptual`: whether VGG-19
    was in the loss. `start_sha256`: weights with which training began, or None. `align`:
    structural scans: what registered those of a head. `scale`: how they were brought to [0, 1];
    cards without it are of scans scaled by a percentile. `domain`: quantiles and edge content of
    the training image, see `domain_difference`. `held_out`: scores on held-out parts, and which
    these are.
    """

    method: str = ""
    recipe: str = ""
    factor: Factor = (1.0, 1.0, 1.0)
    factors: tuple[float, ...] = ()
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
    changed_settings: Mapping[str, object] = field(default_factory=dict)
    headroom: float | None = None
    perceptual: bool = False
    start_sha256: str | None = None
    align: str | None = None
    scale: str = "percentile"
    domain: tuple[tuple[float, ...], float] | None = None
    held_out: Mapping[str, object] = field(default_factory=dict)
    json: Mapping[str, object] = field(default_factory=dict)

    @property
    def psnr(self) -> dict[str, float]:
        """Return held-out peak signal-to-noise ratio (dB) of network and plain interpolation."""
        scores = {
            name: part_of(self.held_out, name).get("psnr")
            for name in ("network", "input", "bspline", "zerofill")
        }
        return {
            name: float(value) for name, value in scores.items() if isinstance(value, int | float)
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """The card of a file; what is missing, or of another kind, takes the default."""
        settings, domain = part_of(values, "settings"), part_of(values, "domain")
        text = {
            name: str(values.get(name, ""))
            for name in ("contrast", "orientation", "weights_sha256")
        }
        method, recipe = current_names(values)
        channels, seed, align = (values.get(name) for name in ("channels", "seed", "anat_align"))
        fx, fy, fz = _floats(values.get("factor")) or (1.0, 1.0, 1.0)
        headroom = _floats(part_of(values, "intensity").get("headroom"))
        start = part_of(values, "started_from").get("weights_sha256")
        sums = part_of(values, "data_sha256")
        return cls(
            **text,
            method=method,
            recipe=recipe,
            factor=(fx, fy, fz),
            factors=_floats(values.get("factors")),
            lowres_mm=_floats(part_of(values, "resolution").get("lowres_mm")),
            trained_on=str(values.get("trained_on", "pair")),
            channels=channels if isinstance(channels, int) else 1,
            seed=seed if isinstance(seed, int) else None,
            reproducible=values.get("reproducible") is True,
            data_sha256={name: str(found) for name, found in sums.items()},
            settings=settings,
            changed_settings=part_of(values, "changed_settings"),
            headroom=headroom[0] if headroom else None,
            perceptual=part_of(values, "perceptual").get("active") is True,
            start_sha256=None if start is None else str(start),
            align=None if align is None else str(align),
            scale=str(values.get("anat_scale", "percentile")),
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


def digest(card: Mapping[str, object]) -> str:
    """Checksum of what a card says of the images that the model serves."""
    said = {key: card.get(key) for key in _BOUND}
    # cards of unchanged recipes, as all older ones, have no such entry
    said |= {key: card[key] for key in ("changed_settings",) if key in card}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def card_path(weights: Path) -> Path:
    """Where the card of a weights file lies."""
    return Path(weights).with_suffix(".json")


def weights_in(folder: Path, method: str) -> Path:
    """Return the path of a method's weights in the folder in which a step trains or takes them."""
    return folder / f"{method}.safetensors"


def source_in(folder: Path) -> Path:
    """Return the path of a text with the name of the file from which a step took a model."""
    return folder / "source.txt"


def size_of_file(path: Path) -> int:
    """Return bytes of a regular file, links followed; refuse directories, pipes, devices."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("the path is not a regular file")
    return state.st_size


def read_card(path: Path) -> ModelCard:
    """The card of a weights file; `ModelError` where it is missing or not one of ours."""
    path = card_path(path)
    try:
        if size_of_file(path) > _LARGEST_CARD:
            raise ValueError(f"the file is larger than {_LARGEST_CARD / 1e6:g} MB")
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"{path}: the model card does not exist. Model weights cannot be used without "
            "their card."
        ) from None
    # of JSON and of UTF-8 too, and nesting without end
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the file cannot be read as a model card ({error})") from None
    missing = [key for key in _REQUIRED if not isinstance(card, dict) or key not in card]
    if missing:
        raise ModelError(f"{path}: the model card lacks the entries {', '.join(missing)}")
    if card["card_version"] != CARD_VERSION:
        raise ModelError(
            f"{path}: the model card has version {card['card_version']}, but this version of "
            f"bids-sr requires version {CARD_VERSION}"
        )
    wrong = _wrong_values(card)
    if wrong:
        raise ModelError(f"{path}: the model card contains invalid values ({'; '.join(wrong)})")
    return ModelCard.from_json(card)


def _wrong_values(card: Mapping[str, object]) -> list[str]:
    """What is wrong with a card's values, one phrase each."""
    out = []
    for key in ("method", "recipe", "contrast"):
        word = card[key]
        if not (isinstance(word, str) and _WORD.fullmatch(word)):
            out.append(f"{key} is not a valid name")
    if card["orientation"] not in _ORIENTATIONS:
        out.append(f"orientation is not one of {', '.join(_ORIENTATIONS)}")
    if not _numbers(card["factor"], 1.0, _LARGEST_FACTOR):
        out.append(f"factor does not consist of three numbers from 1 to {_LARGEST_FACTOR:g}")
    if not _numbers(part_of(card, "resolution").get("lowres_mm"), 1e-3, 1e3):
        out.append("resolution does not contain three voxel sizes in mm")
    checksum = card["weights_sha256"]
    if not (isinstance(checksum, str) and re.fullmatch("[0-9a-f]{64}", checksum)):
        out.append("weights_sha256 is not a SHA-256 checksum")
    channels = card.get("channels", 1)
    if not (isinstance(channels, int) and not isinstance(channels, bool) and 1 <= channels <= 16):
        out.append("channels is not a whole number from 1 to 16")
    return out


def _numbers(values: object, low: float, high: float) -> bool:
    """Whether these are three finite numbers within bounds."""
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        and all(math.isfinite(v) and low <= v <= high for v in values)
    )
