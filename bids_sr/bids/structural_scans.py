"""Structural scans at two resolutions (``--sr-target anat``): a participant's shared contrasts."""

from collections.abc import Sequence
from math import prod

from bids_sr.bids import headers as hd
from bids_sr.bids import query
from bids_sr.bids.collect import open_dataset, volume_header
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.inputs import Pair, Subject, Survey, entities_of, is_magnitude
from bids_sr.bids.layout import KINDS, Index
from bids_sr.bids.method_options import check_given_models, refuse_all
from bids_sr.bids.pairs import sizes
from bids_sr.config import Settings
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
        seen.subjects = _walk(settings, seen)
    except InputError as error:
        seen.add(error.problems)
    return seen


def _check_methods(settings: Settings, found: Findings) -> None:
    """Refuse methods without fused contrasts, and options for functional runs only."""
    fusing = [method.name for method in all_methods() if method.fuses]
    for name in settings.superres.chosen:
        if name not in fusing:
            reason = "--sr-target anat fuses contrasts as channels, which this method does not"
            reason += "" if name in method_names() else "; interpolations are compared with anyway"
            found.refuse_option(
                f"--sr-method {name}", reason, f"Choose among {', '.join(fusing)}."
            )
    check_given_models(settings.superres, found)
    superres, evaluation = settings.superres, settings.evaluation
    useless = {
        "--truth": evaluation.truth_dir is not None,
        "--retrospective": evaluation.retrospective is not None,
        "--pair-holdout": evaluation.pair_holdout,
        "--null-checks": evaluation.null_checks,
        "--n-ensemble": superres.n_ensemble > 1,
        "--sr-factor": superres.factor is not None,
        "--derivatives": bool(settings.preprocessing.derivatives),
        "--model": settings.activation.stats_model is not None,
    }
    fix = "Leave one of the two options out."
    refuse_all(
        found,
        [
            (asked, flag, "it does not apply to --sr-target anat", fix)
            for flag, asked in useless.items()
        ],
    )


def _walk(settings: Settings, seen: Findings) -> tuple[Subject, ...]:
    query.check_dataset(settings.paths.bids_dir.absolute())
    labels, index = open_dataset(settings, seen)
    subjects = []
    for label in labels:
        with seen.about(label):
            pairs = [
                pair
                for suffix in _CONTRASTS
                for pair in _pairs(index, label, suffix, settings, seen)
            ]
        if pairs:
            subjects.append(Subject(label=label, t1w=(), runs=(), structural=tuple(pairs)))
        elif label in settings.selection.participant_label or len(labels) == 1:
            _refuse_without_pair(label, seen)
        else:
            with seen.about(label):
                seen.tell(
                    f"sub-{label}",
                    "none of T1w, T2w and FLAIR is there at two resolutions, so it is left out.",
                )
    if labels and not subjects and not seen.problems:
        _refuse_without_pair("*", seen)
    for subject in subjects if settings.superres.train_on == "others" else ():
        own = [pair.contrast for pair in subject.structural]
        if not any(
            each is not subject and [pair.contrast for pair in each.structural] == own
            for each in subjects
        ):
            reason = (
                "--train-on others: no other participant of this call has the same contrasts at"
                " two resolutions"
            )
            seen.refuse(
                f"sub-{subject.label}",
                reason,
                "Choose more participants, or leave --train-on out.",
            )
    return tuple(subjects)


def _refuse_without_pair(label: str, found: Findings) -> None:
    reason = (
        "none of T1w, T2w and FLAIR is there at two resolutions, so there is nothing to learn from"
    )
    fix = (
        "Add the scans (told apart by acq-), name them with --hr-acq and --lr-acq, or choose other"
        " participants."
    )
    found.refuse(f"sub-{label}", reason, fix)


def _pairs(
    index: Index, label: str, suffix: str, settings: Settings, seen: Findings
) -> list[Pair]:
    """The pair of one contrast, or none: its finest image and its coarsest one."""
    wanted, superres = settings.selection.session_label, settings.superres
    paths = query.well_named(index.find(_CONTRASTS[suffix], label), seen)
    paths = [
        p
        for p in paths
        if is_magnitude(p) and (not wanted or entities_of(p).get("session", "") in wanted)
    ]
    images = [
        header for header in (volume_header(path, seen) for path in paths) if header is not None
    ]
    high = min(_of(images, superres.hr_acq), key=_volume, default=None)
    low = max(_of(images, superres.lr_acq), key=_volume, default=None)
    if high is None or low is None:
        return []
    if _volume(low) < _LEAST * _volume(high):
        both = f"{sizes(low)} over {sizes(high)}: ratio {_volume(low) / _volume(high):.3g}"
        why = f"has voxel volumes that are too similar ({both}; at least {_LEAST:g} is needed)"
        why = "was found at one resolution only" if low.path == high.path else why
        seen.tell(f"sub-{label}", f"{suffix} {why} and is not super-resolved.")
        return []
    if any(header.path not in (high.path, low.path) for header in images):
        text = (
            f"of {len(images)} {suffix} images this one and {low.path.name} are used, the finest"
            " and the coarsest."
        )
        seen.tell(high.path, text)
    x, y, z = (a / b for a, b in zip(hd.like(low, high.affine).zooms, high.zooms, strict=True))
    return [Pair(highres=high.path, lowres=low.path, factor=(x, y, z))]


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
