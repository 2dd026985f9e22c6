"""Models of other participants, used for negative controls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bids_sr.sr.models.card import ModelError, read_card
from bids_sr.sr.models.compatibility import MAX_SIZE_DIFFERENCE


def other_models(
    models_dir: Path,
    method: str,
    subject: str,
    *,
    factor: Sequence[float] | None = None,
    zooms: Sequence[float] | None = None,
) -> list[Path]:
    """Return a method's weights from other participants, in cyclic order after this participant.

    Thus, the first model differs between participants as much as possible, but is the same in
    every analysis of the same data.

    `models_dir` is the directory ``OUT/sourcedata/models``, which may be missing, and `subject`
    the label of this participant. Models trained for other factors than `factor` are skipped, and
    models whose voxel size differs by more than 10 % from `zooms`, the acquired voxel size (mm).
    Returns weights files; empty if there is no suitable model.
    """
    own_label = subject.removeprefix("sub-")
    labeled_models = sorted(
        (path.relative_to(models_dir).parts[0].removeprefix("sub-"), path)
        for path in models_dir.glob(f"sub-*/**/*_desc-{method}_model.safetensors")
    )
    later_models = [path for label, path in labeled_models if label > own_label]
    earlier_models = [path for label, path in labeled_models if label < own_label]
    return [
        path
        for path in (*later_models, *earlier_models)
        if _is_suitable(path, method, factor, zooms)
    ]


def _is_suitable(
    weights: Path, method: str, factor: Sequence[float] | None, zooms: Sequence[float] | None
) -> bool:
    """Return whether a model's card is readable and matches method, factor and resolution."""
    try:
        card = read_card(weights)
    except ModelError:
        return False
    has_same_factor = factor is None or all(
        abs(ratio - card_ratio) < 1e-6
        for ratio, card_ratio in zip(factor, card.factor, strict=True)
    )
    has_similar_size = zooms is None or all(
        abs(size - card_size) <= MAX_SIZE_DIFFERENCE * card_size
        for size, card_size in zip(zooms, card.lowres_mm, strict=True)
    )
    return has_same_factor and has_similar_size and card.method == method
