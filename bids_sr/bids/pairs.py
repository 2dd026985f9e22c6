"""Choice of the T2*-weighted pair of a run, told from voxel sizes or from the labels that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from bids_sr.bids.inputs import Header, Notice, Pair, Problem, Triple, entities_of
from bids_sr.bids.method_options import pretrained_for
from bids_sr.config import Settings, SuperRes
from bids_sr.series import PAIR_BASELINES

SIZE_TOLERANCE = 0.10  # of the BOLD voxel: so far may the low-resolution image of the pair differ in plane
RATIO_TOLERANCE = 0.02  # so far may a ratio of voxel sizes lie from a simple fraction
MAX_DENOMINATOR = 4
MIN_OVERLAP, FAIR_OVERLAP = 0.10, 0.60  # share of the BOLD field of view that the image covers
HOW_TO_CHOOSE = "Choose with --hr-acq LABEL and --lr-acq LABEL (the acq- labels of the two images)"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A pair, or why there is none; neither means that the participant has no T2*-weighted image."""

    pair: Pair | None = None
    problems: tuple[Problem, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Session:
    label: str | None
    fine: list[Header]
    low: list[Header]


def _refuse(file: Path | str, reason: str, fix: str) -> Choice:
    return Choice(problems=(Problem(file=str(file), reason=reason, fix=fix),))


def simple_ratio(ratio: float) -> float | None:
    """Return the simple fraction within 2 % of a ratio (denominator up to 4, the simplest first), or None."""
    for denominator in range(1, MAX_DENOMINATOR + 1):
        nearest = Fraction(max(1, round(ratio * denominator)), denominator)
        if abs(ratio / nearest - 1) <= RATIO_TOLERANCE:
            return float(nearest)
    return None


def overlap(target: Header, other: Header) -> float:
    """Share of the field of view of `target` that lies in that of `other` (0 to 1), in world coordinates."""
    ticks = [(np.arange(12) + 0.5) / 12 * n - 0.5 for n in target.shape[:3]]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3)
    matrix = np.linalg.inv(other.affine) @ target.affine
    voxels = points @ matrix[:3, :3].T + matrix[:3, 3]
    inside = (voxels >= -0.5) & (voxels <= np.asarray(other.shape[:3]) - 0.5)
    return float(inside.all(axis=1).mean())


def same_axes(first: Header, second: Header) -> bool:
    """True if both images store the same anatomical axis first, second and third (flips do not matter)."""
    cosines = (first.affine[:3, :3] / first.zooms).T @ (second.affine[:3, :3] / second.zooms)
    return bool(np.all(np.abs(cosines).argmax(axis=1) == np.arange(3)))


def _in_plane(header: Header) -> np.ndarray:
    return np.asarray(header.zooms[:2])


def _is_like(header: Header, bold: Header) -> bool:
    return bool(np.all(np.abs(_in_plane(header) / _in_plane(bold) - 1) <= SIZE_TOLERANCE))


def _is_finer(header: Header, bold: Header) -> bool:
    return bool(np.all(_in_plane(header) / _in_plane(bold) < 1 - SIZE_TOLERANCE))


def _acq(header: Header) -> str:
    return entities_of(header.path).get("acquisition", "")


def sizes(header: Header) -> str:
    """Voxel size as text."""
    return "×".join(f"{zoom:.3g}" for zoom in header.zooms) + " mm"


def choose(bold: Header, session: str | None, candidates: Sequence[Header], superres: SuperRes) -> Choice:
    """Choose the pair of one run.

    Parameters
    ----------
    bold : header of the run; session : its session
    candidates : headers of the magnitude T2*-weighted images of the participant, every session
    superres : `hr_acq`, `lr_acq`, `factor` and `force` count
    """
    if not candidates:
        return Choice()
    by_session: dict[str | None, list[Header]] = {}
    for header in candidates:
        by_session.setdefault(entities_of(header.path).get("session"), []).append(header)
    for label, images in by_session.items():
        contradiction = _contradiction(images, superres)
        if contradiction and (label == session or len(by_session) == 1):
            return contradiction
    wanted = [_split(label, images, bold, superres) for label, images in by_session.items()]
    complete = [s for s in wanted if s.fine and s.low]
    usable = complete or [s for s in wanted if s.fine]
    chosen = [s for s in usable if s.label == session] or usable
    if not chosen:
        return _none_fits(bold, candidates, superres)
    if len(chosen) > 1:
        names = ", ".join(f"ses-{s.label}" for s in chosen)
        return _refuse(
            bold.path,
            f"its own session holds no T2*-weighted pair and several other sessions do ({names})",
            'Choose one with --bids-filter-file and {"t2starw": {"session": "LABEL"}}.',
        )
    if len(chosen[0].fine) > 1 or len(chosen[0].low) > 1:
        return _ambiguous(bold, chosen[0])
    low = chosen[0].low[0] if chosen[0].low else None
    return _make(bold, chosen[0].fine[0], low, chosen[0].label, superres)


def _split(label: str | None, images: Sequence[Header], bold: Header, superres: SuperRes) -> _Session:
    """Fine and low images of a session, by the labels that the user named or else by voxel size."""
    by_label = {"fine": superres.hr_acq, "low": superres.lr_acq}
    free = [h for h in images if _acq(h) not in (superres.hr_acq, superres.lr_acq)]
    fine = [h for h in images if _acq(h) == by_label["fine"]] if by_label["fine"] else None
    low = [h for h in images if _acq(h) == by_label["low"]] if by_label["low"] else None
    return _Session(
        label=label,
        fine=[h for h in free if _is_finer(h, bold)] if fine is None else fine,
        low=[h for h in free if _is_like(h, bold)] if low is None else low,
    )


def _contradiction(images: Sequence[Header], superres: SuperRes) -> Choice | None:
    """Refuse two images whose resolutions are equal, or the other way round than their labels say."""
    high = [h for h in images if _acq(h) == superres.hr_acq or (not superres.hr_acq and "high" in _acq(h).lower())]
    low = [h for h in images if _acq(h) == superres.lr_acq or (not superres.lr_acq and "low" in _acq(h).lower())]
    if len(high) != 1 or len(low) != 1:
        if len(images) != 2 or superres.hr_acq or superres.lr_acq:
            return None
        high, low = [images[0]], [images[1]]
        if not np.allclose(_in_plane(high[0]), _in_plane(low[0]), rtol=RATIO_TOLERANCE):
            return None
    ratio = _in_plane(low[0]) / _in_plane(high[0])
    if np.all(np.abs(ratio - 1) <= RATIO_TOLERANCE):
        return _refuse(
            high[0].path,
            f"it and {low[0].path.name} have equal resolutions ({sizes(high[0])}); there is no detail to learn",
            f"Give a finer image as the high-resolution one. {HOW_TO_CHOOSE}.",
        )
    if np.any(ratio < 1):
        return _refuse(
            high[0].path,
            f"the pair is swapped: {sizes(high[0])} in it, and {sizes(low[0])} in {low[0].path.name}",
            f"Exchange the acq- labels of the two images. {HOW_TO_CHOOSE}.",
        )
    return None


def _none_fits(bold: Header, candidates: Sequence[Header], superres: SuperRes) -> Choice:
    listed = "; ".join(f"{h.path.name}: {sizes(h)}" for h in candidates)
    asked = [f"acq-{label}" for label in (superres.hr_acq, superres.lr_acq) if label]
    if asked:
        return _refuse(
            bold.path,
            f"no T2*-weighted image of this participant fits {' and '.join(asked)} ({listed})",
            "Give labels that stand in these file names with --hr-acq and --lr-acq, or leave the options out.",
        )
    if all(np.all(_in_plane(h) / _in_plane(candidates[0]) - 1 < RATIO_TOLERANCE) for h in candidates):
        reason = f"the T2*-weighted images have equal resolutions, none finer than the BOLD's {sizes(bold)} ({listed})"
    else:
        reason = f"no T2*-weighted image is finer in plane than the BOLD's {sizes(bold)} ({listed})"
    return _refuse(bold.path, reason, f"Add a finer acq-highres_T2starw image. {HOW_TO_CHOOSE}.")


def _ambiguous(bold: Header, session: _Session) -> Choice:
    fine = ", ".join(h.path.name for h in session.fine)
    low = ", ".join(h.path.name for h in session.low) or "none"
    labels = {_acq(h) for h in session.fine}, {_acq(h) for h in session.low}
    fix = f"{HOW_TO_CHOOSE}."
    if len(labels[0]) < len(session.fine) or len(labels[1]) < len(session.low):
        fix += (
            ' Repeats under one label are told apart with --bids-filter-file and {"t2starw": {"run": 1}}; '
            "--pair-holdout trains on the first and scores on the second."
        )
    return _refuse(
        bold.path, f"two or more T2*-weighted pairs could serve it: high resolution {fine}; low resolution {low}", fix
    )


def _make(bold: Header, fine: Header, low: Header | None, session: str | None, superres: SuperRes) -> Choice:
    """Check the two images against the run and one another, and work out the factor."""
    problems: list[Problem] = []
    notices: list[Notice] = []
    for image in [fine] + ([low] if low else []):
        problems += _geometry_problems(bold, image)
        share = overlap(bold, image)
        if not problems and share < FAIR_OVERLAP:
            notices.append(Notice(file=str(image.path), text=f"it covers {share:.0%} of the BOLD field of view only."))
    if low is not None and not _is_like(low, bold):
        _say(
            superres.force, problems, notices, low.path,
            f"its voxels ({sizes(low)}) differ by more than 10 % from the BOLD's ({sizes(bold)}): "
            "the model would be used at a resolution it was not trained at",
            "Choose another image with --lr-acq, or accept it with --force.",
        )  # fmt: skip
    factor = _factor(bold, fine, low, superres, problems, notices)
    if problems or factor is None:
        return Choice(problems=tuple(problems), notices=tuple(notices))
    if low is None:
        text = (
            f"there is no low-resolution T2*-weighted image; a k-space-truncated copy of it (factor {factor[0]:g}) "
            "takes its place. Noise and contrast of such a copy are kinder than those of a real acquisition."
        )
        notices.append(Notice(file=str(fine.path), text=text))
    pair = Pair(
        highres=fine.path, lowres=low.path if low else None, session=session, factor=factor, truncated=low is None
    )
    return Choice(pair=pair, notices=tuple(notices))


def _say(force: bool, problems: list[Problem], notices: list[Notice], path: Path, reason: str, fix: str) -> None:
    if force:
        notices.append(Notice(file=str(path), text=f"{reason}; --force was given."))
    else:
        problems.append(Problem(file=str(path), reason=reason, fix=fix))


def _geometry_problems(bold: Header, image: Header) -> list[Problem]:
    if not same_axes(bold, image):
        return [
            Problem(
                file=str(image.path),
                reason=f"its axes stand in another order than those of {bold.path.name}",
                fix="Reorient one of them so that both store slices along the third axis.",
            )
        ]
    share = overlap(bold, image)
    if share < MIN_OVERLAP:
        return [
            Problem(
                file=str(image.path),
                reason=f"its field of view covers {share:.0%} of that of {bold.path.name}: they do not overlap",
                fix="Check the orientation in the headers (qform, sform), or choose another pair (--hr-acq, --lr-acq).",
            )
        ]
    return []


def _factor(
    bold: Header,
    fine: Header,
    low: Header | None,
    superres: SuperRes,
    problems: list[Problem],
    notices: list[Notice],
) -> Triple | None:
    """Ratio of voxel sizes; along slices 1 where the low image is made from the fine one, in plane."""
    coarse = low or bold
    ratios = np.asarray(coarse.zooms) / np.asarray(fine.zooms)
    if low is None:
        if abs(ratios[2] - 1) > SIZE_TOLERANCE:
            text = f"its slices are {fine.zooms[2]:.3g} mm apart, the BOLD's {bold.zooms[2]:.3g} mm."
            notices.append(Notice(file=str(fine.path), text=text))
        ratios[2] = 1.0
    factors = [simple_ratio(float(ratio)) for ratio in ratios]
    if superres.factor is not None:
        limit = RATIO_TOLERANCE if low else SIZE_TOLERANCE
        if np.any(np.abs(ratios[:2] / superres.factor - 1) > limit):
            found = "×".join(f"{ratio:.3g}" for ratio in ratios[:2])
            problems.append(
                Problem(
                    file=str(fine.path),
                    reason=f"voxel sizes of {coarse.path.name} and of it stand as {found}, not as --sr-factor says",
                    fix="Leave --sr-factor out, or choose another pair (--hr-acq, --lr-acq).",
                )
            )
        factors[:2] = [superres.factor, superres.factor]
    elif low is None:  # the copy can be made at any factor: take a whole one if that comes near the BOLD's voxel
        near = [float(round(ratio)) for ratio in ratios[:2]]
        fits = all(abs(r / n - 1) <= SIZE_TOLERANCE for r, n in zip(ratios[:2], near, strict=True) if n)
        factors[:2] = [f or (n if fits and n > 1 else None) for f, n in zip(factors[:2], near, strict=True)]
    whole = [f for f in factors if f is not None]
    if len(whole) < 3:
        problems.append(
            Problem(
                file=str(fine.path),
                reason=f"voxel sizes ({sizes(coarse)} over {sizes(fine)}) do not stand in a simple ratio",
                fix="Reconstruct one of the images so that the ratio is near 2, 3/2, 4/3 or the like.",
            )
        )
        return None
    if whole[2] != 1.0:
        _say(
            superres.force, problems, notices, fine.path,
            f"the pair differs along slices ({sizes(coarse)} over {sizes(fine)}); the methods work in plane",
            "Give a pair with slices of one thickness stored along the third axis, or try with --force.",
        )  # fmt: skip
    return whole[0], whole[1], whole[2]


def needs_pair(superres: SuperRes) -> tuple[str, ...]:
    """Series asked for that need a T2*-weighted pair: methods trained on it, and guided baselines that were named.

    A method whose model is given needs none.
    """
    trained = tuple(name for name in superres.pair_trained if pretrained_for(superres, name) is None)
    return trained + tuple(name for name in superres.methods if name in PAIR_BASELINES)


def no_pair(label: str, bolds: Sequence[Path], settings: Settings) -> list[Problem]:
    """What stands against runs whose participant has no T2*-weighted image at all, with every way out."""
    wanted = needs_pair(settings.superres)
    if settings.evaluation.pair_holdout:
        wanted = (*wanted, "--pair-holdout")
    elif settings.evaluation.retrospective is not None:  # which makes a pair of the run
        return []
    if not wanted:
        if settings.superres.factor is not None:
            return []
        reason = "it has no T2*-weighted pair to tell the factor of super-resolution"
        return [Problem(file=f"sub-{label}", reason=reason, fix="Give the factor, for example --sr-factor 2.")]
    looked = f"sub-{label}/[ses-*/]anat/*_T2starw.nii.gz"
    verb = "needs" if len(wanted) == 1 else "need"
    reason = (
        f"{', '.join(wanted)} {verb} a pair of T2*-weighted images of the participant, one at the resolution of the "
        f"BOLD and one finer, and there is none: no file matches {looked}"
    )
    fix = (
        "Add the pair as anat/sub-…_acq-highres_T2starw.nii.gz and anat/sub-…_acq-lowres_T2starw.nii.gz; or the "
        "highres image alone (a k-space-truncated copy then takes the place of the lowres one). Without a pair: "
        "--sr-method sbl --sr-factor 2 takes all from the run itself; --sr-method bspline zerofill --sr-factor 2 "
        "runs baselines alone; --retrospective brings the BOLD down, raises it again and compares."
    )
    more = f" and {len(bolds) - 1} more" if len(bolds) > 1 else ""
    return [Problem(file=f"sub-{label} ({bolds[0].name}{more})", reason=reason, fix=fix)]
