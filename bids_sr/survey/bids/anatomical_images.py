"""Anatomical images that accompany the runs of a participant."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import mul
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.io.frozen import frozen
from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.io.region_names import is_file
from bids_sr.survey.bids import dataset_checks, headers
from bids_sr.survey.bids.acquired_matrix import with_acquired_matrix
from bids_sr.survey.bids.entities import parse_entities
from bids_sr.survey.bids.fmriprep_anatomy import find_anatomy, judge_anatomy, judge_surfaces
from bids_sr.survey.bids.layout import Index
from bids_sr.survey.bids.precomputed import DerivativeFolder, PrecomputedAnat
from bids_sr.survey.bids.run_files import note_parts, select_magnitudes
from bids_sr.survey.notices import Choice, attempt, note, warning

_MAX_SLAB_EXTENT = 0.6  # thinnest extent of a slab relative to the largest among the images
_MAX_COARSENESS = 1.5  # voxel size, relative to the smallest of the T1w images of the whole head
# labels of T1w images of another contrast, of scouts and without a face
_UNUSUAL = re.compile(r"scout|locali[sz]er|survey|gd|gad|contrast|inv\d|deface", re.IGNORECASE)


@frozen
class AnatomicalImages:
    """Anatomical images of a participant.

    `anat` are derivatives of another program. `t1w` are T1w images in order of preference.
    `t2starw` are magnitude T2*-weighted images of all sessions, and `t2starw_headers` the headers
    of the readable images among them.
    """

    anat: PrecomputedAnat | None
    t1w: tuple[Path, ...]
    t2starw: tuple[Path, ...]
    t2starw_headers: tuple[Header, ...]


def choose_images(
    index: Index, label: str, sources: Sequence[DerivativeFolder], settings: Settings
) -> Choice[AnatomicalImages]:
    """Choose the anatomical derivatives, T1w and T2*-weighted images of a participant."""
    raw_t1w, raw_t2starw = (find_companions(index, kind, label) for kind in ("t1w", "t2starw"))
    chosen_anat = attempt(None, find_anatomy, sources, label, raw_t1w.value)
    anat = chosen_anat.value
    notices = [*raw_t1w.notices, *raw_t2starw.notices, *chosen_anat.notices]
    if anat is not None:
        notices += judge_anatomy(label, anat, settings.preprocessing.templates)
    candidates = raw_t1w.value if anat is None else [anat.preproc]
    notices += note_parts([*candidates, *raw_t2starw.value])
    t1w = sort_t1w(
        {path: headers.find_header(path) for path in select_magnitudes(candidates)},
        settings.selection.session_label,
    )
    notices += judge_t1w(t1w, label, settings)
    if t1w:
        notices += judge_surfaces(label, anat, settings.preprocessing.spaces)
    t2starw = select_magnitudes(raw_t2starw.value)
    t2starw_headers = headers.read_volume_headers(t2starw)
    return Choice(
        value=AnatomicalImages(
            anat=anat,
            t1w=tuple(t1w),
            t2starw=tuple(t2starw),
            t2starw_headers=tuple(
                with_acquired_matrix(header, settings.paths.bids_dir)
                for header in t2starw_headers.value
            ),
        ),
        notices=(*notices, *t2starw_headers.notices),
    )


def find_companions(index: Index, kind: str, label: str) -> Choice[list[Path]]:
    """Return the images of a kind that accompany runs, with warnings of invalid names.

    Runs are processed without an image whose name is not valid.
    """
    paths = index.find(kind, label)
    faults = {path: [*dataset_checks.judge_image_name(path)] for path in paths}
    reasons = [
        *((path, fault.why, fault.remedy) for path in paths for fault in faults[path]),
        *(
            (image.path, image.reason, image.remedy)
            for image in index.find_misspelled_images(kind, label)
        ),
    ]
    return Choice(
        value=[path for path in paths if not faults[path]],
        notices=tuple(
            warning(path, f"the image is not used: {reason}. {remedy}")
            for path, reason, remedy in reasons
        ),
    )


def sort_t1w(images: Mapping[Path, Header | None], sessions: Collection[str] = ()) -> list[Path]:
    """Return the T1w images of a participant in order of preference.

    Images of the selected sessions come first, then images of the whole head with small voxels,
    then images whose label does not name another contrast, a scout or defacing. `images` are
    headers by path, None if not usable, and `sessions` the selected labels; all if empty.
    """
    partial = _select_partial([header for header in images.values() if header is not None])

    def order(path: Path) -> tuple[bool, bool, bool]:
        entities = parse_entities(path)
        is_selected = not sessions or entities.get("session", "") in sessions
        labels = " ".join(entities.get(key, "") for key in ("acquisition", "reconstruction"))
        is_unusual = _UNUSUAL.search(labels) or {"ceagent", "inv"} & entities.keys()
        return not is_selected, path in partial, bool(is_unusual)

    return sorted(images, key=order)


def _select_partial(images: Sequence[Header]) -> set[Path]:
    """Return the images that cover less of the head or have larger voxels than other images.

    Examples are ``acq-inplane`` and scouts.
    """
    extents = {header.path: min(map(mul, header.shape, header.zooms)) for header in images}
    voxels = {header.path: max(header.zooms) for header in images}
    least_extent = _MAX_SLAB_EXTENT * max(extents.values(), default=0.0)
    whole = {path for path, extent in extents.items() if extent >= least_extent}
    largest_voxel = _MAX_COARSENESS * min(map(voxels.__getitem__, whole), default=0.0)
    return {path for path, size in voxels.items() if path not in whole or size > largest_voxel}


def judge_t1w(images: Sequence[Path], label: str, settings: Settings) -> Iterator[Notice]:
    """Yield notices on the T1w image in use, which is the first, or on its absence."""
    yield from headers.read_volume_headers(images[:1]).notices
    if not images:
        yield note(f"sub-{label}", _describe_missing_t1w(label, settings))
    if len(images) > 1:
        yield note(
            images[0],
            f"{len(images)} T1w images were found; this image is used, by session, coverage, voxel"
            " size, label and name. To use another image, select it as t1w in --bids-filter-file.",
        )


def _describe_missing_t1w(label: str, settings: Settings) -> str:
    """Return a note with the consequences for a participant without a T1w image."""
    folder = settings.paths.bids_dir / f"sub-{label}"
    others = [path.name for name in ("UNIT1", "T2w") for path in folder.rglob(f"*_{name}.nii*")]
    rois = [roi for roi in settings.activation.roi if roi != "brain"]
    has_file = any(map(is_file, rois))
    sentences = [
        "No T1w image matches the filters in --bids-filter-file."
        if settings.selection.bids_filter_file
        else "No T1w image was found."
    ]
    if others:
        sentences.append(f"{others[0]} is not used; only the suffix T1w is.")
    if has_file:
        sentences.append("ROI files can only be used if they are in the space of the BOLD series.")
    sentences += [
        f"The region {roi} cannot be located."
        for roi in rois
        if roi != "auto" and not is_file(roi)
    ]
    if rois:
        otherwise = "Otherwise, the" if has_file else "The"
        sentences.append(f"{otherwise} whole brain is used as the region of interest.")
    sentences.append(
        "Results are not normalized to template space, and the confounds csf, white_matter"
        " and their CompCor components are not computed."
    )
    return " ".join(sentences)
