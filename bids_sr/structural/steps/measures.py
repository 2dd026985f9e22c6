"""Metrics of super-resolved structural scans: similarity, quality, tissues, lesions."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bids_sr.config.sections.anat import AlignmentModel, Tools
from bids_sr.engine.artifacts import Derivative, Facts, File, Image, Map, Rows
from bids_sr.engine.metric_rows import MetricRow, columns_json, metric_rows
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import MEASURE_SCANS
from bids_sr.io.arrays import Array
from bids_sr.io.volume import Volume
from bids_sr.sr.models.card import ModelCard
from bids_sr.structural.steps.scans import (
    PreparedScans,
    check_acquired,
    grid_text,
    group_by_series,
    make_empty_folder,
    read_edited_mask,
    select_untrained_slices,
)

_LOGGER = logging.getLogger(__name__)
# masks (3D, boolean) by contrast (``all`` for all contrasts together, ``FLAIR``), series and class
_ClassMasks = dict[str, dict[str, dict[str, Array]]]
CLASS_LABELS = {"csfSpaces": 1, "veins": 2, "pial": 3, "brainTissue": 4}
"""Labels of classes that are segmented from all contrasts together; 0 is background."""
CONTROL_MEASURES_TEXT = (
    "For participants without low-resolution scans, tissue volumes were measured in each"
    " session to assess the variability of volumes over time [@attention_unet]."
)
"""Methods text of measures of high-resolution scans without low-resolution scans."""


def describe_measures(suffixes: Sequence[str], tools: Tools, *, is_simulated: bool = False) -> str:
    """Return methods text of the comparison of super-resolved scans with measured scans.

    `is_simulated` is whether low-resolution scans were simulated instead of acquired.
    """
    acquired_sentence = (
        " At the acquired resolution, all series were compared with the acquired scans."
    )
    class_sentence = (
        " The intensities of CSF, veins, pial layer and brain were fitted to the measured scans"
        " and used for all series."
        if _has_classes(suffixes)
        else ""
    )
    fast_sentence = (
        " For the image quality metrics, tissues were segmented in the brain-extracted"
        " high-resolution T1w scan with FSL FAST [@fast]."
        if _uses_fast(suffixes, tools)
        else ""
    )
    return (
        "Super-resolved and interpolated scans were compared with the measured scans in slices"
        f" that were not used for training.{'' if is_simulated else acquired_sentence}"
        " The comparison with measured scans included error metrics, peak"
        " signal-to-noise ratio (PSNR), structural similarity (SSIM), image quality metrics,"
        " tissues segmented with Atropos [@ants], and segmentations of CSF, veins, pial layer and"
        f" white-matter hyperintensities [@attention_unet].{class_sentence}{fast_sentence}"
    )


def describe_tissues(
    suffixes: Sequence[str], align: AlignmentModel, tools: Tools
) -> dict[str, object]:
    """Return metadata of the tissue segmentation of the measured scans."""
    program = "FAST" if _uses_fast(suffixes, tools) else "Atropos"
    return {
        "Resolution": grid_text(suffixes[0], align),
        "Description": (
            f"tissue segmentation of the measured scans with {program}: 1 GM, 2 WM, 3 CSF"
        ),
    }


@step(
    Stage.STRUCTURAL,
    makes=("scan_metrics", "scan_columns", "scan_dseg", "scan_classes"),
    memory=MEASURE_SCANS,
)
def measure_scans(
    scans: PreparedScans,
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
    """Compare super-resolved and interpolated scans with the measured high-resolution scans.

    The metrics are on similarity, image quality, tissues and lesions.

    `made_scans` are super-resolved. `card_file` has model cards, which list
    held-out slices and the number of parameters. `given_lesion_template` has locations of lesions
    in template space; None allows lesions in any location. `given_wmh_reference` is an edited mask
    of white-matter hyperintensities in the measured scans, the reference for volumes and overlaps;
    None uses the automatic mask.

    The results are a table of metrics; descriptions of its columns; tissues of the measured scans
    (1 GM, 2 WM, 3 CSF); and classes (`CLASS_LABELS`) and white-matter hyperintensities of all
    series.
    """
    edited_lesions = None
    if given_wmh_reference is not None:
        edited_lesions = read_edited_mask(given_wmh_reference, scans.scan_mask)
    measures = _compute_measures(
        scans,
        group_by_series([*scans.coarse_scans, *scans.other_scans, *made_scans]),
        select_untrained_slices(scans, card_file),
        given_lesion_template,
        here,
        suffixes=suffixes,
        anat_tools=anat_tools,
        edited_lesions=edited_lesions,
        seed=random_seed,
    )
    rows = [
        *measures.rows,
        *check_acquired(scans, made_scans),
        *_list_parameter_rows(card_file),
    ]
    columns = columns_json(row.statistic for row in rows)
    sidecar = scans.coarse_scans[0].sidecar
    common_metadata = {"Resolution": sidecar["Resolution"]} if "Resolution" in sidecar else {}
    class_images = _make_class_images(measures.classes, scans.scan_mask.affine, common_metadata)
    return rows, columns, measures.tissues, class_images


def _list_parameter_rows(cards: Sequence[Mapping[str, object]]) -> list[MetricRow]:
    """Return a row with the number of parameters of each network whose card lists it."""
    rows: list[MetricRow] = []
    for card in cards:
        if isinstance(count := card.get("parameters"), int):
            method = ModelCard.from_json(card).method
            rows += metric_rows(method, {"parameters": float(count)}, contrast="all")
    return rows


def _make_class_images(
    classes: Mapping[str, Mapping[str, Mapping[str, Array]]],
    affine: Array,
    common_metadata: Mapping[str, object],
) -> list[Derivative]:
    """Return class labels of each series, and masks of white-matter hyperintensities.

    `common_metadata` contains the metadata that all sidecars share.
    """
    images = []
    for name, masks_by_class in classes["all"].items():
        labels = np.zeros(next(iter(masks_by_class.values())).shape, np.uint8)
        for label, voxels in masks_by_class.items():
            labels[voxels] = CLASS_LABELS[label]
        entities = {"res": "hr", "desc": name, "label": "classes", "suffix": "dseg"}
        legend = "1 CSF-filled spaces, 2 veins and sinuses, 3 pial layer, 4 brain tissue"
        sidecar = {
            **common_metadata,
            "Description": "segmentation based on the T1w, T2w and FLAIR scans"
            f" together, with class intensities of the measured scans: {legend}",
        }
        images.append(Derivative(Volume(labels, affine, dtype="uint8"), entities, sidecar))
    for name, masks_by_class in classes["FLAIR"].items():
        entities = {"res": "hr", "desc": name, "label": "WMH", "suffix": "mask"}
        sidecar = {
            **common_metadata,
            "Type": "Lesion",
            "Description": "white-matter hyperintensities, segmented automatically in the FLAIR"
            " scan",
        }
        images.append(Derivative(Volume(masks_by_class["wmh"], affine), entities, sidecar))
    return images


@step(
    Stage.STRUCTURAL,
    makes=("scan_metrics", "scan_columns", "scan_dseg"),
    memory=MEASURE_SCANS,
)
def measure_control(
    scans: PreparedScans,
    given_lesion_template: File | None = None,
    *,
    here: Path = HERE,
    suffixes: tuple[str, ...],
    anat_tools: Tools,
    random_seed: int,
) -> tuple[Rows, Facts, Image]:
    """Measure tissue volumes and image quality of high-resolution scans without comparison.

    The parameters are as in `measure_scans`. The results are a table of metrics; descriptions of
    its columns; and tissues of the scans (1 GM, 2 WM, 3 CSF).
    """
    measures = _compute_measures(
        scans,
        {},
        (),
        given_lesion_template,
        here,
        suffixes=suffixes,
        anat_tools=anat_tools,
        seed=random_seed,
    )
    columns = columns_json(row.statistic for row in measures.rows)
    return measures.rows, columns, measures.tissues


def _segment_with_fast(
    measured: Mapping[str, Array], brain: Volume, tools: Tools, here: Path
) -> dict[str, Array] | None:
    """Return tissue masks of the measured T1w scan from FAST; None if FAST is not used.

    The dictionary is empty if FAST fails.
    """
    from bids_sr.preproc import fsl

    if not _uses_fast(list(measured), tools):
        return None
    try:
        image = Volume(measured["T1w"], brain.affine)
        return fsl.segment_with_fast(
            image, brain.data > 0, make_empty_folder(here / "fsl_tissues")
        )
    except RuntimeError as error:
        _LOGGER.warning(
            "Tissue segmentation of the measured T1w scan with FAST failed, so the"
            " quality metrics that depend on these tissues are not available: %s",
            error,
        )
        return {}


def _uses_fast(suffixes: Sequence[str], tools: Tools) -> bool:
    """Return True if FAST segments tissues for the quality metrics, which requires a T1w scan."""
    return tools == "fsl" and "T1w" in suffixes


class _Measures(NamedTuple):
    """Measures of the scans of one head.

    `labels` are tissue labels (X, Y, Z) of the measured scans: 1 GM, 2 WM, 3 CSF. `classes` are
    masks of all series; empty for contrasts that are missing.
    """

    rows: list[MetricRow]
    tissues: Volume
    classes: _ClassMasks


def _compute_measures(
    scans: PreparedScans,
    series: Mapping[str, Mapping[str, Array]],
    slices: Sequence[int],
    lesion_template: Path | None,
    here: Path,
    *,
    suffixes: Sequence[str],
    anat_tools: Tools,
    edited_lesions: Array | None = None,
    seed: int,
) -> _Measures:
    """Compute all metrics, the tissues of the measured scans, and the classes of all series.

    `series` are the scans besides the measured scans, by series and contrast. They are compared
    with the measured scans in `slices`. `edited_lesions` are edited hyperintensities of the
    measured scans (X, Y, Z); None for automatic segmentation. The other parameters are as in
    `measure_scans`. Quality metrics use tissues of FAST or Atropos, and volumes and overlaps use
    Atropos for all series.
    """
    from bids_sr.structural.image_quality import quality_rows, similarity_rows
    from bids_sr.structural.lesions import segment_hyperintensities
    from bids_sr.structural.tissue_overlap import segmentation_rows

    fine_scans, scan_mask, scan_brain = scans.fine_scans, scans.scan_mask, scans.scan_brain
    assert fine_scans is not None
    assert scan_brain is not None
    mask, brain, zooms = scan_mask.data, scan_brain.data, scan_mask.zooms.tolist()
    scan_by_suffix = group_by_series(fine_scans)["measured"]
    measured = {suffix: scan_by_suffix[suffix] for suffix in suffixes}
    fast_tissues = _segment_with_fast(measured, scan_brain, anat_tools, here)
    lesion_locations = _resample_lesion_template(lesion_template, scan_mask, scans.scan_facts)
    all_series = {"measured": measured, **series}
    tissues_by_series = {
        name: tissues
        for name, images in all_series.items()
        if (tissues := _segment_tissues(images, brain, scan_mask.affine, seed, name))
    }
    measured_tissues = (
        tissues_by_series.get("measured", {}) if fast_tissues is None else fast_tissues
    )
    rows: list[MetricRow] = []
    for contrast, reference in measured.items():
        images = {name: volumes[contrast] for name, volumes in series.items()}
        rows += similarity_rows(contrast, images, reference, mask, slices)
        rows += quality_rows(
            contrast, {"measured": reference, **images}, mask, measured_tissues, zooms
        )
    if "measured" in tissues_by_series:
        rows += segmentation_rows("all", tissues_by_series, mask, zooms)
    classes: _ClassMasks = {"all": {}, "FLAIR": {}}
    if _has_classes(list(measured)):
        from bids_sr.structural.multispectral import fit_classes, segment_multispectral

        wider_mask = None if np.array_equal(brain, mask) else mask
        # fitted once, so that series differ in their images and not in the fit
        model = fit_classes(measured, brain, wider_mask)
        classes["all"] = {
            name: segment_multispectral(volumes, brain, wider_mask, model=model)
            for name, volumes in all_series.items()
        }
        rows += segmentation_rows("all", classes["all"], mask, zooms)
    if "FLAIR" in measured:
        flairs = {name: volumes["FLAIR"] for name, volumes in all_series.items()}
        classes["FLAIR"] = {
            name: {"wmh": segment_hyperintensities(image, brain, zooms, lesion_locations)}
            for name, image in flairs.items()
        }
        reference_masks = dict(classes["FLAIR"])
        if edited_lesions is not None:
            reference_masks["measured"] = {"wmh": edited_lesions}
        rows += segmentation_rows("FLAIR", reference_masks, mask, zooms)
    labels = Volume(_label_tissues(measured_tissues, mask.shape), scan_mask.affine)
    return _Measures(rows=rows, tissues=labels, classes=classes)


def _segment_tissues(
    scans: Mapping[str, Array], mask: Array, affine: Array, seed: int, name: str
) -> dict[str, Array]:
    """Return tissue masks; the dictionary is empty if segmentation fails.

    A failure is only logged, so that all other measures are kept.
    """
    from bids_sr.preproc import tissues

    try:
        return tissues.tissue_masks(tissues.segment_tissues(scans, mask, affine, seed=seed))
    except RuntimeError as error:
        _LOGGER.warning("Tissue segmentation of the %s series failed: %s", name, error)
        return {}


def _has_classes(suffixes: Sequence[str]) -> bool:
    """Return True if CSF, veins, pial layer and brain are segmented from all contrasts."""
    from bids_sr.structural.multispectral import CONTRASTS

    return set(CONTRASTS) <= set(suffixes)


def _label_tissues(tissues: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    """Return the labels of tissues (1 GM, 2 WM, 3 CSF), given their masks by name."""
    from bids_sr.preproc.tissues import TISSUES

    labels = np.zeros(shape, np.uint8)
    for label, tissue in enumerate(TISSUES, 1):
        labels[tissues.get(tissue, np.zeros(shape, bool))] = label
    return labels


def _resample_lesion_template(
    file: Path | None, grid: Volume, facts: Mapping[str, object]
) -> Array | None:
    """Return voxels where lesions are likely, resampled by nearest neighbor (3D, boolean).

    Returns None, for lesions in any location, if `file` is None. The fact ``to_template`` maps
    points of the grid to points of the template (RAS mm).
    """
    if file is None:
        return None
    from bids_sr.preproc.ants import load
    from bids_sr.spatial.resampling import sample_volume

    template = load(file)
    resampled = sample_volume(
        (template.data > 0).astype(np.float32),
        template.affine,
        grid.data.shape,
        grid.affine,
        np.asarray(facts["to_template"], np.float64),
        order=0,
        zero_outside=True,
    )
    return np.asarray(resampled > 0.5)
