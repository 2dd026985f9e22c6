"""Selection of a run's T2*-weighted pair by voxel sizes or labels.

With ``--pair-holdout``, a second pair is reserved for evaluation.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bids_sr.bids import slice_axis
from bids_sr.bids.entities import parse_entities
from bids_sr.bids.findings import Findings
from bids_sr.bids.inputs import Pair
from bids_sr.bids.method_options import works_in_plane
from bids_sr.bids.pretrained_models import factor_without_pair, find_pretrained
from bids_sr.config import Settings, SuperRes
from bids_sr.io.grids import mm_text, size_text
from bids_sr.io.image_header import Header, Triple
from bids_sr.series import PAIR_BASELINES

# largest relative difference between the voxel sizes of the low-resolution image and the BOLD run
SIZE_TOLERANCE = 0.10
# largest relative difference between a ratio of voxel sizes and a simple fraction
_RATIO_TOLERANCE = 0.02
_MAX_DENOMINATOR = 4
MIN_OVERLAP = 0.10  # smallest share of the BOLD field of view that an image must cover
_NOTED_OVERLAP = 0.60  # a smaller share is noted
_MAX_DEFAULT_FACTOR = 4  # largest factor that is derived from a pair by default
_MAX_FACTOR = 8  # largest factor of --sr-factor
_OVERLAP_POINTS = 12  # sample points along each axis
_SELECTION_FIX = "Select the images by their acq- labels with --hr-acq LABEL and --lr-acq LABEL"
_HOLDOUT_FIX = (
    "Omit --pair-holdout, or add a second pair from another session or as run-1 and run-2 of"
    " both images. If a second pair exists, check that --bids-filter-file does not exclude it."
)


class _SplitImages(NamedTuple):
    """T2*-weighted images of a session by resolution."""

    high: list[Header]
    low: list[Header]


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


def _compute_zoom_ratios(header: Header, reference: Header, superres: SuperRes) -> np.ndarray:
    """Return voxel sizes relative to a reference (2,), or (3,) if slices get thinner."""
    ratios = np.asarray(header.zooms) / np.asarray(reference.zooms)
    return ratios if superres.thins_slices else ratios[:2]


def _has_bold_resolution(header: Header, bold: Header, superres: SuperRes) -> bool:
    """Return whether an image has the resolution of the BOLD run, within the tolerance."""
    return bool(np.all(np.abs(_compute_zoom_ratios(header, bold, superres) - 1) <= SIZE_TOLERANCE))


def _is_finer(header: Header, bold: Header, superres: SuperRes) -> bool:
    """Return whether an image has smaller voxels than the BOLD run along super-resolved axes."""
    ratios = _compute_zoom_ratios(header, bold, superres)
    if not superres.thins_slices:
        return bool(np.all(ratios < 1 - SIZE_TOLERANCE))
    # an axis may have the factor 1
    return bool(np.all(ratios <= 1 + SIZE_TOLERANCE) and np.any(ratios < 1 - SIZE_TOLERANCE))


def _get_acquisition_label(header: Header) -> str:
    """Return the acquisition label of an image, "" if it has none."""
    return parse_entities(header.path).get("acquisition", "")


def voxel_size_text(header: Header) -> str:
    """Return the voxel size as text."""
    return size_text(header.zooms, "×")


def choose_pair(
    bold: Header,
    session: str | None,
    candidates: Sequence[Header],
    superres: SuperRes,
    findings: Findings,
) -> Pair | None:
    """Choose the pair of a run.

    `bold` is the header of the run, with slices along the third axis. `session` is its session
    label; None if the data set has no sessions. `candidates` are magnitude T2*-weighted images of
    all sessions of the participant, with axes in any order. `findings` must not contain problems
    yet. Returns None if no pair fits (with a problem) or if there are no candidates (no problem).
    """
    reordered_images = [slice_axis.reorder_like(header, bold.affine) for header in candidates]
    by_session: dict[str | None, list[Header]] = {}
    for header in reordered_images:
        by_session.setdefault(parse_entities(header.path).get("session"), []).append(header)
    for label, images in by_session.items():
        if (label == session or len(by_session) == 1) and _refuse_contradiction(
            images, superres, findings
        ):
            return None
    split_by_session = {
        label: _split_by_resolution(images, bold, superres) for label, images in by_session.items()
    }
    usable_sessions = _select_usable_sessions(split_by_session, session)
    if len(usable_sessions) > 1:
        names = ", ".join(f"ses-{label}" for label in usable_sessions)
        reason = (
            "the session of the run has no T2*-weighted pair, but several other sessions have"
            f" one ({names})"
        )
        fix = 'Select a session with --bids-filter-file and {"t2starw": {"session": "LABEL"}}.'
        findings.add_problem(bold.path, reason, fix)
        return None
    if not usable_sessions:
        if reordered_images:
            _refuse_unfit(bold, reordered_images, superres, findings)
        return None
    ((high, low),) = usable_sessions.values()
    if len(high) == 1 and len(low) < 2:
        return _build_pair(bold, high[0], low[0] if low else None, superres, findings)
    _refuse_several_pairs(bold, high, low, findings)
    return None


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


def _refuse_several_pairs(
    bold: Header, high: Sequence[Header], low: Sequence[Header], findings: Findings
) -> None:
    """Report that several images of high or low resolution match a run."""
    high_names, low_names = (
        ", ".join(header.path.name for header in images) for images in (high, low)
    )
    fix = f"{_SELECTION_FIX}."
    if any(len(set(map(_get_acquisition_label, images))) < len(images) for images in (high, low)):
        fix = (
            f"{fix} If repeated scans have the same label, select one of them with"
            ' --bids-filter-file and {"t2starw": {"run": 1}}, or add --pair-holdout to train on'
            " the first pair and test on the second."
        )
    reason = (
        f"several T2*-weighted pairs match the run (high resolution: {high_names}; low resolution:"
        f" {low_names or 'none'})"
    )
    findings.add_problem(bold.path, reason, fix)


def choose_pair_and_holdout(
    bold: Header,
    session: str | None,
    candidates: Sequence[Header],
    superres: SuperRes,
    findings: Findings,
) -> tuple[Pair | None, Pair | None]:
    """Choose the pair that a run is trained on, and the held-out pair.

    A pair consists of images of one session with the same ``run`` label. Pairs of the run's own
    session come first, then the lowest run numbers; the second usable pair is held out.

    The parameters have the same meaning as in `choose_pair`. Both results are None, with a
    problem, unless there are two usable pairs with the same factor.
    """
    if not candidates:
        return None, None
    usable_pairs, reasons = list[tuple[Pair, Findings]](), list[str]()
    for label, images in _group_by_scan(candidates, session):
        pair_findings = Findings()
        pair = choose_pair(bold, label, images, superres, pair_findings)
        if pair is None:
            reasons += [problem.why for problem in pair_findings.problems]
        else:
            usable_pairs.append((pair, pair_findings))
    if len(usable_pairs) < 2:
        reason = (
            "--pair-holdout requires two T2*-weighted pairs for this participant (number of pairs"
            f" found: {len(usable_pairs)})"
        )
        if reasons:
            reason = f"{reason} ({'; '.join(dict.fromkeys(reasons))})"
        findings.add_problem(bold.path, reason, _HOLDOUT_FIX)
        return None, None
    (training_pair, training_findings), (holdout, holdout_findings) = usable_pairs[:2]
    training_names, holdout_names = (
        " and ".join(path.name for path in pair.images) for pair in (training_pair, holdout)
    )
    if training_pair.factor != holdout.factor:
        reason = (
            "the two T2*-weighted pairs have different super-resolution factors:"
            f" {training_names} and {holdout_names}"
        )
        findings.add_problem(bold.path, reason, _HOLDOUT_FIX)
        return None, None
    findings.add([*training_findings.notices, *holdout_findings.notices])
    findings.note(
        bold.path, f"models are trained on {training_names} and evaluated on {holdout_names}."
    )
    return training_pair, holdout


def _group_by_scan(
    images: Sequence[Header], session: str | None
) -> list[tuple[str | None, list[Header]]]:
    """Group T2*-weighted images by session and ``run`` label.

    Returns the session label and the images of each group, the groups of `session` first, then by
    session and run number.
    """
    groups: dict[tuple[str | None, str], list[Header]] = {}
    for header in images:
        entities = parse_entities(header.path)
        scan = entities.get("session"), entities.get("run", "")
        groups.setdefault(scan, []).append(header)

    def order(scan: tuple[str | None, str]) -> tuple[bool, str, int]:
        label, run = scan
        return label != session, label or "", int(run) if run.isdigit() else 0

    return [(scan[0], groups[scan]) for scan in sorted(groups, key=order)]


def _split_by_resolution(
    images: Sequence[Header], bold: Header, superres: SuperRes
) -> _SplitImages:
    """Split the images of a session into high and low resolution, by label or voxel size.

    Labels of ``--hr-acq`` and ``--lr-acq`` take precedence.
    """
    hr_label, lr_label = superres.hr_acq, superres.lr_acq
    unlabeled = [
        header for header in images if _get_acquisition_label(header) not in (hr_label, lr_label)
    ]
    if hr_label:
        high = [header for header in images if _get_acquisition_label(header) == hr_label]
    else:
        high = [header for header in unlabeled if _is_finer(header, bold, superres)]
    if lr_label:
        low = [header for header in images if _get_acquisition_label(header) == lr_label]
    else:
        low = [header for header in unlabeled if _has_bold_resolution(header, bold, superres)]
    return _SplitImages(high=high, low=low)


def _select_labeled(images: Sequence[Header], label: str | None, default: str) -> list[Header]:
    """Return the images with a label or, without label, with a label that contains `default`."""
    if label:
        return [header for header in images if _get_acquisition_label(header) == label]
    return [header for header in images if default in _get_acquisition_label(header).lower()]


def _refuse_contradiction(
    images: Sequence[Header], superres: SuperRes, findings: Findings
) -> bool:
    """Reject two images whose resolutions are equal or contradict their labels.

    Returns whether there is a problem.
    """
    labeled_high = _select_labeled(images, superres.hr_acq, "high")
    labeled_low = _select_labeled(images, superres.lr_acq, "low")
    if len(labeled_high) == len(labeled_low) == 1:
        (high,), (low,) = labeled_high, labeled_low
    elif len(images) != 2 or superres.hr_acq or superres.lr_acq:
        return False
    else:
        high, low = images
        if np.any(np.abs(_compute_zoom_ratios(high, low, superres) - 1) > _RATIO_TOLERANCE):
            return False
    ratios = _compute_zoom_ratios(low, high, superres)
    high_size, low_size = voxel_size_text(high), voxel_size_text(low)
    if np.all(np.abs(ratios - 1) <= _RATIO_TOLERANCE):
        reason = (
            f"the image has the same resolution as {low.path.name} ({high_size}), so there is no"
            " detail to learn"
        )
        fix = f"Use a high-resolution image with smaller voxels. {_SELECTION_FIX}."
        findings.add_problem(high.path, reason, fix)
    elif np.any(ratios < (1 - _RATIO_TOLERANCE if superres.thins_slices else 1)):
        reason = (
            "the high- and low-resolution images are swapped: the voxels of this image are"
            f" {high_size}, but the voxels of {low.path.name} are {low_size}"
        )
        fix = f"Swap the acq- labels of the two images. {_SELECTION_FIX}."
        findings.add_problem(high.path, reason, fix)
    return bool(findings.problems)


def _refuse_unfit(
    bold: Header, candidates: Sequence[Header], superres: SuperRes, findings: Findings
) -> None:
    """Report why none of the T2*-weighted images is suitable for a run."""
    images_text = "; ".join(
        f"{header.path.name}: {voxel_size_text(header)}" for header in candidates
    )
    labels = [f"acq-{label}" for label in (superres.hr_acq, superres.lr_acq) if label]
    fix = f"Add an acq-highres_T2starw image with smaller voxels. {_SELECTION_FIX}."
    if labels:
        reason = (
            f"no T2*-weighted image of this participant matches {' and '.join(labels)} (available"
            f" images: {images_text})"
        )
        fix = (
            "Specify labels that occur in these file names with --hr-acq and --lr-acq, or omit"
            " the options."
        )
    elif all(
        np.all(np.divide(header.zooms[:2], candidates[0].zooms[:2]) - 1 < _RATIO_TOLERANCE)
        for header in candidates
    ):
        reason = (
            "the T2*-weighted images all have the same resolution, and their voxels are not"
            f" smaller than the BOLD voxels ({voxel_size_text(bold)}): {images_text}"
        )
    else:
        reason = (
            "no T2*-weighted image has smaller in-plane voxels than the BOLD run"
            f" ({voxel_size_text(bold)}): {images_text}"
        )
    findings.add_problem(bold.path, reason, fix)


def _build_pair(
    bold: Header, high: Header, low: Header | None, superres: SuperRes, findings: Findings
) -> Pair | None:
    """Compare the two images with the run and with each other, and build the pair.

    If `low` is None, the low-resolution image is computed from `high`. Returns None with a
    problem.
    """
    for image in (high, low) if low else (high,):
        _check_overlap(bold, image, findings)
    if low is not None and not _has_bold_resolution(low, bold, superres):
        reason = (
            f"the voxels of this low-resolution image ({voxel_size_text(low)}) differ by more than"
            f" {SIZE_TOLERANCE * 100:g} % from the BOLD voxels ({voxel_size_text(bold)}), so the"
            " model would be applied at a resolution for which it was not trained"
        )
        fix = (
            "Select another image with --lr-acq, or add --set superres.force=true to use this"
            " image anyway."
        )
        findings.refuse_unless(superres.force, low.path, reason, fix)
    factor = _compute_factor(bold, high, low, superres, findings)
    if findings.problems or factor is None:
        return None
    if low is None:
        text = (
            "no low-resolution T2*-weighted image was found. A k-space-truncated copy of this"
            f" image ({factor_text(factor)}) is used instead, which is easier to super-resolve"
            " than an acquired low-resolution image."
        )
        findings.note(high.path, text)
    return Pair(
        highres=high.path,
        lowres=low.path if low else None,
        factor=factor,
        orders=(high.order, (low or high).order),
    )


def is_too_fine(pair: Pair | None, superres: SuperRes, findings: Findings) -> bool:
    """Return whether a pair implies a factor too large for a default, and report it as a problem.

    Susceptibility-weighted images have voxels of half a millimeter or less. No method was tested
    at such factors, so the user has to request them, by ``--sr-factor`` or by the label of the
    image.
    """
    is_requested = superres.hr_acq is not None or factor_without_pair(superres) is not None
    if pair is None or is_requested or max(pair.factor) <= _MAX_DEFAULT_FACTOR:
        return False
    x, y, z = pair.factor
    option = f"{x:g}" if x == y and z == 1 else f"{x:g} {y:g} {z:g}"
    reason = (
        f"this T2*-weighted pair implies {factor_text(pair.factor)}, but factors above"
        f" {_MAX_DEFAULT_FACTOR} are not derived from a pair by default. The high-resolution image"
        " may be a susceptibility-weighted image"
    )
    fix = (
        f"To use this image, specify --sr-factor {option}"
        if max(pair.factor) <= _MAX_FACTOR
        else (
            f"Downsample the image; super-resolution factors above {_MAX_FACTOR} are not supported"
        )
    )
    findings.add_problem(
        pair.highres,
        reason,
        f"{fix}. Without this image, the factor is taken from --sr-factor or from a calibration"
        " run; otherwise, it is 2 in-plane.",
    )
    return True


def _check_overlap(bold: Header, image: Header, findings: Findings) -> None:
    """Report an image that does not cover the BOLD field of view."""
    share = measure_overlap(bold, image)
    if share < MIN_OVERLAP:
        reason = (
            f"the field of view covers {share:.0%} of the field of view of {bold.path.name}, but"
            f" at least {MIN_OVERLAP:.0%} is required"
        )
        fix = (
            "Check the orientation in the headers (qform, sform), or select another pair"
            " (--hr-acq, --lr-acq)."
        )
        findings.add_problem(image.path, reason, fix)
    elif not findings.problems and share < _NOTED_OVERLAP:
        findings.note(image.path, f"the image covers only {share:.0%} of the BOLD field of view.")


def _compute_factor(
    bold: Header, high: Header, low: Header | None, superres: SuperRes, findings: Findings
) -> Triple | None:
    """Return the ratio of voxel sizes (low over high resolution), or None with a problem.

    If the low-resolution image is computed from `high` (`low` is None), the slice thickness
    remains the same unless thinner slices are requested.
    """
    lowres = low or bold
    ratios = np.asarray(lowres.zooms) / np.asarray(high.zooms)
    if low is None and not superres.thins_slices:
        if abs(ratios[2] - 1) > SIZE_TOLERANCE:
            text = (
                f"the slice spacing of this image is {mm_text(high.zooms[2])} mm, but the slice"
                f" spacing of the BOLD run is {mm_text(bold.zooms[2])} mm."
            )
            findings.note(high.path, text)
        ratios[2] = 1.0
    requested_factor = superres.factor_by_axis
    if requested_factor is not None:
        tolerance = _RATIO_TOLERANCE if low else SIZE_TOLERANCE
        if np.any(np.abs(ratios / requested_factor - 1) > tolerance):
            _refuse_other_factor(lowres, high, ratios, requested_factor, tolerance, findings)
        return requested_factor
    factor = _find_simple_factor(ratios, is_truncated_copy=low is None)
    if factor is None:
        reason = (
            "the ratio between the voxel sizes of the low- and high-resolution images"
            f" ({voxel_size_text(lowres)} and {voxel_size_text(high)}) is not a simple fraction"
        )
        fix = (
            "Reconstruct one of the images again so that the ratio is close to a simple fraction"
            " such as 2, 3/2 or 4/3."
        )
        findings.add_problem(high.path, reason, fix)
        return None
    _check_slice_thickness(lowres, high, factor, superres, findings)
    return factor


def _refuse_other_factor(
    lowres: Header,
    high: Header,
    ratios: np.ndarray,
    requested_factor: Triple,
    tolerance: float,
    findings: Findings,
) -> None:
    """Report that the ratios of voxel sizes along the axes (3,) differ from ``--sr-factor``."""
    # only in-plane factors if they differ, because most pairs have equal slice thickness
    differs_in_plane = np.any(np.abs(ratios / requested_factor - 1)[:2] > tolerance)
    axes = slice(2) if differs_in_plane and requested_factor[2] == 1 else slice(3)
    ratio_text = "×".join(f"{ratio:.3g}" for ratio in ratios[axes])
    requested_text = "×".join(f"{factor:.3g}" for factor in [*requested_factor][axes])
    reason = (
        f"the ratio between the voxel sizes of {lowres.path.name} and this image is"
        f" {ratio_text}, but --sr-factor is {requested_text}"
    )
    findings.add_problem(
        high.path,
        reason,
        "Omit --sr-factor, select another pair (--hr-acq, --lr-acq), or add"
        " --set superres.force=true and"
        " select a method that does not require a pair.",
    )


def _find_simple_factor(ratios: np.ndarray, *, is_truncated_copy: bool) -> Triple | None:
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


def _check_slice_thickness(
    lowres: Header, high: Header, factor: Triple, superres: SuperRes, findings: Findings
) -> None:
    """Reject a pair whose factor across slices is below 1, or above 1 for slice-wise methods."""
    x, y, z = factor
    is_slicewise = superres.auto or any(map(works_in_plane, superres.method))
    if z < 1:
        reason = (
            "the slices of this high-resolution image are thicker than the slices of"
            f" {lowres.path.name}"
        )
        fix = (
            "Use a high-resolution image whose slices are not thicker than the slices of the"
            " low-resolution image."
        )
        findings.add_problem(high.path, reason, fix)
    elif z != 1 and is_slicewise:
        reason = (
            "the images of the pair differ in slice thickness"
            f" ({voxel_size_text(lowres)} and {voxel_size_text(high)}), but a slice-wise method in"
            " --sr-method cannot reduce the slice thickness"
        )
        fix = (
            "Use a pair with the slice thickness of the BOLD run, or select a 3D method that can"
            f" reduce the slice thickness: --sr-method mse3d --sr-factor {x:g} {y:g} {z:g}."
        )
        findings.add_problem(high.path, reason, fix)


def needs_pair(superres: SuperRes) -> tuple[str, ...]:
    """Return the requested methods and guided baselines that require a T2*-weighted pair.

    Methods with a given model are not included. With ``auto``, methods are not included either,
    because a run without a pair is processed without these methods.
    """
    methods = () if superres.auto else superres.pair_trained
    to_train = (name for name in methods if find_pretrained(superres, name) is None)
    baselines = (name for name in superres.method if name in PAIR_BASELINES)
    return (*to_train, *baselines)


def refuse_without_pair(
    label: str, bolds: Sequence[Path], settings: Settings, findings: Findings
) -> None:
    """Reject runs of a participant without any T2*-weighted image if a pair is required.

    `bolds` are the series without a pair.
    """
    requesting = needs_pair(settings.superres)
    if settings.evaluation.pair_holdout:
        requesting = (*requesting, "--pair-holdout")
    # a retrospective experiment computes a pair from the run
    elif settings.evaluation.retrospective is not None:
        return
    if not requesting:
        return
    pattern = f"sub-{label}/[ses-*/]anat/*_T2starw.nii.gz"
    reason = (
        f"the selected methods ({', '.join(requesting)}) require a pair of T2*-weighted images of"
        " the participant, one with the resolution of the BOLD run and one with a higher"
        f" resolution, but no file matches {pattern}"
    )
    fix = (
        "Add the pair as anat/sub-…_acq-highres_T2starw.nii.gz and"
        " anat/sub-…_acq-lowres_T2starw.nii.gz. If only the highres image is added, its"
        " k-space-truncated copy is used as the lowres image. Without a pair, use --sr-method"
        " auto (the default), which requires only the run, or --sr-method bspline zerofill,"
        " which runs only baselines. To evaluate methods without a pair, use --retrospective,"
        " which downsamples the BOLD run, super-resolves it and compares the result with the"
        " original run."
    )
    more_runs = f" and {len(bolds) - 1} more" if len(bolds) > 1 else ""
    findings.add_problem(f"sub-{label} ({bolds[0].name}{more_runs})", reason, fix)


def factor_text(factor: Triple) -> str:
    """Return a factor as text.

    >>> factor_text((2.0, 2.0, 1.0)), factor_text((2.0, 2.0, 1.5))
    ('factor 2 in plane', 'factor 2×2×1.5, averaged across slices')
    """
    x, y, z = factor
    if z == 1 and x == y:
        return f"factor {x:g} in plane"
    slice_text = "" if z == 1 else ", averaged across slices"
    return f"factor {x:g}×{y:g}×{z:g}{slice_text}"
