"""Model cards: what they say, how they are written, and how they are read and checked.

A card may come from anyone. What it says of the images that a model serves is also kept, as a
checksum, in the weights file, so that an edited card does not go with its weights any more.

Quality control before inference: what a model serves, and image distance to its training.

A model serves images of its resolution, contrast, slice orientation and factor. An image may fit
by header and still be unlike: inverted, clipped, blurred, full of noise. For that nothing is
refused, as the BOLD's own contrast differs from that of the pair to some degree: quantiles of
intensity and edge content are compared, and warned of.

Models that other participants left, which serve as placebos.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Self

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.grids import Array, Factor, size_text
from bids_sr.notices import UsageError
from bids_sr.sr.former_names import current_names, earlier_names
from bids_sr.sr.matrices import highres_size

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


TOLERANCE = 0.1
# variance maps of another run are carried onto the grid of this one: its voxels need not be of
# quite the same size
_SERIES_TOLERANCE = 0.5
# T2*-weighted images teach about BOLD images because both contrasts are T2* (stss-srfmri,
# introduction)
_SERVES: Mapping[str, tuple[str, ...]] = {"T2starw": ("T2starw", "bold")}


def _slice_orientation(affine: Array) -> str:
    """The anatomical axis nearest to the third voxel axis."""
    direction = np.abs(np.asarray(affine, float)[:3, 2])
    return ("R-L", "P-A", "I-S")[int(np.argmax(direction))]


def _mismatches(
    card: ModelCard,
    affine: Array,
    contrast: str,
    factor: Factor,
    align: str | None,
    scale: str | None,
) -> list[str]:
    """What differs, one sentence each; empty where the model serves."""
    from nibabel.affines import voxel_sizes

    out = []
    trained = card.lowres_mm
    zooms = voxel_sizes(affine)
    across = _slice_orientation(affine)
    allowed = _SERIES_TOLERANCE if card.trained_on == "series" else TOLERANCE
    if any(abs(a - b) > allowed * b for a, b in zip(zooms, trained, strict=True)):
        pretty = [size_text(sizes, " x ") for sizes in (trained, zooms.tolist())]
        out.append(
            f"resolution: the model was trained at a resolution of {pretty[0]}, but the image "
            f"has a resolution of {pretty[1]} (allowed difference: {100 * allowed:.0f} %)"
        )
    if contrast not in _SERVES.get(card.contrast, (card.contrast,)):
        out.append(
            f"contrast: the model was trained on {card.contrast} images, but the image "
            f"contrast is {contrast}"
        )
    if across != card.orientation:
        out.append(
            f"slice orientation: the model was trained on slices across {card.orientation}, "
            f"but the slices of the image are across {across}"
        )
    if card.align and align and card.align != align:  # cards before 0.2 do not tell
        out.append(
            "alignment: the model was trained on scans that were aligned with --anat-align "
            f"{card.align}, but these scans were aligned with --anat-align {align}"
        )
    if card.align and scale and card.scale != scale:
        out.append(
            "intensities: the model was trained on scans that were scaled with --anat-scale "
            f"{card.scale}, but these scans were scaled with --anat-scale {scale}"
        )
    if not _trained_for(card, factor):
        span = card.factors
        reason = (
            f"the model was trained for a factor of {card.factor} and for factors from "
            f"{min(span):g} to {max(span):g} along the same axes"
            if span
            else f"the model was trained for a factor of {card.factor}"
        )
        out.append(f"factor: {reason}, but a factor of {factor} was requested")
    return out


def _trained_for(card: ModelCard, factor: Factor) -> bool:
    """Return whether a model was trained for a factor.

    This is its own factor or, if trained with random ones, any between them on the same axes.
    """
    trained_factor = card.factor
    if all(abs(a - b) <= 1e-6 for a, b in zip(factor, trained_factor, strict=True)):
        return True
    span = card.factors
    return bool(span) and all(
        (
            abs(asked - 1) <= 1e-6
            if abs(known - 1) <= 1e-6
            else min(span) - 1e-6 <= asked <= max(span) + 1e-6
        )
        for asked, known in zip(factor, trained_factor, strict=True)
    )


def check_model(
    card: ModelCard,
    affine: Array,
    contrast: str,
    factor: Factor,
    *,
    align: str | None = None,
    scale: str | None = None,
    force: bool = False,
    allow: Collection[str] = (),
) -> list[str]:
    """Refuse a model that does not fit the image; returns the differences that are allowed.

    The factor can be forced only where the network sees an interpolated image: else another factor
    is another network.

    Parameters
    ----------
    card : ModelCard
        Card of the model.
    affine : Array
        Of the acquired grid, voxel -> RAS mm.
    contrast : str
        BIDS suffix of the image.
    factor : Factor
        Acquired over wanted voxel size.
    align : str | None, optional
        Structural scans: what registered those of a head (``--anat-align``).
    scale : str | None, optional
        Structural scans: how they were brought to [0, 1] (``--anat-scale``).
    force : bool, optional
        Whether to use a model that does not fit.
    allow : Collection[str], optional
        Differences that do not matter: resolution, contrast, orientation, factor.

    Returns
    -------
    list[str]
        Differences in words; empty where the model fits.

    Raises
    ------
    UsageError : with every difference and the remedy
    """
    mismatches = _mismatches(card, affine, contrast, factor, align, scale)
    refused = [each for each in mismatches if not (force or _kind(each) in allow)]
    hopeless = not card.settings.get("upsampled_by") and any(
        each.startswith("factor") for each in mismatches
    )
    if hopeless or refused:
        kinds = " ".join(map(_kind, refused))
        remedy = (
            "Train a model on a matching image pair, or use --force to apply this model "
            f"anyway (bids-sr-models: --allow {kinds})."
        )
        if any(each.startswith("intensities") for each in refused):
            remedy = f"Use --anat-scale {card.scale}, or use --force to apply the model anyway."
        remedy = "Train a model for this factor." if hopeless else remedy
        if not _trained_for(card, factor):
            asked = " ".join(f"{number:g}" for number in card.factor)
            remedy = (
                f"{remedy} Alternatively, use the factor of the model with --sr-factor {asked} "
                f"(bids-sr-models: --factor {asked})."
            )
        raise UsageError(
            f"the model {card.method} does not match the image",
            f"{'; '.join(mismatches if hopeless else refused)}.",
            remedy,
        )
    return mismatches


def _kind(mismatch: str) -> str:
    """Return which property differs, as ``--allow`` names it."""
    return mismatch.partition(":")[0].removeprefix("slice ")


_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Boldref against the low-resolution image of its own pair: .01 to .11, and 1.0 to 1.15 (phantom,
# studyforrest)
_FARTHEST = 0.15
_EDGE_RATIO = 1.8


def _domain_of(image: Array, mask: Array) -> tuple[Array, float]:
    """Return quantiles and edge content of an image (X, Y, Z) in its mask.

    The intensity is divided by its 99th percentile there; its quantiles are `_QUANTILES`.

    That is the root mean square difference of in-plane neighbors. ValueError where nothing in the
    mask is positive.
    """
    inside = np.asarray(mask) > 0
    if inside.shape != image.shape or not inside.any():
        raise ValueError(
            f"the image has the shape {image.shape}, and the mask has the shape {inside.shape} "
            f"with {int(inside.sum())} voxels; both must have the same shape, and the mask "
            "must contain voxels"
        )
    level = float(np.percentile(image[inside], 99))
    if not level > 0:
        raise ValueError("the image has no positive intensities within the mask")
    scaled = np.asarray(image, dtype=np.float64) / level
    steps = []
    for axis in (0, 1):
        both = np.take(inside, range(1, image.shape[axis]), axis) & np.take(
            inside, range(image.shape[axis] - 1), axis
        )
        steps.append(np.diff(scaled, axis=axis)[both])
    square = np.concatenate(steps) ** 2
    edges = float(np.sqrt(square.mean())) if square.size else 0.0
    return np.quantile(scaled[inside], _QUANTILES), edges


def _domain_entry(image: Array, mask: Array) -> dict[str, object]:
    """The domain as plain values, for the card of a model."""
    quantiles, edges = _domain_of(image, mask)
    return {"quantiles": [round(float(q), 5) for q in quantiles], "edges": round(edges, 6)}


def image_entries(
    image: Array,
    mask: Array,
    affine: Array,
    factor: Factor,
    *,
    mm: tuple[Array, Array] | None = None,
) -> dict[str, object]:
    """Return the card entries on grid and intensities of the training images.

    `image, mask, affine`: (x, y, z) at the low resolution, and voxel -> RAS mm, whose voxel sizes
    are taken without `mm`. `mm`: voxel sizes of the low and of the high resolution. Entries
    ``factor``, ``orientation``, ``resolution`` and ``domain``.
    """
    from nibabel.affines import voxel_sizes

    zooms = voxel_sizes(affine)
    low, high = mm or (
        zooms,
        zooms * [n / highres_size(n, f) for n, f in zip(image.shape, factor, strict=True)],
    )
    return {
        "factor": list(factor),
        "orientation": _slice_orientation(affine),
        "resolution": {
            "lowres_mm": [round(float(z), 4) for z in low],
            "highres_mm": [round(float(z), 4) for z in high],
            "lowres_shape": list(image.shape),
        },
        "domain": _domain_entry(image, mask),
    }


def domain_difference(
    card: ModelCard, image: Array, mask: Array
) -> tuple[float, float, list[str]] | None:
    """Return how far an image is from a model's training data, None if the card has no domain.

    Parameters
    ----------
    card : ModelCard
        Card of the model.
    image : Array
        Image in any unit of intensity (3D).
    mask : Array
        Voxels of the brain in the image (3D, boolean).

    Returns
    -------
    tuple[float, float, list[str]] | None
        The largest difference of the quantiles, 0 to 1; the edge content over that of the training
        image; what differs too much, one sentence each.
    """
    if card.domain is None:
        return None
    (quantiles, edges), (own, own_edges) = _domain_of(image, mask), card.domain
    distance = max(abs(float(a) - b) for a, b in zip(quantiles, own, strict=True))
    edges = edges / max(own_edges, 1e-12)
    out = []
    if distance > _FARTHEST:
        out.append(
            "intensities: the intensity distribution of the image differs from the training "
            f"image; the largest difference between quantiles is {distance:.3f} of the 99th "
            f"percentile (usually at most {_FARTHEST})"
        )
    if not 1 / _EDGE_RATIO <= edges <= _EDGE_RATIO:
        out.append(
            f"edges: the edge content of the image is {edges:.2g} times the edge content of "
            f"the training image (usually {1 / _EDGE_RATIO:.2g} to {_EDGE_RATIO:.2g} times)"
        )
    return distance, edges, out


def other_models(
    models_dir: Path,
    method: str,
    subject: str,
    *,
    factor: Sequence[float] | None = None,
    zooms: Sequence[float] | None = None,
) -> list[Path]:
    """Return a method's weights from other subjects, ordered cyclically from this label on.

    So the first differs from subject to subject as far as it can, and is the same in every run of
    the same data.

    `models_dir`: ``OUT/sourcedata/models``; it may be missing. `factor, zooms`: acquired over
    wanted voxel, and acquired voxel (mm); models made for others are left out (10 %). Files of
    weights; empty where no model serves.
    """
    root = Path(models_dir)
    models = sorted(
        (path.relative_to(root).parts[0].removeprefix("sub-"), path)
        for name in (method, *earlier_names(method))
        for path in root.glob(f"sub-*/**/*_desc-{name}_model.safetensors")
    )
    others = [(label, path) for label, path in models if label != subject.removeprefix("sub-")]
    later = [path for label, path in others if label > subject.removeprefix("sub-")]
    earlier = [path for label, path in others if label < subject.removeprefix("sub-")]
    return [path for path in (*later, *earlier) if _serves(path, method, factor, zooms)]


def _serves(
    weights: Path, method: str, factor: Sequence[float] | None, zooms: Sequence[float] | None
) -> bool:
    """Whether a model's card can be read and names this method, factor and resolution."""
    try:
        card = read_card(weights)
    except ModelError:
        return False
    same = factor is None or all(
        abs(a - b) < 1e-6 for a, b in zip(factor, card.factor, strict=True)
    )
    return (
        same
        and card.method == method
        and (
            zooms is None
            or all(abs(a - b) <= TOLERANCE * b for a, b in zip(zooms, card.lowres_mm, strict=True))
        )
    )
