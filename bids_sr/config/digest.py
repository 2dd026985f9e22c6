"""Digest of the settings that decide the results, so that tables made with others are not joined by mistake."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from bids_sr.config.settings import Settings
from bids_sr.region_names import is_file

# Of each group, what does not change a result: where files lie, what is allowed, how results are stored.
UNDECISIVE: dict[str, tuple[str, ...]] = {
    "superres": ("model_source", "model_dir", "force", "hr_acq", "lr_acq"),
    "preprocessing": ("output_spaces", "output_dtype", "derivatives"),
    "activation": (),
    "evaluation": ("truth", "pair_holdout", "null_checks", "margin"),
}


def decisive(settings: Settings) -> dict[str, Any]:
    """Settings that decide the results, by ``group.name``; files stand for their content, lists for their sets."""
    found: dict[str, Any] = {
        "resources.random_seed": settings.resources.random_seed,
        "run.sloppy": settings.run.sloppy,
    }
    for group, left_out in UNDECISIVE.items():
        section = getattr(settings, group)
        for item in dataclasses.fields(section):
            if item.name not in left_out:
                found[f"{group}.{item.name}"] = _plain(getattr(section, item.name))
    if settings.preprocessing.derivatives:  # what was taken over decides, not where it lies
        found["preprocessing.derivatives"] = "taken over"
    if settings.superres.calibration_file is not None:
        found["superres.calibration"] = _plain(settings.superres.calibration_file)
    roi = settings.activation.roi
    found["activation.roi"] = _plain(Path(roi)) if is_file(roi) else roi
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return sorted(value)
    if isinstance(value, Path):
        return hashlib.sha256(value.read_bytes()).hexdigest() if value.is_file() else "a file that is not there"
    return value


def analysis_digest(settings: Settings) -> str:
    """Twelve hexadecimal digits that are equal where the settings that decide the results are.

    Method, preprocessing, activation, evaluation, seed and sloppiness count; paths, the selection of data and the
    machine do not. A model, weights or a region given as a file count by their content.
    """
    text = json.dumps(decisive(settings), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:12]


def differing(one: Settings, other: Settings) -> list[str]:
    """Decisive settings in which two calls differ, as ``group.name: this and that``."""
    a, b = decisive(one), decisive(other)
    return [f"{key}: {a.get(key)} and {b.get(key)}" for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
