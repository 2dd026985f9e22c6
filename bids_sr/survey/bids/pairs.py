"""Selection of a run's T2*-weighted pair by voxel sizes.

If the session has two pairs, the second pair is reserved for evaluation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bids_sr.config import Settings, SuperRes
from bids_sr.io.grids import Factor, mm_text, size_text
from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.io.series import get_need
from bids_sr.survey.bids import slice_axis
from bids_sr.survey.bids.acquired_matrix import (
    INTERPOLATION_FIX,
    interpolation_text,
    list_interpolated,
)
from bids_sr.survey.bids.entities import parse_entities, run_number_order
from bids_sr.survey.bids.inputs import Pair
from bids_sr.survey.bids.method_options import works_in_plane
from bids_sr.survey.bids.pretrained_models import factor_without_pair, find_pretrained
from bids_sr.survey.notices import (
    Choice,
    InputError,
    input_error,
    is_problem,
    judge,
    note,
    problem,
    problem_unless,
)

SIZE_TOLERANCE = 0.10
"""Largest relative difference between the voxel sizes of the low-resolution image and the BOLD
run.
"""
# largest relative difference between a ratio of voxel sizes and a simple fraction
_RATIO_TOLERANCE = 0.02
_MAX_DENOMINATOR = 4
MIN_OVERLAP = 0.10
"""Smallest share of the BOLD field of view that an image must cover."""
_NOTED_OVERLAP = 0.60  # a smaller share is noted
_MAX_DEFAULT_FACTOR = 4  # largest factor that is derived from a pair by default
_MAX_FACTOR = 8  # largest factor of --sr-factor
_OVERLAP_POINTS = 12  # sample points along each axis
_SELECTION_FIX = (
    'Select two images with --bids-filter-file and {"t2starw": {"acquisition": ["LABEL",'
    ' "LABEL"]}}, or the repetition with {"t2starw": {"run": 1}}.'
)


class Pairs(NamedTuple):
    """Pair of a run, and the pair on which models are evaluated; None if there is none."""

    pair: Pair | None = None
    holdout: Pair | None = None


def choose_pairs(bold: Header, candidates: Sequence[Header], settings: Settings) -> Choice[Pairs]:
    """Choose the pairs of a run, or none if the images are unsuitable and no pair is required.

    `bold` is the header of the run, with slices along the third axis. `candidates` are magnitude
    T2*-weighted images of all sessions of the participant, with axes in any order. Raises
    `InputError` if a required pair is unsuitable, or only because of ``--sr-factor``.
    """
    try:
        return find_pairs(bold, candidates, settings)
    except InputError as error:
        if needs_pair(settings.superres) or _is_excluded_by_factor(bold, candidates, settings):
            raise
        notes = (
            note(fault.what, f"the T2*-weighted pair is not used: {fault.why}. {fault.remedy}")
            for fault in error.problems
        )
        return Choice(value=Pairs(), notices=tuple(notes))


def find_pairs(bold: Header, candidates: Sequence[Header], settings: Settings) -> Choice[Pairs]:
    """Find the pairs of a run; raise `InputError` if there are images, but no suitable pair.

    Images with the same ``run`` label are a pair if the session has several images of high
    resolution. The pair with the lowest run number is the run's pair, and the next pair is held
    out from training. Without a method that is trained on pairs, no pair is held out.
    """
    if not candidates:
        return Choice(value=Pairs())
    superres, is_retrospective = settings.superres, settings.evaluation.retrospective is not None
    if is_retrospective:  # the factor is the downsampling factor of the BOLD series
        superres = replace(superres, factor=())
    images = _choose_images(bold, candidates, superres)
    scans = _list_scans(bold, images)
    notices = [notice for scan in scans[:2] for notice in judge(_SCAN_RULES, scan, superres)]
    if problems := list(filter(is_problem, notices)):
        raise InputError(problems)
    pairs = [_build_pair(scan, superres) for scan in scans[:2]]
    if len({pair.factor for pair in pairs}) != 1:
        high_text, low_text = (
            ", ".join(f"{header.path.name} ({voxel_size_text(header)})" for header in headers)
            for headers in images
        )
        raise input_error(
            bold.path,
            f"several T2*-weighted pairs match the run (high resolution: {high_text}; low"
            f" resolution: {low_text or 'none'})",
            _SELECTION_FIX,
        )
    pair, *others = pairs
    if not is_retrospective:
        _require_moderate_factor(pair, superres)
    if not others:
        return Choice(value=Pairs(pair), notices=tuple(notices))
    notices.append(_describe_use(bold, pair, others[0], len(scans), superres))
    holdout = others[0] if superres.pair_trained else None
    return Choice(value=Pairs(pair, holdout), notices=tuple(notices))


def _is_excluded_by_factor(bold: Header, candidates: Sequence[Header], settings: Settings) -> bool:
    """Return whether a pair would be available for a run if ``--sr-factor`` were omitted.

    Only in-plane factors are compared: pairs with the same slice thickness as the run are common,
    whatever factor is requested across slices.
    """
    superres = settings.superres
    requested_factor = superres.factor_by_axis
    if requested_factor is None or superres.force or settings.evaluation.retrospective is not None:
        return False
    try:
        choice = find_pairs(bold, candidates, settings.with_values(superres={"factor": ()}))
    except InputError:
        return False
    pair = choice.value.pair
    return pair is not None and pair.factor[:2] != requested_factor[:2]


class _SplitImages(NamedTuple):
    """T2*-weighted images of a session by resolution."""

    high: list[Header]
    low: list[Header]


class _Scan(NamedTuple):
    """Run, and the high- and low-resolution image of one scan, in the axis order of the run.

    The low-resolution image of a single scan may be missing.
    """

    bold: Header
    high: Header
    low: Header | None

    @property
    def lowres(self) -> Header:
        """Low-resolution image, or the run, whose resolution a computed image has."""
        return self.low or self.bold


def _choose_images(bold: Header, candidates: Sequence[Header], superres: SuperRes) -> _SplitImages:
    """Return the images of the session whose pair a run uses, in the axis order of the run."""
    session = parse_entities(bold.path).get("session")
    images = [slice_axis.reorder_like(header, bold.affine) for header in candidates]
    by_session: dict[str | None, list[Header]] = {}
    for header in images:
        by_session.setdefault(parse_entities(header.path).get("session"), []).append(header)
    images_to_check = images if len(by_session) == 1 else by_session.get(session, [])
    for scan in _group_by_run(images_to_check):
        _refuse_contradiction(scan, superres)
    usable_sessions = _select_usable_sessions(
        {
            label: _SplitImages(
                high=[header for header in scans if _is_finer(header, bold, superres)],
                low=[header for header in scans if _has_bold_resolution(header, bold, superres)],
            )
            for label, scans in by_session.items()
        },
        session,
    )
    if not usable_sessions:
        raise input_error(
            bold.path,
            _explain_unfit(bold, images),
            "Add an acq-highres_T2starw image with smaller voxels. If an image with smaller voxels"
            " exists, check that --bids-filter-file does not exclude it.",
        )
    if len(usable_sessions) > 1:
        names = ", ".join(f"ses-{label}" for label in usable_sessions)
        raise input_error(
            bold.path,
            "the session of the run has no T2*-weighted pair, but several other sessions have"
            f" one ({names})",
            'Select a session with --bids-filter-file and {"t2starw": {"session": "LABEL"}}.',
        )
    return next(iter(usable_sessions.values()))


def _refuse_contradiction(images: Sequence[Header], superres: SuperRes) -> None:
    """Raise `InputError` if two images have equal resolutions, or contradict their labels."""
    presumed_pair = _presume_pair(images, superres)
    if presumed_pair is None:
        return
    high, low = presumed_pair
    ratios = _compute_zoom_ratios(low, high, superres)
    high_size, low_size = voxel_size_text(high), voxel_size_text(low)
    if np.all(np.abs(ratios - 1) <= _RATIO_TOLERANCE):
        raise input_error(
            high.path,
            f"the image has the same resolution as {low.path.name} ({high_size}), so there is no"
            " detail to learn",
            f"Use a high-resolution image with smaller voxels. {_SELECTION_FIX}",
        )
    if np.any(ratios < (1 - _RATIO_TOLERANCE if superres.thins_slices else 1)):
        raise input_error(
            high.path,
            "the high- and low-resolution images are swapped: the voxels of this image are"
            f" {high_size}, but the voxels of {low.path.name} are {low_size}",
            f"Swap the acq- labels of the two images. {_SELECTION_FIX}",
        )


def _presume_pair(images: Sequence[Header], superres: SuperRes) -> tuple[Header, Header] | None:
    """Return the high- and low-resolution image by label, or the only two if of equal size."""
    labeled_high, labeled_low = (
        [
            header
            for header in images
            if label in parse_entities(header.path).get("acquisition", "").lower()
        ]
        for label in ("high", "low")
    )
    if len(labeled_high) == len(labeled_low) == 1:
        return labeled_high[0], labeled_low[0]
    if len(images) != 2:
        return None
    first, second = images
    differences = np.abs(_compute_zoom_ratios(first, second, superres) - 1)
    return None if np.any(differences > _RATIO_TOLERANCE) else (first, second)


def _is_finer(header: Header, bold: Header, superres: SuperRes) -> bool:
    """Return whether an image has smaller voxels than the BOLD run along super-resolved axes."""
    ratios = _compute_zoom_ratios(header, bold, superres)
    if not superres.thins_slices:
        return bool(np.all(ratios < 1 - SIZE_TOLERANCE))
    # an axis may have the factor 1
    return bool(np.all(ratios <= 1 + SIZE_TOLERANCE) and np.any(ratios < 1 - SIZE_TOLERANCE))


def _has_bold_resolution(header: Header, bold: Header, superres: SuperRes) -> bool:
    """Return whether an image has the resolution of the BOLD run, within the tolerance."""
    return bool(np.all(np.abs(_compute_zoom_ratios(header, bold, superres) - 1) <= SIZE_TOLERANCE))


def _compute_zoom_ratios(header: Header, reference: Header, superres: SuperRes) -> np.ndarray:
    """Return voxel sizes relative to a reference (2,), or (3,) if slices get thinner."""
    ratios = np.asarray(header.zooms) / np.asarray(reference.zooms)
    return ratios if superres.thins_slices else ratios[:2]


def _select_usable_sessions(
    split_by_session: Mapping[str | None, _SplitImages], session: str | None
) -> Mapping[str | None, _SplitImages]:
    """Return only `session` if its images are usable, or else all sessions with usable images.

    Images are usable if some have high resolution. If any session has both resolutions, sessions
    without low-resolution images are not usable.
    """
    with_high = {label: images for label, images in split_by_session.items() if images.high}
    with_both = {label: images for label, images in with_high.items() if images.low}
    usable_sessions = with_both or with_high
    return {session: usable_sessions[session]} if session in usable_sessions else usable_sessions


def _explain_unfit(bold: Header, candidates: Sequence[Header]) -> str:
    """Return why none of the T2*-weighted images is suitable for a run."""
    images_text = "; ".join(
        f"{header.path.name}: {voxel_size_text(header)}" for header in candidates
    )
    if all(
        np.all(np.divide(header.zooms[:2], candidates[0].zooms[:2]) - 1 < _RATIO_TOLERANCE)
        for header in candidates
    ):
        return (
            "the T2*-weighted images all have the same resolution, and their voxels are not"
            f" smaller than the BOLD voxels ({voxel_size_text(bold)}): {images_text}"
        )
    return (
        "no T2*-weighted image has smaller in-plane voxels than the BOLD run"
        f" ({voxel_size_text(bold)}): {images_text}"
    )


def _list_scans(bold: Header, images: _SplitImages) -> list[_Scan]:
    """Return the scans of a session by ``run`` label; an empty list if they are ambiguous.

    Each of several scans must consist of two images.
    """
    if len(images.high) == 1 and len(images.low) < 2:
        return [_Scan(bold, images.high[0], next(iter(images.low), None))]
    high_paths = {header.path for header in images.high}
    scans = []
    for scan_images in _group_by_run([*images.high, *images.low]):
        high = [header for header in scan_images if header.path in high_paths]
        low = [header for header in scan_images if header.path not in high_paths]
        if not len(high) == len(low) == 1:
            return []
        scans.append(_Scan(bold, high[0], low[0]))
    return scans


def _group_by_run(images: Sequence[Header]) -> list[list[Header]]:
    """Return more than two images by ``run`` label in ascending order; otherwise, one group."""
    if len(images) < 3:
        return [[*images]]
    groups: dict[tuple[int, str], list[Header]] = {}
    for header in images:
        groups.setdefault(run_number_order(parse_entities(header.path)), []).append(header)
    return [groups[run] for run in sorted(groups)]


def _judge_overlap(scan: _Scan, _superres: SuperRes) -> Iterator[Notice]:
    """Report images that do not cover the BOLD field of view."""
    for image in filter(None, (scan.high, scan.low)):
        share = measure_overlap(scan.bold, image)
        if share < MIN_OVERLAP:
            yield problem(
                image.path,
                f"the field of view covers {share:.0%} of the field of view of"
                f" {scan.bold.path.name}, but at least {MIN_OVERLAP:.0%} is required",
                "Check the orientation in the headers (qform, sform), or select another pair with"
                " --bids-filter-file.",
            )
        elif share < _NOTED_OVERLAP:
            yield note(image.path, f"the image covers only {share:.0%} of the BOLD field of view.")


def _refuse_interpolation(scan: _Scan, superres: SuperRes) -> Iterator[Notice]:
    """Reject a high-resolution image that was interpolated by the scanner."""
    if interpolated := list_interpolated(scan.high):
        text = interpolation_text(interpolated[0])
        yield problem_unless(
            superres.force,
            scan.high.path,
            f"the T2starw image was interpolated by the scanner: {text}",
            INTERPOLATION_FIX,
        )


def _judge_factor(scan: _Scan, superres: SuperRes) -> Iterator[Notice]:
    """Reject an unsuitable ratio of voxel sizes, and report a computed low-resolution image."""
    high, bold = scan.high, scan.bold
    if (
        scan.low is None
        and not superres.thins_slices
        and abs(bold.zooms[2] / high.zooms[2] - 1) > SIZE_TOLERANCE
    ):
        yield note(
            high.path,
            f"the slice spacing of this image is {mm_text(high.zooms[2])} mm, but the slice"
            f" spacing of the BOLD run is {mm_text(bold.zooms[2])} mm.",
        )
    requested_factor = superres.factor_by_axis
    if requested_factor is None:
        yield from _judge_slice_thickness(scan, superres)
    else:
        yield from _judge_requested_factor(scan, requested_factor, superres)
    if scan.low is None:
        yield note(
            high.path,
            "no low-resolution T2*-weighted image was found. A k-space-truncated copy of this"
            f" image ({factor_text(_compute_factor(scan, superres))}) is used instead, which is"
            " easier to super-resolve than an acquired low-resolution image.",
        )


_SCAN_RULES = (_judge_overlap, _refuse_interpolation, _judge_factor)


def _build_pair(scan: _Scan, superres: SuperRes) -> Pair:
    """Return the pair of a scan whose images are suitable."""
    return Pair(
        highres=scan.high.path,
        lowres=scan.low.path if scan.low else None,
        factor=_compute_factor(scan, superres),
        orders=(scan.high.order, (scan.low or scan.high).order),
    )


def measure_overlap(target: Header, image: Header) -> float:
    """Return the share (0 to 1) of the field of view of `target` that another image covers.

    The share is estimated from 12 x 12 x 12 sample points in the field of view of `target`.
    """
    ticks = [
        (np.arange(_OVERLAP_POINTS) + 0.5) / _OVERLAP_POINTS * size - 0.5
        for size in target.shape[:3]
    ]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3)
    target_to_image = np.linalg.inv(image.affine) @ target.affine
    voxels = points @ target_to_image[:3, :3].T + target_to_image[:3, 3]
    is_inside = (voxels >= -0.5) & (voxels <= np.asarray(image.shape[:3]) - 0.5)
    return float(is_inside.all(axis=1).mean())


def _compute_ratios(scan: _Scan, superres: SuperRes) -> np.ndarray:
    """Return the ratios of voxel sizes (3,), low over high resolution.

    If the low-resolution image is computed, the slice thickness remains the same unless thinner
    slices are requested.
    """
    ratios = np.asarray(scan.lowres.zooms) / np.asarray(scan.high.zooms)
    if scan.low is None and not superres.thins_slices:
        ratios[2] = 1.0
    return ratios


def _compute_factor(scan: _Scan, superres: SuperRes) -> Factor:
    """Return the requested factor, or the ratio of voxel sizes as simple fractions.

    Raises `InputError` if the ratio is not close to simple fractions.
    """
    if superres.factor_by_axis is not None:
        return superres.factor_by_axis
    ratios = _compute_ratios(scan, superres)
    factor = _find_simple_factor(ratios, is_truncated_copy=scan.low is None)
    if factor is None:
        raise input_error(
            scan.high.path,
            "the ratio between the voxel sizes of the low- and high-resolution images"
            f" ({voxel_size_text(scan.lowres)} and {voxel_size_text(scan.high)}) is not a simple"
            " fraction",
            "Reconstruct one of the images again so that the ratio is close to a simple fraction"
            " such as 2, 3/2 or 4/3.",
        )
    return factor


def _judge_requested_factor(
    scan: _Scan, requested_factor: Factor, superres: SuperRes
) -> Iterator[Notice]:
    """Reject a ratio of voxel sizes that differs from ``--sr-factor``."""
    ratios = _compute_ratios(scan, superres)
    tolerance = _RATIO_TOLERANCE if scan.low else SIZE_TOLERANCE
    differs = np.abs(ratios / requested_factor - 1) > tolerance
    if np.any(differs):
        # only in-plane factors if they differ, because most pairs have equal slice thickness
        axes = slice(2) if np.any(differs[:2]) and requested_factor[2] == 1 else slice(3)
        ratio_text = "×".join(f"{ratio:.3g}" for ratio in ratios[axes])
        requested_text = "×".join(f"{factor:.3g}" for factor in [*requested_factor][axes])
        yield problem(
            scan.high.path,
            f"the ratio between the voxel sizes of {scan.lowres.path.name} and this image is"
            f" {ratio_text}, but --sr-factor is {requested_text}",
            "Omit --sr-factor, select another pair with --bids-filter-file, or add"
            " --set superres.force=true and select a method that does not require a pair.",
        )


def _find_simple_factor(ratios: np.ndarray, *, is_truncated_copy: bool) -> Factor | None:
    """Return the simple fractions nearest to the ratios along the axes (3,), or None.

    A truncated copy can have any factor, so whole numbers that are close to the in-plane ratios
    are used if the ratios are not simple fractions.
    """
    x, y, z = (nearest_simple_ratio(float(ratio)) for ratio in ratios)
    if is_truncated_copy:
        whole_x, whole_y = (float(round(ratio)) for ratio in ratios[:2])
        is_close = all(
            abs(ratio / whole_ratio - 1) <= SIZE_TOLERANCE
            for ratio, whole_ratio in zip(ratios[:2], (whole_x, whole_y), strict=True)
            if whole_ratio
        )
        x = x or (whole_x if is_close and whole_x > 1 else None)
        y = y or (whole_y if is_close and whole_y > 1 else None)
    return None if x is None or y is None or z is None else (x, y, z)


def nearest_simple_ratio(ratio: float) -> float | None:
    """Return the simplest fraction within 2 % of a ratio, or None.

    The denominator is at most 4.

    >>> nearest_simple_ratio(1.99), nearest_simple_ratio(1.34), nearest_simple_ratio(1.41)
    (2.0, 1.3333333333333333, None)
    """
    for denominator in range(1, _MAX_DENOMINATOR + 1):
        nearest = Fraction(max(1, round(ratio * denominator)), denominator)
        if abs(ratio / nearest - 1) <= _RATIO_TOLERANCE:
            return float(nearest)
    return None


def _judge_slice_thickness(scan: _Scan, superres: SuperRes) -> Iterator[Notice]:
    """Reject a pair whose factor across slices is below 1, or above 1 for slice-wise methods."""
    x, y, z = _compute_factor(scan, superres)
    is_slicewise = superres.auto or any(map(works_in_plane, superres.method))
    if z < 1:
        yield problem(
            scan.high.path,
            "the slices of this high-resolution image are thicker than the slices of"
            f" {scan.lowres.path.name}",
            "Use a high-resolution image whose slices are not thicker than the slices of the"
            " low-resolution image.",
        )
    elif z != 1 and is_slicewise:
        yield problem(
            scan.high.path,
            "the images of the pair differ in slice thickness"
            f" ({voxel_size_text(scan.lowres)} and {voxel_size_text(scan.high)}), but a slice-wise"
            " method in --sr-method cannot reduce the slice thickness",
            "Use a pair with the slice thickness of the BOLD run, or select a 3D method that can"
            f" reduce the slice thickness: --sr-method mse3d --sr-factor {x:g} {y:g} {z:g}.",
        )


def voxel_size_text(header: Header) -> str:
    """Return the voxel size as text."""
    return size_text(header.zooms, "×")


def _describe_use(
    bold: Header, pair: Pair, holdout: Pair, n_pairs: int, superres: SuperRes
) -> Notice:
    """Return a note on the use of several pairs of a session."""
    pair_names, holdout_names = (
        " and ".join(path.name for path in images) for images in (pair.images, holdout.images)
    )
    use_text = f"only {pair_names} is used"
    if superres.pair_trained:
        use_text = f"models are trained on {pair_names} and evaluated on {holdout_names}"
    return note(
        bold.path,
        f"the session has {n_pairs} T2*-weighted pairs: {use_text}. To use another pair, select"
        ' it with --bids-filter-file and {"t2starw": {"run": 2}}.',
    )


def _require_moderate_factor(pair: Pair, superres: SuperRes) -> None:
    """Raise `InputError` if a pair implies a factor too large for a default.

    Susceptibility-weighted images have voxels of half a millimeter or less. No method was tested
    at such factors, so the user has to request them by ``--sr-factor``.
    """
    is_requested = factor_without_pair(superres) is not None
    if is_requested or max(pair.factor) <= _MAX_DEFAULT_FACTOR:
        return
    x, y, z = pair.factor
    option = f"{x:g}" if x == y and z == 1 else f"{x:g} {y:g} {z:g}"
    fix = (
        f"To use this image, specify --sr-factor {option}"
        if max(pair.factor) <= _MAX_FACTOR
        else (
            f"Downsample the image; super-resolution factors above {_MAX_FACTOR} are not supported"
        )
    )
    raise input_error(
        pair.highres,
        f"this T2*-weighted pair implies {factor_text(pair.factor)}, but factors above"
        f" {_MAX_DEFAULT_FACTOR} are not derived from a pair by default. The high-resolution image"
        " may be a susceptibility-weighted image",
        f"{fix}. Without this image, the factor is taken from --sr-factor or from a calibration"
        " run; otherwise, it is 2 in-plane.",
    )


def factor_text(factor: Factor) -> str:
    """Return a factor as text.

    >>> factor_text((2.0, 2.0, 1.0)), factor_text((2.0, 2.0, 1.5))
    ('factor 2 in plane', 'factor 2×2×1.5, averaged across slices')
    """
    x, y, z = factor
    if z == 1 and x == y:
        return f"factor {x:g} in plane"
    slice_text = "" if z == 1 else ", averaged across slices"
    return f"factor {x:g}×{y:g}×{z:g}{slice_text}"


def refuse_without_pair(label: str, bolds: Sequence[Path], settings: Settings) -> Iterator[Notice]:
    """Reject runs of a participant without any T2*-weighted image if a pair is required.

    `bolds` are the series without a pair.
    """
    requesting = needs_pair(settings.superres)
    # a retrospective experiment computes a pair from the run
    if not requesting or settings.evaluation.retrospective is not None:
        return
    pattern = f"sub-{label}/[ses-*/]anat/*_T2starw.nii.gz"
    more_runs = f" and {len(bolds) - 1} more" if len(bolds) > 1 else ""
    yield problem(
        f"sub-{label} ({bolds[0].name}{more_runs})",
        f"the selected methods ({', '.join(requesting)}) require a pair of T2*-weighted images of"
        " the participant, one with the resolution of the BOLD run and one with a higher"
        f" resolution, but no file matches {pattern}",
        "Add the pair as anat/sub-…_acq-highres_T2starw.nii.gz and"
        " anat/sub-…_acq-lowres_T2starw.nii.gz. If only the highres image is added, its"
        " k-space-truncated copy is used as the lowres image. Without a pair, use --sr-method"
        " auto (the default), which requires only the run, or --sr-method bspline zerofill,"
        " which runs only baselines. To evaluate methods without a pair, use --retrospective,"
        " which downsamples the BOLD run, super-resolves it and compares the result with the"
        " original run.",
    )


def needs_pair(superres: SuperRes) -> tuple[str, ...]:
    """Return the requested methods and guided baselines that require a T2*-weighted pair.

    Methods with a given model are not included. With ``auto``, methods are not included either,
    because a run without a pair is processed without these methods.
    """
    methods = () if superres.auto else superres.pair_trained
    to_train = (name for name in methods if find_pretrained(superres, name) is None)
    baselines = (name for name in superres.method if get_need(name) == "pair")
    return (*to_train, *baselines)
