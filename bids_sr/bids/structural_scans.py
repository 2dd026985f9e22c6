"""Structural scans of all participants (``--sr-target anat``), by contrast and resolution."""

from collections.abc import Sequence
from math import prod

from bids_sr.bids import query, slice_axis
from bids_sr.bids.collect import open_dataset, volume_header
from bids_sr.bids.entities import entities_of, is_magnitude
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.given_models import check_given_models, input_of_models
from bids_sr.bids.inputs import LowresScan, ModelInput, Pair, Subject, Survey
from bids_sr.bids.layout import KINDS, Index
from bids_sr.bids.method_options import refuse_all
from bids_sr.bids.pairs import sizes
from bids_sr.config import Settings
from bids_sr.io.grids import size_text
from bids_sr.io.image_header import Header
from bids_sr.sr.method import all_methods, method_names

_CONTRASTS = {KINDS[kind][1]: kind for kind in ("t1w", "t2w", "flair")}
"""BIDS suffix → kind of image in the index, in the order of the channels."""
_LEAST = 1.5  # low- over high-resolution voxel volume; less is no second resolution


def survey_structural(settings: Settings) -> Survey:
    """Return participants with their structural pairs, and the problems found.

    Problems are returned, not raised. Only headers are read.
    """
    seen = Survey()
    _check_methods(settings, seen)
    try:
        seen.subjects = _walk_scans(settings, seen)
    except InputError as error:
        seen.add(error.problems)
    return seen


def _check_methods(settings: Settings, findings: Findings) -> None:
    """Refuse methods without fused contrasts, and options for functional runs only."""
    fusing = [method.name for method in all_methods() if method.fuses]
    for name in settings.superres.chosen:
        if name not in fusing:
            reason = (
                "--sr-target anat processes several contrasts as channels of one image, which"
                " this method does not support"
            )
            if name not in method_names():
                reason = (
                    "--sr-target anat always computes interpolations for comparison, so they"
                    " cannot be selected as methods"
                )
            findings.refuse_option(
                f"--sr-method {name}", reason, f"Choose among {', '.join(fusing)}."
            )
    check_given_models(settings.superres, findings)
    superres, evaluation = settings.superres, settings.evaluation
    useless = {
        "--truth": evaluation.truth_dir is not None,
        "--retrospective": evaluation.retrospective is not None,
        "--pair-holdout": evaluation.pair_holdout,
        "--null-checks": evaluation.null_checks,
        "--n-ensemble": superres.n_ensemble > 1,
        "--sr-factor": bool(superres.factor),
        "--derivatives": bool(settings.preprocessing.derivatives),
        "--model": settings.activation.stats_model is not None,
        "--input-smoothing": settings.preprocessing.input_smoothing > 0,
    }
    fix = "Omit one of the two options."
    refuse_all(
        findings,
        [
            (asked, flag, "this option cannot be combined with --sr-target anat", fix)
            for flag, asked in useless.items()
        ],
    )


def _walk_scans(settings: Settings, seen: Findings) -> tuple[Subject, ...]:
    query.check_dataset(settings.paths.bids_dir.absolute())
    labels, index = open_dataset(settings, seen)
    subjects = []
    given = input_of_models(settings.superres)
    for label in labels:
        single: list[str] = []
        lowres: tuple[tuple[LowresScan, ...], ...] = ()
        controls: tuple[tuple[Pair, ...], ...] = ()
        with seen.about(label):
            pairs = [
                pair
                for suffix in _CONTRASTS
                for pair in _pairs(index, label, suffix, settings, seen, single)
            ]
            if not pairs and given is not None:
                lowres = _lowres(index, label, given, settings, seen)
            if not pairs and not lowres and settings.superres.anat_control:
                controls = _controls(index, label, settings, seen)
            if not lowres and not controls:
                for text in single:
                    seen.tell(f"sub-{label}", text)
        if pairs or controls or lowres:
            subjects.append(
                Subject(
                    label=label,
                    t1w=(),
                    runs=(),
                    structural=tuple(pairs),
                    controls=controls,
                    lowres=lowres,
                )
            )
        elif label in settings.selection.participant_label or len(labels) == 1:
            _refuse_without_pair(label, given, seen)
        else:
            with seen.about(label):
                seen.tell(f"sub-{label}", f"{_without_pair(given)}. The participant is skipped.")
    if labels and not subjects and not seen.problems:
        _refuse_without_pair("*", given, seen)
    for subject in subjects if settings.superres.train_on == "others" else ():
        own = [pair.contrast for pair in subject.structural]
        if own and not any(
            each is not subject and [pair.contrast for pair in each.structural] == own
            for each in subjects
        ):
            reason = (
                "--train-on others requires another participant with the same contrasts at two"
                " resolutions, but none of the selected participants has them"
            )
            seen.refuse(
                f"sub-{subject.label}",
                reason,
                "Select more participants, or omit --train-on.",
            )
    return tuple(subjects)


def _without_pair(given: ModelInput | None) -> str:
    """Return why a participant has no scans to work on, without a period."""
    if given is None:
        return "training requires T1w, T2w or FLAIR scans at two resolutions, but none were found"
    size = size_text(given.mm, " x ")
    return (
        "no T1w, T2w or FLAIR scans at two resolutions were found, and no session has"
        f" low-resolution {'+'.join(given.contrasts)} scans for the --pretrained model of {size}"
        f" (their voxel volume must be at least {_LEAST:g} times as large)"
    )


def _refuse_without_pair(label: str, given: ModelInput | None, findings: Findings) -> None:
    reason = _without_pair(given)
    fix = (
        "Add the scans (distinguished by their acq- labels), select them with --hr-acq and"
        " --lr-acq, or choose other participants. To measure volumes of high-resolution scans"
        " without super-resolution, add --anat-control."
    )
    if given is None:
        fix += (
            " To super-resolve participants with low-resolution scans only, specify a model that"
            " was trained on other participants with --pretrained."
        )
    findings.refuse(f"sub-{label}", reason, fix)


def _pairs(
    index: Index,
    label: str,
    suffix: str,
    settings: Settings,
    seen: Findings,
    single: list[str],
) -> list[Pair]:
    """The pair of one contrast, or none: its finest image and its coarsest one.

    `single`: notices on contrasts with one resolution are appended here; they are shown unless
    such scans are used.
    """
    superres = settings.superres
    images = _images(index, label, suffix, settings, seen)
    high = min(_of(images, superres.hr_acq), key=_volume, default=None)
    low = max(_of(images, superres.lr_acq), key=_volume, default=None)
    if high is None or low is None:
        return []
    if _volume(low) < _LEAST * _volume(high):
        ratio = _volume(low) / _volume(high)
        why = (
            f"{suffix} is not super-resolved because scans were found at one resolution only."
            if low.path == high.path
            else f"{suffix} is not super-resolved because the voxel volumes are too similar"
            f" ({sizes(low)} and {sizes(high)}, ratio {ratio:.3g}). The ratio must be at least"
            f" {_LEAST:g}."
        )
        single.append(why)
        return []
    if any(header.path not in (high.path, low.path) for header in images):
        text = (
            f"{len(images)} {suffix} images were found. Only this image (the highest resolution)"
            f" and {low.path.name} (the lowest resolution) are used."
        )
        seen.tell(high.path, text)
    x, y, z = (
        a / b for a, b in zip(slice_axis.like(low, high.affine).zooms, high.zooms, strict=True)
    )
    return [Pair(highres=high.path, lowres=low.path, factor=(x, y, z))]


def _images(
    index: Index, label: str, suffix: str, settings: Settings, seen: Findings
) -> list[Header]:
    """Return the headers of the sound images of one contrast in the chosen sessions."""
    sessions = settings.selection.session_label
    paths = query.well_named(index.find(_CONTRASTS[suffix], label), seen)
    chosen = [
        p
        for p in paths
        if is_magnitude(p) and (not sessions or entities_of(p).get("session", "") in sessions)
    ]
    headers = (volume_header(path, seen) for path in chosen)
    return [header for header in headers if header is not None]


def _controls(
    index: Index, label: str, settings: Settings, seen: Findings
) -> tuple[tuple[Pair, ...], ...]:
    """Return the finest scan of each contrast by session, of a participant without pairs."""
    sessions: dict[str, list[Pair]] = {}
    for suffix in _CONTRASTS:
        by_session: dict[str, list[Header]] = {}
        for header in _of(_images(index, label, suffix, settings, seen), settings.superres.hr_acq):
            session = entities_of(header.path).get("session", "")
            by_session.setdefault(session, []).append(header)
        for session, headers in by_session.items():
            finest = min(headers, key=_volume)
            scan = Pair(highres=finest.path, lowres=None, factor=(1.0, 1.0, 1.0))
            sessions.setdefault(session, []).append(scan)
    return tuple(tuple(scans) for _, scans in sorted(sessions.items()))


def _lowres(
    index: Index, label: str, given: ModelInput, settings: Settings, seen: Findings
) -> tuple[tuple[LowresScan, ...], ...]:
    """Return low-resolution scans for a model by session, of a participant without pairs.

    Of several scans of a contrast the finest is taken that is coarser than the model's grid.
    Sessions without all contrasts of the model are left out.
    """
    least = _LEAST * prod(given.mm)
    sessions: dict[str, dict[str, list[Header]]] = {}
    for suffix in (suffix for suffix in _CONTRASTS if suffix in given.contrasts):
        for header in _of(_images(index, label, suffix, settings, seen), settings.superres.lr_acq):
            if _volume(header) >= least:
                session = entities_of(header.path).get("session", "")
                sessions.setdefault(session, {}).setdefault(suffix, []).append(header)
    complete = []
    for session, headers in sorted(sessions.items()):
        place = f"sub-{label}" + (f"_ses-{session}" if session else "")
        if absent := [suffix for suffix in given.contrasts if suffix not in headers]:
            text = (
                f"the --pretrained model requires low-resolution {'+'.join(given.contrasts)}"
                f" scans, but no {' and no '.join(absent)} scan was found; these scans are"
                " skipped."
            )
            seen.tell(place, text)
            continue
        finest = {suffix: min(headers[suffix], key=_volume) for suffix in given.contrasts}
        for suffix, header in finest.items():
            if (count := len(headers[suffix])) > 1:
                text = (
                    f"{count} low-resolution {suffix} images were found; this image is used"
                    " because it has the smallest voxels."
                )
                seen.tell(header.path, text)
        complete.append(tuple(LowresScan(path=header.path) for header in finest.values()))
    return tuple(complete)


def _of(images: Sequence[Header], acquisition: str | None) -> list[Header]:
    """Images of an acquisition, all of them where none was named; in the order of their names."""
    chosen = [
        h
        for h in images
        if acquisition is None or entities_of(h.path).get("acquisition") == acquisition
    ]
    return sorted(chosen, key=lambda header: header.path.name)


def _volume(header: Header) -> float:
    return prod(header.zooms)
