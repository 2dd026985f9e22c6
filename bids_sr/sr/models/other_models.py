"""Models that other participants left, which serve as placebos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bids_sr.sr.former_names import earlier_names
from bids_sr.sr.models.card import ModelError, read_card
from bids_sr.sr.models.compatibility import TOLERANCE


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
