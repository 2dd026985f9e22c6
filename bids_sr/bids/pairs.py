"""T2*-weighted pair of a run, chosen by voxel sizes or labels.

With ``--pair-holdout``, a second pair is kept for scoring.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from bids_sr.bids import slice_axis
from bids_sr.bids.entities import entities_of
from bids_sr.bids.findings import Findings
from bids_sr.bids.given_models import factor_without_pair, pretrained_for
from bids_sr.bids.inputs import Pair
from bids_sr.bids.method_options import works_in_plane
from bids_sr.config import Settings, SuperRes
from bids_sr.io.grids import mm_text, size_text
from bids_sr.io.image_header import Header, Triple
from bids_sr.series import PAIR_BASELINES

# of the BOLD voxel: so far may the low-resolution image of the pair differ in plane
SIZE_TOLERANCE = 0.10
_RATIO_TOLERANCE = 0.02  # so far may a ratio of voxel sizes lie from a simple fraction
_MAX_DENOMINATOR = 4
MIN_OVERLAP, _FAIR_OVERLAP = 0.10, 0.60  # share of the BOLD field of view that an image covers
# largest factor that is taken from a pair by default, and that --sr-factor takes
_MOST_BY_DEFAULT, _MOST_FACTOR = 4, 8
_HOW_TO_CHOOSE = "Select the images by their acq- labels with --hr-acq LABEL and --lr-acq LABEL"
_TWO = (
    "Omit --pair-holdout, or add a second pair from another session or as run-1 and run-2 of"
    " both images. If a second pair exists, check that --bids-filter-file does not exclude it."
)


def simple_ratio(ratio: float) -> float | None:
    """Return the simple fraction within 2 % of a ratio, or None.

    The denominator is at most 4, and the simplest fraction comes first.

    >>> simple_ratio(1.99), simple_ratio(1.34), simple_ratio(1.41)
    (2.0, 1.3333333333333333, None)
    """
    for denominator in range(1, _MAX_DENOMINATOR + 1):
        nearest = Fraction(max(1, round(ratio * denominator)), denominator)
        if abs(ratio / nearest - 1) <= _RATIO_TOLERANCE:
            return float(nearest)
    return None


def overlap(target: Header, other: Header) -> float:
    """Return the share (0 to 1) of `target`'s field of view in `other`, in world coordinates.

    `ValueError`: the masks differ in shape. Share of 12 x 12 x 12 sample points inside, 0 to 1.
    """
    ticks = [(np.arange(12) + 0.5) / 12 * n - 0.5 for n in target.shape[:3]]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3)
    matrix = np.linalg.inv(other.affine) @ target.affine
    voxels = points @ matrix[:3, :3].T + matrix[:3, 3]
    inside = (voxels >= -0.5) & (voxels <= np.asarray(other.shape[:3]) - 0.5)
    return float(inside.all(axis=1).mean())


def _in_plane(header: Header) -> np.ndarray:
    return np.asarray(header.zooms[:2])


def _ratios(header: Header, other: Header, superres: SuperRes) -> np.ndarray:
    """Return voxel sizes over those of another image, across slices only if they get thinner."""
    ratios = np.asarray(header.zooms) / np.asarray(other.zooms)
    return ratios if superres.thins_slices else ratios[:2]


def _is_like(header: Header, bold: Header, superres: SuperRes) -> bool:
    return bool(np.all(np.abs(_ratios(header, bold, superres) - 1) <= SIZE_TOLERANCE))


def _is_finer(header: Header, bold: Header, superres: SuperRes) -> bool:
    """Return whether all axes that get smaller voxels have smaller voxels in an image."""
    ratios = _ratios(header, bold, superres)
    if not superres.thins_slices:
        return bool(np.all(ratios < 1 - SIZE_TOLERANCE))
    # an axis may have the factor 1
    return bool(np.all(ratios <= 1 + SIZE_TOLERANCE) and np.any(ratios < 1 - SIZE_TOLERANCE))


def _acq(header: Header) -> str:
    return entities_of(header.path).get("acquisition", "")


def sizes(header: Header) -> str:
    """Voxel size as text."""
    return size_text(header.zooms, "×")


def choose(
    bold: Header,
    session: str | None,
    candidates: Sequence[Header],
    superres: SuperRes,
    findings: Findings,
) -> Pair | None:
    """Choose the pair of one run of a session, whose slices lie on the third axis.

    `session`: label of the run's session; None without sessions. `candidates`: magnitude
    T2*-weighted images of the participant, every session, axes in any order. `findings`: takes why
    there is no pair; it holds no problem yet. None without a problem means that there is no
    T2*-weighted image. `UsageError`: it cannot be read, or names tasks that are not there. Pair,
    or problems; neither without candidates.
    """
    candidates = [slice_axis.like(header, bold.affine) for header in candidates]
    by_session: dict[str | None, list[Header]] = {}
    for header in candidates:
        by_session.setdefault(entities_of(header.path).get("session"), []).append(header)
    for label, images in by_session.items():
        if (label == session or len(by_session) == 1) and _contradicts(images, superres, findings):
            return None
    split = {label: _split(images, bold, superres) for label, images in by_session.items()}
    usable = {label: (high, low) for label, (high, low) in split.items() if high}
    usable = {label: both for label, both in usable.items() if both[1]} or usable
    if session in usable:
        usable = {session: usable[session]}
    if len(usable) > 1:
        names = ", ".join(f"ses-{label}" for label in usable)
        reason = (
            "the session of the run has no T2*-weighted pair, but several other sessions have"
            f" one ({names})"
        )
        fix = 'Select a session with --bids-filter-file and {"t2starw": {"session": "LABEL"}}.'
        findings.refuse(bold.path, reason, fix)
        return None
    if not usable:
        if candidates:
            _refuse_unfit(bold, candidates, superres, findings)
        return None
    (high, low), *_ = usable.values()
    if len(high) == 1 and len(low) < 2:
        return _make(bold, high[0], low[0] if low else None, superres, findings)
    names, others = (", ".join(h.path.name for h in images) for images in (high, low))
    fix = f"{_HOW_TO_CHOOSE}."
    if any(len(set(map(_acq, images))) < len(images) for images in (high, low)):
        fix += (
            " If repeated scans have the same label, select one of them with --bids-filter-file"
            ' and {"t2starw": {"run": 1}}, or add --pair-holdout to train on the first'
            " pair and test on the second."
        )
    what = (
        f"several T2*-weighted pairs match the run (high resolution: {names}; low resolution:"
        f" {others or 'none'})"
    )
    findings.refuse(bold.path, what, fix)
    return None


def choose_two(
    bold: Header,
    session: str | None,
    candidates: Sequence[Header],
    superres: SuperRes,
    findings: Findings,
) -> tuple[Pair | None, Pair | None]:
    """Choose the pair of a run that is trained on, and the one that is held out.

    Images of one session and one number of a run make a pair. Those of the run's own session come
    first, then the lowest numbers; the second is held out.

    Parameters are those of `choose`; a problem where there are fewer than two sound pairs of one
    factor, and None for both.
    """
    groups: dict[tuple[str | None, str], list[Header]] = {}
    for header in candidates:
        labels = entities_of(header.path)
        groups.setdefault((labels.get("session"), labels.get("run", "")), []).append(header)
    order = sorted(
        groups,
        key=lambda key: (key[0] != session, key[0] or "", int(key[1]) if key[1].isdigit() else 0),
    )
    sound, reasons = list[tuple[Pair, Findings]](), list[str]()
    for key in order:
        misfits = Findings()
        pair = choose(bold, key[0], groups[key], superres, misfits)
        if pair is None:
            reasons += [problem.why for problem in misfits.problems]
        else:
            sound.append((pair, misfits))
    if not candidates:
        return None, None
    if len(sound) < 2:
        why = "; ".join(dict.fromkeys(reasons))
        reason = (
            "--pair-holdout requires two T2*-weighted pairs for this participant (number of pairs"
            f" found: {len(sound)})"
        )
        findings.refuse(bold.path, reason + (f" ({why})" if why else ""), _TWO)
        return None, None
    (pair, first), (spare, second) = sound[:2]
    names = [" and ".join(path.name for path in each.images) for each in (pair, spare)]
    if pair.factor != spare.factor:
        reason = (
            f"the two T2*-weighted pairs have different super-resolution factors: {names[0]} and"
            f" {names[1]}"
        )
        findings.refuse(bold.path, reason, _TWO)
        return None, None
    findings.add([*first.notices, *second.notices])
    findings.tell(bold.path, f"models are trained on {names[0]} and evaluated on {names[1]}.")
    return pair, spare


def _split(
    images: Sequence[Header], bold: Header, superres: SuperRes
) -> tuple[list[Header], list[Header]]:
    """Split the images of a session into high and low resolution, by label or voxel size.

    The user's labels take precedence.
    """
    free = [h for h in images if _acq(h) not in (superres.hr_acq, superres.lr_acq)]
    high = [h for h in free if _is_finer(h, bold, superres)]
    low = [h for h in free if _is_like(h, bold, superres)]
    return (
        [h for h in images if _acq(h) == superres.hr_acq] if superres.hr_acq else high,
        [h for h in images if _acq(h) == superres.lr_acq] if superres.lr_acq else low,
    )


def _contradicts(images: Sequence[Header], superres: SuperRes, findings: Findings) -> bool:
    """Refuse two images whose resolutions are equal or contradict their labels."""
    high, low = (
        [h for h in images if _acq(h) == label or (not label and word in _acq(h).lower())]
        for label, word in ((superres.hr_acq, "high"), (superres.lr_acq, "low"))
    )
    if len(high) != 1 or len(low) != 1:
        if len(images) != 2 or superres.hr_acq or superres.lr_acq:
            return False
        high, low = [images[0]], [images[1]]
        if np.any(np.abs(_ratios(high[0], low[0], superres) - 1) > _RATIO_TOLERANCE):
            return False
    ratio = _ratios(low[0], high[0], superres)
    if np.all(np.abs(ratio - 1) <= _RATIO_TOLERANCE):
        reason = (
            f"the image has the same resolution as {low[0].path.name} ({sizes(high[0])}), so"
            " there is no detail to learn"
        )
        findings.refuse(
            high[0].path,
            reason,
            f"Use a high-resolution image with smaller voxels. {_HOW_TO_CHOOSE}.",
        )
    elif np.any(ratio < (1 - _RATIO_TOLERANCE if superres.thins_slices else 1)):
        reason = (
            "the high- and low-resolution images are swapped: the voxels of this image are"
            f" {sizes(high[0])}, but the voxels of {low[0].path.name} are {sizes(low[0])}"
        )
        findings.refuse(
            high[0].path, reason, f"Swap the acq- labels of the two images. {_HOW_TO_CHOOSE}."
        )
    return bool(findings.problems)


def _refuse_unfit(
    bold: Header, candidates: Sequence[Header], superres: SuperRes, findings: Findings
) -> None:
    listed = "; ".join(f"{h.path.name}: {sizes(h)}" for h in candidates)
    asked = [f"acq-{label}" for label in (superres.hr_acq, superres.lr_acq) if label]
    fix = f"Add an acq-highres_T2starw image with smaller voxels. {_HOW_TO_CHOOSE}."
    if asked:
        reason = (
            f"no T2*-weighted image of this participant matches {' and '.join(asked)}"
            f" (available images: {listed})"
        )
        fix = (
            "Specify labels that occur in these file names with --hr-acq and --lr-acq, or omit"
            " the options."
        )
    elif all(
        np.all(_in_plane(h) / _in_plane(candidates[0]) - 1 < _RATIO_TOLERANCE) for h in candidates
    ):
        reason = (
            "the T2*-weighted images all have the same resolution, and their voxels are not"
            f" smaller than the BOLD voxels ({sizes(bold)}): {listed}"
        )
    else:
        reason = (
            "no T2*-weighted image has smaller in-plane voxels than the BOLD run"
            f" ({sizes(bold)}): {listed}"
        )
    findings.refuse(bold.path, reason, fix)


def _make(
    bold: Header, high: Header, low: Header | None, superres: SuperRes, findings: Findings
) -> Pair | None:
    """Check the two images against the run and one another, and work out the factor."""
    for image in [high, low] if low else [high]:
        _check_geometry(bold, image, findings)
    if low is not None and not _is_like(low, bold, superres):
        reason = (
            f"the voxels of this low-resolution image ({sizes(low)}) differ by more than 10 %"
            f" from the BOLD voxels ({sizes(bold)}), so the model would be applied at a"
            " resolution for which it was not trained"
        )
        fix = "Select another image with --lr-acq, or add --force to use this image anyway."
        findings.refuse_unless(superres.force, low.path, reason, fix)
    factor = _factor(bold, high, low, superres, findings)
    if findings.problems or factor is None:
        return None
    if low is None:
        text = (
            "no low-resolution T2*-weighted image was found. A k-space-truncated copy of this"
            f" image ({factor_text(factor)}) is used instead, which is easier to super-resolve"
            " than an acquired low-resolution image."
        )
        findings.tell(high.path, text)
    return Pair(
        highres=high.path,
        lowres=low.path if low else None,
        factor=factor,
        orders=(high.order, (low or high).order),
    )


def is_too_fine(pair: Pair | None, superres: SuperRes, findings: Findings) -> bool:
    """Return whether a pair has a factor that is too large to be a default, with a problem.

    Susceptibility-weighted images have voxels of half a millimeter and less. No method was tested
    at such factors, so the user has to request them. An image that was chosen by its label is one
    that the user requests.
    """
    if (
        pair is None
        or superres.hr_acq is not None
        or factor_without_pair(superres) is not None
        or max(pair.factor) <= _MOST_BY_DEFAULT
    ):
        return False
    x, y, z = pair.factor
    option = f"{x:g}" if x == y and z == 1 else f"{x:g} {y:g} {z:g}"
    reason = (
        f"this T2*-weighted pair implies {factor_text(pair.factor)}, but factors above"
        f" {_MOST_BY_DEFAULT} are not derived from a pair by default. The high-resolution image"
        " may be a susceptibility-weighted image"
    )
    fix = (
        f"To use this image, specify --sr-factor {option}"
        if max(pair.factor) <= _MOST_FACTOR
        else (
            f"Downsample the image; super-resolution factors above {_MOST_FACTOR} are not"
            " supported"
        )
    )
    findings.refuse(
        pair.highres,
        reason,
        f"{fix}. Without this image, the factor is taken from --sr-factor or from a calibration"
        " run; otherwise, it is 2 in-plane.",
    )
    return True


def _check_geometry(bold: Header, image: Header, findings: Findings) -> None:
    share = overlap(bold, image)
    if share < MIN_OVERLAP:
        reason = (
            f"the field of view covers {share:.0%} of the field of view of {bold.path.name}, but"
            f" at least {MIN_OVERLAP:.0%} is required"
        )
        fix = (
            "Check the orientation in the headers (qform, sform), or select another pair"
            " (--hr-acq, --lr-acq)."
        )
        findings.refuse(image.path, reason, fix)
    elif not findings.problems and share < _FAIR_OVERLAP:
        findings.tell(image.path, f"the image covers only {share:.0%} of the BOLD field of view.")


def _factor(
    bold: Header, high: Header, low: Header | None, superres: SuperRes, findings: Findings
) -> Triple | None:
    """Return the ratio of voxel sizes, or None with a problem.

    If the low-resolution image is made from the other one, its slices are as thick as those of
    that image, unless --sr-factor requests thinner slices.
    """
    lowres = low or bold
    asked = superres.factor_by_axis
    ratios = np.asarray(lowres.zooms) / np.asarray(high.zooms)
    if low is None and not superres.thins_slices:
        if abs(ratios[2] - 1) > SIZE_TOLERANCE:
            text = (
                f"the slice spacing of this image is {mm_text(high.zooms[2])} mm, but the slice"
                f" spacing of the BOLD run is {mm_text(bold.zooms[2])} mm."
            )
            findings.tell(high.path, text)
        ratios[2] = 1.0
    factors = [simple_ratio(float(ratio)) for ratio in ratios]
    if asked is not None:
        limit = _RATIO_TOLERANCE if low else SIZE_TOLERANCE
        differs = np.abs(ratios / asked - 1) > limit
        if np.any(differs):
            # in plane alone where that tells it, as most pairs share their slices
            axes = slice(2) if np.any(differs[:2]) and asked[2] == 1 else slice(3)
            stand, wanted = (
                "×".join(f"{ratio:.3g}" for ratio in values[axes])
                for values in (ratios, np.asarray(asked))
            )
            reason = (
                f"the ratio between the voxel sizes of {lowres.path.name} and this image is"
                f" {stand}, but --sr-factor is {wanted}"
            )
            findings.refuse(
                high.path,
                reason,
                "Omit --sr-factor, select another pair (--hr-acq, --lr-acq), or add --force and"
                " select a method that does not require a pair.",
            )
        factors = [*asked]
    # the copy can be made at any factor: take a whole one if that comes near the BOLD's voxel
    elif low is None:
        near = [float(round(ratio)) for ratio in ratios[:2]]
        fits = all(
            abs(r / n - 1) <= SIZE_TOLERANCE for r, n in zip(ratios[:2], near, strict=True) if n
        )
        factors[:2] = [
            f or (n if fits and n > 1 else None) for f, n in zip(factors[:2], near, strict=True)
        ]
    x, y, z = factors
    if x is None or y is None or z is None:
        reason = (
            "the ratio between the voxel sizes of the low- and high-resolution images"
            f" ({sizes(lowres)} and {sizes(high)}) is not a simple fraction"
        )
        fix = (
            "Reconstruct one of the images again so that the ratio is close to a simple fraction"
            " such as 2, 3/2 or 4/3."
        )
        findings.refuse(high.path, reason, fix)
        return None
    flat = superres.auto or any(map(works_in_plane, superres.methods))
    if z < 1:
        reason = (
            "the slices of this high-resolution image are thicker than the slices of"
            f" {lowres.path.name}"
        )
        findings.refuse(
            high.path,
            reason,
            (
                "Use a high-resolution image whose slices are not thicker than the slices of the"
                " low-resolution image."
            ),
        )
    elif z != 1 and asked is None and flat:
        reason = (
            f"the images of the pair differ in slice thickness ({sizes(lowres)} and"
            f" {sizes(high)}), but a slice-wise method in --sr-method cannot reduce the slice"
            " thickness"
        )
        fix = (
            "Use a pair with the slice thickness of the BOLD run, or select a 3D method that can"
            f" reduce the slice thickness: --sr-method mse3d --sr-factor {x:g} {y:g} {z:g}."
        )
        findings.refuse(high.path, reason, fix)
    return x, y, z


def needs_pair(superres: SuperRes) -> tuple[str, ...]:
    """Return requested series that need a T2*-weighted pair: methods and guided baselines.

    A method whose model is given needs none, nor does ``auto``: a run without a pair does without
    its methods.

    Names of the series; empty where none needs a pair.
    """
    trained = () if superres.auto else superres.pair_trained
    named = tuple(name for name in superres.methods if name in PAIR_BASELINES)
    return tuple(name for name in trained if pretrained_for(superres, name) is None) + named


def refuse_without_pair(
    label: str, bolds: Sequence[Path], settings: Settings, findings: Findings
) -> None:
    """Refuse runs without any T2*-weighted image, with every way out.

    These are the runs of participants who have no such image.
    """
    needed = needs_pair(settings.superres)
    if settings.evaluation.pair_holdout:
        needed = (*needed, "--pair-holdout")
    elif settings.evaluation.retrospective is not None:  # which makes a pair of the run
        return
    if not needed:
        return
    looked = f"sub-{label}/[ses-*/]anat/*_T2starw.nii.gz"
    reason = (
        f"the selected methods ({', '.join(needed)}) require a pair of T2*-weighted images of the"
        " participant, one with the resolution of the BOLD run and one with a higher resolution,"
        f" but no file matches {looked}"
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
    more = f" and {len(bolds) - 1} more" if len(bolds) > 1 else ""
    findings.refuse(f"sub-{label} ({bolds[0].name}{more})", reason, fix)


def factor_text(factor: Triple) -> str:
    """Return a factor in words.

    >>> factor_text((2.0, 2.0, 1.0)), factor_text((2.0, 2.0, 1.5))
    ('factor 2 in plane', 'factor 2×2×1.5, averaged across slices')
    """
    x, y, z = factor
    if z == 1 and x == y:
        return f"factor {x:g} in plane"
    across = "" if z == 1 else ", averaged across slices"
    return f"factor {x:g}×{y:g}×{z:g}{across}"
