"""Models of other participants, used for negative controls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
    """Return a method's weights from other participants, in cyclic order after this participant.

    Thus, the first model differs between participants as much as possible, but is the same in
    every analysis of the same data.

    Parameters
    ----------
    models_dir : Path
        Directory ``OUT/sourcedata/models``, which may be missing.
    method : str
        Name of the method.
    subject : str
        Label of this participant.
    factor : Sequence[float] | None, optional
        Ratio of acquired to high-resolution voxel size. Models trained for other factors are
        skipped.
    zooms : Sequence[float] | None, optional
        Acquired voxel size (mm). Models whose voxel size differs by more than 10 % are skipped.

    Returns
    -------
    list[Path]
        Weights files; empty if there is no suitable model.
    """
    root = Path(models_dir)
    models = sorted(
        (path.relative_to(root).parts[0].removeprefix("sub-"), path)
        for path in root.glob(f"sub-*/**/*_desc-{method}_model.safetensors")
    )
    candidates = [(label, path) for label, path in models if label != subject.removeprefix("sub-")]
    later = [path for label, path in candidates if label > subject.removeprefix("sub-")]
    earlier = [path for label, path in candidates if label < subject.removeprefix("sub-")]
    return [path for path in (*later, *earlier) if _serves(path, method, factor, zooms)]


def _serves(
    weights: Path, method: str, factor: Sequence[float] | None, zooms: Sequence[float] | None
) -> bool:
    """Return whether a model's card is readable and matches method, factor and resolution."""
    try:
        card = read_card(weights)
    except ModelError:
        return False
    same_factor = factor is None or all(
        abs(a - b) < 1e-6 for a, b in zip(factor, card.factor, strict=True)
    )
    return (
        same_factor
        and card.method == method
        and (
            zooms is None
            or all(abs(a - b) <= TOLERANCE * b for a, b in zip(zooms, card.lowres_mm, strict=True))
        )
    )
