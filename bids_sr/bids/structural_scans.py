"""Structural scans at two resolutions, for ``--sr-target anat``: which contrasts a participant has twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from bids_sr.bids import headers as hd
from bids_sr.bids import query
from bids_sr.bids.inputs import Header, InputError, Notice, Problem, StructuralPair, Subject, Survey, entities_of
from bids_sr.bids.layout import Index, open_index
from bids_sr.bids.method_options import check_given_models
from bids_sr.config import Settings
from bids_sr.sr.method import all_methods, method_names

KINDS = {"T1w": "t1w", "T2w": "t2w", "FLAIR": "flair"}
"""BIDS suffix → kind of image in the index, in the order of the channels."""
_LEAST = 1.5  # coarse over fine voxel volume; less is no second resolution


@dataclass(slots=True)
class _Findings:
    """What piles up while the data set is walked through."""

    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    headers: dict[Path, Header] = field(default_factory=dict)


def survey_structural(settings: Settings) -> Survey:
    """Participants with their structural pairs; problems are returned, not raised. Only headers are read."""
    seen = _Findings(problems=check_methods(settings))
    try:
        subjects = _walk(settings, seen)
    except InputError as error:
        seen.problems += error.problems
        subjects = ()
    return Survey(
        subjects=subjects, headers=seen.headers, problems=tuple(dict.fromkeys(seen.problems)),
        notices=tuple(dict.fromkeys(seen.notices)),
    )  # fmt: skip


def check_methods(settings: Settings) -> list[Problem]:
    """Methods that take no fused contrasts, and options of functional runs that could do nothing."""
    fusing = [method.name for method in all_methods() if method.fuses]
    wrong = [name for name in settings.superres.methods if name not in fusing]
    problems = [
        Problem(
            file=f"--sr-method {name}",
            reason="--sr-target anat fuses contrasts as channels, which this method does not"
            + ("" if name in method_names() else "; interpolations are compared with anyway"),
            fix=f"Choose among {', '.join(fusing)}.",
        )
        for name in wrong
    ]
    problems += check_given_models(settings.superres)
    evaluation = settings.evaluation
    useless = {
        "--truth": evaluation.truth is not None,
        "--retrospective": evaluation.retrospective is not None,
        "--pair-holdout": evaluation.pair_holdout,
        "--null-checks": evaluation.null_checks > 0,
        "--n-ensemble": settings.superres.n_ensemble > 1,
        "--sr-factor": settings.superres.factor is not None,
        "--warm-start": settings.superres.warm_start,
        "--derivatives": bool(settings.preprocessing.derivatives),
    }
    return problems + [
        Problem(file=flag, reason="it means nothing with --sr-target anat", fix="Leave one of the two options out.")
        for flag, given in useless.items()
        if given
    ]


def _walk(settings: Settings, seen: _Findings) -> tuple[Subject, ...]:
    bids_dir, selection = settings.paths.bids_dir.absolute(), settings.selection
    query.check_dataset(bids_dir)
    existing, notices = query.participants(bids_dir)
    labels, problems = query.choose(bids_dir, existing, selection)
    seen.notices += notices
    seen.problems += problems
    filters = query.read_filters(selection.bids_filter_file)
    index = open_index(bids_dir, labels, existing, selection.bids_database_dir, filters)
    subjects = []
    for label in labels:
        pairs = [pair for suffix in KINDS for pair in _pairs(index, label, suffix, settings, seen)]
        if pairs:
            subjects.append(Subject(label=label, t1w=(), runs=(), structural=tuple(pairs)))
        elif label in selection.participant_label or len(labels) == 1:
            seen.problems.append(_no_pair(label))
        else:
            text = "none of T1w, T2w and FLAIR is there at two resolutions, so it is left out."
            seen.notices.append(Notice(file=f"sub-{label}", text=text))
    if labels and not subjects and not seen.problems:
        seen.problems.append(_no_pair("*"))
    if settings.superres.train_on == "others":
        seen.problems += [_no_other(subject.label) for subject in subjects if not others_of(subject, subjects)]
    return tuple(subjects)


def others_of(subject: Subject, subjects: Sequence[Subject]) -> tuple[Subject, ...]:
    """The other participants of a call with the same contrasts."""
    own = [pair.contrast for pair in subject.structural]
    return tuple(
        each for each in subjects if each is not subject and [pair.contrast for pair in each.structural] == own
    )


def _no_other(label: str) -> Problem:
    return Problem(
        file=f"sub-{label}",
        reason="--train-on others: no other participant of this call has the same contrasts at two resolutions",
        fix="Choose more participants, or leave --train-on out.",
    )


def _no_pair(label: str) -> Problem:
    return Problem(
        file=f"sub-{label}",
        reason="none of T1w, T2w and FLAIR is there at two resolutions, so there is nothing to learn from",
        fix="Add the scans (told apart by acq-), name them with --hr-acq and --lr-acq, or choose other participants.",
    )


def _pairs(index: Index, label: str, suffix: str, settings: Settings, seen: _Findings) -> list[StructuralPair]:
    """The pair of one contrast, or none: its finest image and its coarsest one."""
    found = index.find(KINDS[suffix], label)
    odd = query.odd_names(found)
    seen.problems += odd.values()
    wanted = settings.selection.session_label
    paths = [
        path
        for path in found
        if path not in odd
        and entities_of(path).get("part", "mag") == "mag"
        and (not wanted or entities_of(path).get("session", "") in wanted)
    ]
    images = [header for header in (_header(path, seen) for path in paths) if header is not None]
    superres = settings.superres
    high = min(_of(images, superres.hr_acq), key=_volume, default=None)
    low = max(_of(images, superres.lr_acq), key=_volume, default=None)
    if high is None or low is None:
        return []
    if _volume(low) < _LEAST * _volume(high):
        if images:
            text = f"{suffix} is there at one resolution alone and is not super-resolved."
            seen.notices.append(Notice(file=f"sub-{label}", text=text))
        return []
    unused = [header.path.name for header in images if header.path not in (high.path, low.path)]
    if unused:
        text = f"of {len(images)} {suffix} images this one and {low.path.name} are used, the finest and the coarsest."
        seen.notices.append(Notice(file=str(high.path), text=text))
    return [StructuralPair(contrast=suffix, highres=high.path, lowres=low.path)]


def _of(images: Sequence[Header], acquisition: str | None) -> list[Header]:
    """Images of an acquisition, all of them where none was named; in the order of their names."""
    chosen = [h for h in images if acquisition is None or entities_of(h.path).get("acquisition") == acquisition]
    return sorted(chosen, key=lambda header: header.path.name)


def _volume(header: Header) -> float:
    return prod(header.zooms)


def _header(path: Path, seen: _Findings) -> Header | None:
    """Header of a single 3D image of magnitudes, or None with a problem."""
    found = hd.read_header(path)
    if isinstance(found, Problem):
        seen.problems.append(found)
        return None
    seen.headers[path] = found
    if len(hd.squeeze_3d(found)) != 3 or found.complex:
        reason = f"it is no single 3D image of magnitudes ({found.shape})"
        seen.problems.append(Problem(file=str(path), reason=reason, fix="Store the magnitude as a 3D image."))
        return None
    return found
