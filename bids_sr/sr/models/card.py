"""Model cards: reading, checking and naming the JSON files that describe trained models.

Cards may come from any source. The entries that decide whether a model suits an image are also
stored as a checksum in the weights file, so that an edited card no longer matches its weights.
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

from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.json_values import as_number, parse_json
from bids_sr.io.notices import InvalidInput

_CHECKED_ENTRIES = ("method", "recipe", "factor", "resolution", "contrast", "orientation")
CARD_VERSION = 1
_MAX_CARD_BYTES = 5_000_000  # our cards have a few thousand bytes
_REQUIRED_ENTRIES = ("card_version", *_CHECKED_ENTRIES, "weights_sha256")
_ORIENTATIONS = ("R-L", "P-A", "I-S")
_MAX_FACTOR = 8.0
_MAX_CHANNELS = 16
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]{0,63}")


class ModelError(InvalidInput):
    """Error raised for a model file that is invalid or cannot be trusted."""


@frozen
class ModelCard:
    """Model card entries that the program uses.

    `method` and `recipe` are current names; `json`, all entries of the card file, contains the
    names used by the version that trained the model. `factors` are drawn in training in place of
    `factor`; empty if there are none. `contrast` is the BIDS suffix of the training images.
    `orientation` is the anatomical axis across slices: ``R-L``, ``P-A`` or ``I-S``. `lowres_mm` is
    the voxel size of the low-resolution training images. `trained_on` is the type of training
    data: ``pair``, ``series``, ``self`` or ``images``. `channels` is the number of contrasts that
    are processed together.

    `seed` is the seed of the training; None if unknown. `reproducible` states whether the same
    training gives the same weights. `weights_sha256` is the checksum of the weights file, and
    `data_sha256` has the checksum of each training image, by image name. `start_sha256` is the
    checksum of the initial weights; None for random weights. `settings` are settings of the recipe
    by name, and `changed_settings` the settings whose values differ from the recipe.

    `headroom` is the intensity that is scaled to 1 for the network, relative to the 99th
    percentile of the training image; None if unknown. `perceptual` states whether the loss
    included VGG-19 features. `align` is the registration method of structural scans; None if
    unknown. `scale` is the intensity scaling of structural scans; cards without this entry used a
    percentile. `edition` is the edition of the recipe (see `bids_sr.sr.recipe.Recipe.edition`).
    `held_out` has scores on held-out regions, and these regions.
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
    edition: int = 1
    held_out: Mapping[str, object] = field(default_factory=dict)
    json: Mapping[str, object] = field(default_factory=dict)

    @property
    def psnr(self) -> dict[str, float]:
        """Held-out peak signal-to-noise ratio (dB) of network and interpolations, by name."""
        scores = {
            name: mapping_entry(self.held_out, name).get("psnr")
            for name in ("network", "input", "bspline", "zerofill")
        }
        return {
            name: float(value) for name, value in scores.items() if isinstance(value, int | float)
        }

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Return the card of a file; missing or invalid entries take their defaults."""
        settings = mapping_entry(values, "settings")
        text_entries = {
            name: str(values.get(name, ""))
            for name in ("method", "recipe", "contrast", "orientation", "weights_sha256")
        }
        channels, seed, align = (values.get(name) for name in ("channels", "seed", "anat_align"))
        fx, fy, fz = _to_floats(values.get("factor")) or (1.0, 1.0, 1.0)
        headroom = _to_floats(mapping_entry(values, "intensity").get("headroom"))
        start_sha256 = mapping_entry(values, "started_from").get("weights_sha256")
        data_sha256 = mapping_entry(values, "data_sha256")
        edition = settings.get("edition", 1)
        return cls(
            **text_entries,
            factor=(fx, fy, fz),
            factors=_to_floats(values.get("factors")),
            lowres_mm=_to_floats(mapping_entry(values, "resolution").get("lowres_mm")),
            trained_on=str(values.get("trained_on", "pair")),
            channels=channels if isinstance(channels, int) else 1,
            seed=seed if isinstance(seed, int) else None,
            reproducible=values.get("reproducible") is True,
            data_sha256={name: str(checksum) for name, checksum in data_sha256.items()},
            settings=settings,
            changed_settings=mapping_entry(values, "changed_settings"),
            headroom=headroom[0] if headroom else None,
            perceptual=mapping_entry(values, "perceptual").get("active") is True,
            start_sha256=None if start_sha256 is None else str(start_sha256),
            align=None if align is None else str(align),
            scale=str(values.get("anat_scale", "percentile")),
            edition=edition if isinstance(edition, int) else 1,
            held_out=mapping_entry(values, "held_out"),
            json=values,
        )


def _to_floats(values: object) -> tuple[float, ...]:
    """Return a list of numbers as a tuple of floats; empty if the value is not a list."""
    return tuple(float(value) for value in values) if isinstance(values, list | tuple) else ()


def read_card(path: Path) -> ModelCard:
    """Read and check the card of a weights file.

    Raises `ModelError` if the card is missing, cannot be read, or contains invalid values.
    """
    path = card_path(path)
    try:
        if size_of_file(path) > _MAX_CARD_BYTES:
            raise ValueError(f"the file is larger than {_MAX_CARD_BYTES / 1e6:g} MB")
        card = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            "the model card does not exist. Model weights cannot be used without their card.",
            file=path,
        ) from None
    # ValueError includes invalid JSON and UTF-8
    except (OSError, ValueError) as error:
        raise ModelError(f"the file cannot be read as a model card ({error})", file=path) from None
    missing = [key for key in _REQUIRED_ENTRIES if not isinstance(card, dict) or key not in card]
    if missing:
        raise ModelError(f"the model card lacks the entries {', '.join(missing)}", file=path)
    if card["card_version"] != CARD_VERSION:
        raise ModelError(
            f"the model card has version {card['card_version']}, but this version of "
            f"bids-sr requires version {CARD_VERSION}",
            file=path,
        )
    faults = _describe_invalid_values(card)
    if faults:
        raise ModelError(
            f"the model card contains invalid values ({'; '.join(faults)})", file=path
        )
    return ModelCard.from_json(card)


def card_path(weights: Path) -> Path:
    """Return the path of the card of a weights file."""
    return Path(weights).with_suffix(".json")


def size_of_file(path: Path) -> int:
    """Return the size of a regular file in bytes; symbolic links are followed.

    ValueError is raised for directories, pipes and devices.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("the path is not a regular file")
    return status.st_size


def _describe_invalid_values(card: Mapping[str, object]) -> list[str]:
    """Return a phrase for each invalid value in a card."""
    faults = []
    for key in ("method", "recipe", "contrast"):
        value = card[key]
        if not (isinstance(value, str) and _NAME_PATTERN.fullmatch(value)):
            faults.append(f"{key} is not a valid name")
    if card["orientation"] not in _ORIENTATIONS:
        faults.append(f"orientation is not one of {', '.join(_ORIENTATIONS)}")
    if not _are_three_numbers(card["factor"], 1.0, _MAX_FACTOR):
        faults.append(f"factor does not consist of three numbers from 1 to {_MAX_FACTOR:g}")
    if not _are_three_numbers(mapping_entry(card, "resolution").get("lowres_mm"), 1e-3, 1e3):
        faults.append("resolution does not contain three voxel sizes in mm")
    checksum = card["weights_sha256"]
    if not (isinstance(checksum, str) and re.fullmatch("[0-9a-f]{64}", checksum)):
        faults.append("weights_sha256 is not a SHA-256 checksum")
    channels = card.get("channels", 1)
    has_valid_channels = (
        isinstance(channels, int)
        and not isinstance(channels, bool)
        and 1 <= channels <= _MAX_CHANNELS
    )
    if not has_valid_channels:
        faults.append(f"channels is not a whole number from 1 to {_MAX_CHANNELS}")
    return faults


def _are_three_numbers(values: object, minimum: float, maximum: float) -> bool:
    """Return whether a value consists of three finite numbers within bounds."""
    return (
        isinstance(values, list | tuple)
        and len(values) == 3
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        and all(math.isfinite(value) and minimum <= value <= maximum for value in values)
    )


def mapping_entry(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    """Return a card entry if it is a mapping, otherwise an empty mapping."""
    entry = values.get(name)
    return entry if isinstance(entry, Mapping) else {}


def card_checksum(card: Mapping[str, object]) -> str:
    """Return the checksum of the card entries that decide whether a model suits an image."""
    entries = {key: card.get(key) for key in _CHECKED_ENTRIES}
    # cards of unchanged recipes, including all early cards, lack this entry
    entries |= {key: card[key] for key in ("changed_settings",) if key in card}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def weights_path(folder: Path, method: str) -> Path:
    """Return the path of a method's weights in the folder where a step stores its model."""
    return folder / f"{method}.safetensors"


def source_path(folder: Path) -> Path:
    """Return the path of the text file that contains the file name of the reused model."""
    return folder / "source.txt"


def explain_not_applied(card: Mapping[str, object]) -> str:
    """Return the reason why the model of a card was replaced by zero filling; "" if it was not."""
    if was_applied(card):
        return ""
    return explain_stopped(card) or str(mapping_entry(card, "held_out").get("model", ""))


def was_applied(card: Mapping[str, object]) -> bool:
    """Return whether a model is applied to a run, according to its card.

    Otherwise, the series is zero filled: the model failed its self-test, or its training was
    stopped by the time limit.
    """
    model = mapping_entry(card, "held_out").get("model", "")
    is_replaced = card.get("applied") is False or str(model).lower().startswith("zero filling")
    return not is_replaced and not steps_at_stop(card)


def explain_stopped(card: Mapping[str, object]) -> str:
    """Return that the time limit stopped the training of a network, as a clause; "" if not."""
    steps_text = steps_at_stop(card)
    return f"its training was stopped by the time limit ({steps_text})" if steps_text else ""


def steps_at_stop(card: Mapping[str, object]) -> str:
    """Return completed and planned steps of each phase that the time limit stopped, as text.

    "" is returned if there is no such phase.

    >>> steps_at_stop({"phases": {"search": {"iterations": 3, "of": 9, "stopped_by": "time"}}})
    'search: 3 of 9 steps'
    """
    phases = mapping_entry(card, "phases")
    return ", ".join(
        f"{name}: {as_number(phase.get('iterations')):,.0f} of {as_number(phase.get('of')):,.0f}"
        " steps"
        for name in phases
        if (phase := mapping_entry(phases, name)).get("stopped_by") == "time"
    )
