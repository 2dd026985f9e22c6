"""Which slices a model may be judged by, and all measures of fused scans in one table."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_sr.metrics.long_tables import MetricRow
from bids_sr.registration.tissues import NAMES, segment_tissues, tissue_masks
from bids_sr.stats.image.image_quality import lesions, likeness, quality, segmentations

Array = NDArray[Any]
LOG = logging.getLogger(__name__)


def held_out_slices(card_files: Sequence[str], depth: int, checksum: str) -> list[int]:
    """Slices of a head that none of the models was trained on; all of them where no model saw this head.

    Parameters
    ----------
    checksum : of the head's images, as cards have it: names of heads may be those of another study

    """
    kept = set(range(depth))
    for path in card_files:
        card = json.loads(Path(path).read_text(encoding="utf-8"))
        names = {name for name, found in card.get("data_sha256", {}).items() if found == checksum}
        if names:
            parts = [part for part in card.get("held_out", {}).get("parts", []) if part["image"] in names]
            kept &= {z for part in parts for z in range(*part["slices"])}
    return sorted(kept)


def measured_rows(
    measured: Mapping[str, Array], series: Mapping[str, Mapping[str, Array]], mask: Array, affine: Array,
    slices: Sequence[int], *, seed: int,
) -> tuple[list[MetricRow], Array]:  # fmt: skip
    """All rows of the table, and the tissues of the measured scans (1 GM, 2 WM, 3 CSF).

    Parameters
    ----------
    measured : fine scans by contrast
    series : name to contrast to image
    affine : voxel → RAS mm
    slices : that images are compared in with the fine ones
    """
    zooms = [float(v) for v in np.sqrt((affine[:3, :3] ** 2).sum(0))]
    every = {"measured": measured, **series}
    found = {name: tissues for name, scans in every.items() if (tissues := _tissues(scans, mask, affine, seed, name))}
    rows: list[MetricRow] = []
    for contrast, truth in measured.items():
        images = {name: scans[contrast] for name, scans in series.items()}
        rows += likeness(contrast, images, truth, mask, slices)
        rows += quality(contrast, {"measured": truth, **images}, mask, found.get("measured", {}), zooms)
    if "measured" in found:
        rows += segmentations("all", found, mask, zooms)
    if "FLAIR" in measured:
        rows += segmentations(
            "FLAIR", lesions({name: scans["FLAIR"] for name, scans in every.items()}, mask), mask, zooms
        )
    labels = np.zeros(mask.shape, np.uint8)
    for label, tissue in enumerate(NAMES, 1):
        labels[found.get("measured", {}).get(tissue, np.zeros(mask.shape, bool))] = label
    return rows, labels


def _tissues(scans: Mapping[str, Array], mask: Array, affine: Array, seed: int, name: str) -> dict[str, Array]:
    """Masks of the tissues; empty where they cannot be told apart, which is no reason to lose all other measures."""
    try:
        return tissue_masks(segment_tissues(scans, mask, affine, seed=seed))
    except RuntimeError as error:
        LOG.warning("no tissues of %s: %s", name, error)
        return {}
