"""Metrics of super-resolved structural scans: similarity, quality, tissues, lesions."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MetricRow, columns_json, metric_rows
from bids_sr.pipeline.artifacts import Derivative, Facts, File, Image, Map, Mask, Rows
from bids_sr.pipeline.step import HERE, step
from bids_sr.sr.method import Cost
from bids_sr.sr.models.card import ModelCard
from bids_sr.steps.memory import MEASURE_SCANS
from bids_sr.steps.structural.scans import (
    Align,
    Tools,
    by_series,
    emptied,
    grid_text,
    untrained_slices,
)

_LOGGER = logging.getLogger(__name__)


def _by_fast(suffixes: Sequence[str], tools: Tools) -> bool:
    """Return whether FAST segments tissues for the quality metrics, which needs a T1w scan."""
    return tools == "fsl" and "T1w" in suffixes


def describe_measures(suffixes: Sequence[str], tools: Tools) -> str:
    """Say how super-resolved scans were compared with measured ones."""
    fast = (
        " For the image quality metrics, tissues were segmented in the brain-extracted"
        " high-resolution T1w scan with FSL FAST [@fast]."
    )
    return (
        "Super-resolved and interpolated scans were compared with the measured scans in slices"
        " that were not used for training. The comparison included error metrics, peak"
        " signal-to-noise ratio (PSNR), structural similarity (SSIM), image quality metrics,"
        " tissues segmented with Atropos [@ants], and segmentations of CSF, veins, pial layer and"
        f" white-matter hyperintensities [@attention_unet].{fast * _by_fast(suffixes, tools)}"
    )


def describe_tissues(suffixes: Sequence[str], align: Align, tools: Tools) -> dict[str, object]:
    """Return metadata of the tissues of the measured scans."""
    program = "FAST" if _by_fast(suffixes, tools) else "Atropos"
    return {
        "Resolution": grid_text(suffixes[0], align),
        "Description": (
            f"tissue segmentation of the measured scans with {program}: 1 GM, 2 WM, 3 CSF"
        ),
    }


@step(
    makes=("scan_metrics", "scan_columns", "scan_dseg", "scan_classes"),
    memory=MEASURE_SCANS,
    cost=lambda suffixes: Cost(always=10.0, high=36.0 * len(suffixes)),
)
def measure_scans(
    fine_scans: list[Map],
    coarse_scans: list[Map],
    other_scans: list[Map],
    scan_mask: Mask,
    scan_brain: Mask,
    scan_facts: Facts,
    made_scans: list[Map],
    card_file: list[Facts],
    given_lesion_template: File | None = None,
    given_wmh_reference: File | None = None,
    *,
    here: Path = HERE,
    suffixes: tuple[str, ...],
    anat_tools: Tools,
    random_seed: int,
) -> tuple[Rows, Facts, Image, list[Map]]:
    """Compare super-resolved and interpolated scans with the fine ones.

    The metrics are on similarity, quality, tissues and lesions.

    `coarse_scans`: coarse scans on the fine grid by cubic spline, one for each contrast.
    `scan_mask`: voxels that remain of the scans, on their grid (3D, boolean). `scan_brain`: voxels
    of the brain there. `scan_facts`: contains the matrix to the template. `card_file`: cards of
    their models, which list the slices that these have not seen, and the number of parameters.
    `given_lesion_template`: where lesions occur, in template space; None: everywhere.
    `given_wmh_reference`: edited mask of white-matter hyperintensities in the fine scans, which
    volumes and overlaps are compared with; None: the automatic mask. Returns the
    table of metrics; what its columns mean; tissues of the fine scans, 1 GM, 2 WM, 3 CSF; classes
    of all series (`CLASS_LABELS`) and their white-matter hyperintensities.
    """
    series = by_series([*coarse_scans, *other_scans, *made_scans])
    found = by_series(fine_scans)["measured"]
    measured = {suffix: found[suffix] for suffix in suffixes}
    edited = None if given_wmh_reference is None else _edited(given_wmh_reference, scan_mask)
    slices = untrained_slices(fine_scans, coarse_scans, scan_mask, card_file)
    likely = _likely_lesions(given_lesion_template, scan_mask, scan_facts)
    rows, labels, classes = _measured_rows(
        measured,
        series,
        scan_mask.data,
        scan_mask.affine,
        slices,
        brain=scan_brain.data,
        likely=likely,
        edited=edited,
        by_fast=_tissues_by_fast(measured, scan_brain, here) if anat_tools == "fsl" else None,
        seed=random_seed,
    )
    rows += _sizes(card_file)
    columns = columns_json(row.statistic for row in rows)
    dseg = Volume(labels, scan_mask.affine)
    about = {key: value for key, value in fine_scans[0].sidecar.items() if key in ("Resolution",)}
    return rows, columns, dseg, _class_images(classes, scan_mask.affine, about)


CLASS_LABELS = {"csfSpaces": 1, "veins": 2, "pial": 3, "brainTissue": 4}
"""Labels of the classes of all contrasts together; 0 is no class."""


def _class_images(
    classes: Mapping[str, Mapping[str, Mapping[str, Array]]],
    affine: Array,
    about: Mapping[str, object],
) -> list[Derivative]:
    """Return classes of each series as label images, and its hyperintensities as a mask.

    `about`: entries of all sidecars.
    """
    images = []
    for name, masks_of in classes["all"].items():
        labels = np.zeros(next(iter(masks_of.values())).shape, np.uint8)
        for label, voxels in masks_of.items():
            labels[voxels] = CLASS_LABELS[label]
        entities = {"res": "hr", "desc": name, "label": "classes", "suffix": "dseg"}
        legend = "1 CSF-filled spaces, 2 veins and sinuses, 3 pial layer, 4 brain tissue"
        sidecar = {
            **about,
            "Description": "segmentation based on the T1w, T2w and FLAIR scans"
            f" together: {legend}",
        }
        images.append(Derivative(Volume(labels, affine, dtype="uint8"), entities, sidecar))
    for name, masks_of in classes["FLAIR"].items():
        entities = {"res": "hr", "desc": name, "label": "WMH", "suffix": "mask"}
        sidecar = {
            **about,
            "Type": "Lesion",
            "Description": "white-matter hyperintensities, segmented automatically in the FLAIR"
            " scan",
        }
        images.append(Derivative(Volume(masks_of["wmh"], affine), entities, sidecar))
    return images


def _edited(file: Path, grid: Volume) -> Array:
    """Read an edited mask on the grid of the scans (3D, boolean); refuse one on another grid."""
    from bids_sr.io.fields_of_view import same_grid
    from bids_sr.io.nifti import load_image
    from bids_sr.notices import UsageError

    data, affine = load_image(Path(file))
    if not same_grid(data.shape, affine, grid.data.shape, grid.affine):
        raise UsageError(
            f"{file}",
            f"the mask has the grid {data.shape}, which differs in size or position from"
            f" the grid of the scans, {grid.data.shape}",
            "edit a copy of the mask label-WMH_desc-measured_mask that was written by an"
            " earlier run",
        )
    return np.asarray(data > 0.5)


def _likely_lesions(file: Path | None, grid: Volume, facts: Mapping[str, object]) -> Array | None:
    """Return voxels in which lesions occur, by the nearest voxel of a template (3D, boolean).

    `file`: template; None returns None (everywhere). `facts`: its ``to_template`` is the matrix
    from a point of the grid to its point in the template (RAS mm).
    """
    if file is None:
        return None
    from bids_sr.registration.ants import load
    from bids_sr.spatial.resampling import sample_volume

    prior = load(file)
    found = sample_volume(
        (prior.data > 0).astype(np.float32),
        prior.affine,
        grid.data.shape,
        grid.affine,
        np.asarray(facts["to_template"], np.float64),
        order=0,
        zero_outside=True,
    )
    return np.asarray(found > 0.5)


CONTROL_MEASURES_TEXT = (
    "For participants without low-resolution scans, tissue volumes were measured in each"
    " session to assess the variability of volumes over time [@attention_unet]."
)
"""Methods text of the measures of scans of a high resolution only."""


@step(
    makes=("scan_metrics", "scan_columns", "scan_dseg"),
    memory=MEASURE_SCANS,
    cost=lambda suffixes: Cost(always=10.0, high=12.0 * len(suffixes)),
)
def measure_control(
    fine_scans: list[Map],
    scan_mask: Mask,
    scan_brain: Mask,
    scan_facts: Facts,
    given_lesion_template: File | None = None,
    *,
    here: Path = HERE,
    suffixes: tuple[str, ...],
    anat_tools: Tools,
    random_seed: int,
) -> tuple[Rows, Facts, Image]:
    """Measure tissue volumes and quality of high-resolution scans that nothing is compared with.

    `scan_mask`, `scan_brain`, `scan_facts`, `given_lesion_template`: as in `measure_scans`.
    Returns the table of metrics; what its columns mean; tissues of the scans, 1 GM, 2 WM, 3 CSF.
    """
    found = by_series(fine_scans)["measured"]
    measured = {suffix: found[suffix] for suffix in suffixes}
    rows, labels, _ = _measured_rows(
        measured,
        {},
        scan_mask.data,
        scan_mask.affine,
        (),
        brain=scan_brain.data,
        likely=_likely_lesions(given_lesion_template, scan_mask, scan_facts),
        by_fast=_tissues_by_fast(measured, scan_brain, here) if anat_tools == "fsl" else None,
        seed=random_seed,
    )
    return rows, columns_json(row.statistic for row in rows), Volume(labels, scan_mask.affine)


def _sizes(cards: Sequence[Mapping[str, object]]) -> list[MetricRow]:
    """Return a row per network with its number of parameters, if its card has it."""
    return [
        row
        for card in cards
        if isinstance(count := card.get("parameters"), int)
        for row in metric_rows(
            ModelCard.from_json(card).method, {"parameters": float(count)}, contrast="all"
        )
    ]


def _measured_rows(
    measured: Mapping[str, Array],
    series: Mapping[str, Mapping[str, Array]],
    mask: Array,
    affine: Array,
    slices: Sequence[int],
    *,
    brain: Array | None = None,
    likely: Array | None = None,
    edited: Array | None = None,
    by_fast: Mapping[str, Array] | None = None,
    seed: int,
) -> tuple[list[MetricRow], Array, dict[str, dict[str, dict[str, Array]]]]:
    """All rows of the table, the tissues of the measured scans (1 GM, 2 WM, 3 CSF), and classes.

    `slices`: that images are compared in with the fine ones. `brain`: voxels in which tissues are
    segmented; None: `mask`. `likely`: voxels in which lesions occur; None: everywhere. `edited`:
    hyperintensities of the measured scans by hand; None: found automatically. `by_fast`: tissues
    of the measured scans for the quality metrics; None: by Atropos, as for volumes and overlaps,
    which use the same program for all series. Classes are masks by contrast (``all``, ``FLAIR``),
    series and class.
    """
    from bids_sr.quality.classes import lesions, segmentations
    from bids_sr.quality.image_quality import likeness, quality
    from bids_sr.registration.multispectral import CONTRASTS, segment_multispectral
    from bids_sr.registration.tissues import NAMES

    zooms = voxel_sizes(affine).tolist()
    every = {"measured": measured, **series}
    inside = mask if brain is None else brain
    around = None if np.array_equal(inside, mask) else mask
    by_scan = {
        name: tissues
        for name, scans in every.items()
        if (tissues := _tissues(scans, inside, affine, seed, name))
    }
    own_tissues = by_scan.get("measured", {}) if by_fast is None else by_fast
    rows: list[MetricRow] = []
    drawn: dict[str, dict[str, dict[str, Array]]] = {"all": {}, "FLAIR": {}}
    for contrast, truth in measured.items():
        images = {name: scans[contrast] for name, scans in series.items()}
        rows += likeness(contrast, images, truth, mask, slices)
        rows += quality(contrast, {"measured": truth, **images}, mask, own_tissues, zooms)
    if "measured" in by_scan:
        rows += segmentations("all", by_scan, mask, zooms)
    if set(CONTRASTS) <= set(measured):
        drawn["all"] = {
            name: segment_multispectral(scans, inside, around) for name, scans in every.items()
        }
        rows += segmentations("all", drawn["all"], mask, zooms)
    if "FLAIR" in measured:
        flairs = {name: scans["FLAIR"] for name, scans in every.items()}
        drawn["FLAIR"] = lesions(flairs, inside, zooms, likely)
        compared = drawn["FLAIR"] | ({} if edited is None else {"measured": {"wmh": edited}})
        rows += segmentations("FLAIR", compared, mask, zooms)
    labels = np.zeros(mask.shape, np.uint8)
    for label, tissue in enumerate(NAMES, 1):
        labels[own_tissues.get(tissue, np.zeros(mask.shape, bool))] = label
    return rows, labels, drawn


def _tissues_by_fast(
    measured: Mapping[str, Array], brain: Volume, here: Path
) -> dict[str, Array] | None:
    """Return tissue masks of the high-resolution T1w scan by FAST; None without such a scan.

    They are empty if FAST fails.
    """
    from bids_sr.registration import fsl

    if "T1w" not in measured:
        return None
    try:
        image = Volume(measured["T1w"], brain.affine)
        return fsl.tissues_by_fast(image, brain.data > 0, "T1w", emptied(here / "fsl_tissues"))
    except RuntimeError as error:
        _LOGGER.warning(
            "Tissue segmentation of the measured T1w scan with FAST failed, so the"
            " quality metrics that depend on these tissues are not available: %s",
            error,
        )
        return {}


def _tissues(
    scans: Mapping[str, Array], mask: Array, affine: Array, seed: int, name: str
) -> dict[str, Array]:
    """Return tissue masks, empty where the tissues cannot be told apart.

    This failure is no reason to lose all other measures.
    """
    from bids_sr.registration import tissues

    try:
        return tissues.tissue_masks(tissues.segment_tissues(scans, mask, affine, seed=seed))
    except RuntimeError as error:
        _LOGGER.warning("Tissue segmentation of the %s series failed: %s", name, error)
        return {}
