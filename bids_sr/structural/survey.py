"""Structural scans of all participants (``--sr-target anat``), by contrast and resolution."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.io.grids import Factor, size_text
from bids_sr.io.image_header import Header
from bids_sr.io.notices import InvalidInput, Notice
from bids_sr.io.word_lists import enumerate_words
from bids_sr.sr.method import get_method, get_recipe, list_methods, method_names
from bids_sr.structural.kept_split import SETS, assign_sets, list_files
from bids_sr.survey.bids import dataset_checks, slice_axis
from bids_sr.survey.bids.anatomical_images import find_companions
from bids_sr.survey.bids.collect import open_dataset
from bids_sr.survey.bids.entities import is_magnitude, parse_entities
from bids_sr.survey.bids.headers import read_volume_headers
from bids_sr.survey.bids.inputs import LowresScan, ModelInput, Pair, Subject, Survey
from bids_sr.survey.bids.layout import KINDS, Index
from bids_sr.survey.bids.pairs import voxel_size_text
from bids_sr.survey.bids.participant_selection import (
    refuse_missing_participants,
    select_participants,
)
from bids_sr.survey.bids.pretrained_models import (
    find_pretrained,
    input_of_models,
    judge_given_models,
)
from bids_sr.survey.notices import (
    Choice,
    attempt,
    attribute,
    is_problem,
    judge,
    note,
    option_problem,
    problem,
)

# BIDS suffix → kind of image in the index, in the order of the channels
_CONTRASTS = {KINDS[kind][1]: kind for kind in ("t1w", "t2w", "flair")}
# smallest ratio of low- to high-resolution voxel volume that counts as two resolutions
_MIN_VOLUME_RATIO = 1.5
_HeadersByContrast = Mapping[str, Sequence[Header]]  # headers of a participant by suffix


def survey_structural(settings: Settings) -> Survey:
    """Survey the structural scans of all participants, and return problems without raising.

    Only headers are read.
    """
    notices = [
        *judge([_check_methods, _check_options], settings),
        *judge_given_models(settings.superres),
    ]
    scans = attempt(((), ()), _survey_participants, settings)
    subjects, split_subjects = scans.value
    return Survey(
        subjects=subjects,
        split_subjects=split_subjects,
        notices=tuple(dict.fromkeys((*notices, *scans.notices))),
    )


def _check_methods(settings: Settings) -> Iterator[Notice]:
    """Reject methods that do not fuse contrasts, and unsuitable models."""
    fusion_methods = [method.name for method in list_methods() if method.fuses_contrasts]
    crop_methods = [method.name for method in list_methods() if method.simulated_factor]
    if not settings.superres.chosen:
        yield option_problem(
            "--sr-method all",
            "--sr-target anat requires a method in addition to the interpolations",
            f"Add a method, such as --sr-method {fusion_methods[0]} all.",
        )
    for name in settings.superres.chosen:
        if name in (crop_methods if find_simulated_factor(settings) else fusion_methods):
            continue
        if name in (*fusion_methods, *crop_methods):
            yield option_problem(
                f"--sr-method {name}",
                f"{enumerate_words(fusion_methods)} super-resolve measured low-resolution scans of"
                f" several contrasts, and {enumerate_words(crop_methods)} simulated scans of one"
                " contrast",
                "Run the two kinds of methods with separate output directories.",
            )
            continue
        reason = (
            "--sr-target anat processes several contrasts as channels of one image, which"
            " this method does not support"
        )
        if name not in method_names():
            reason = (
                "--sr-target anat always computes interpolations for comparison, so they"
                " cannot be selected as methods"
            )
        yield option_problem(
            f"--sr-method {name}",
            reason,
            f"Choose among {', '.join([*fusion_methods, *crop_methods])}.",
        )
    yield from _note_untested_training(settings)


def _note_untested_training(settings: Settings) -> Iterator[Notice]:
    """Note that results are not compared if all slices of a participant are used for training."""
    recipe = settings.superres.recipe
    for name in settings.superres.chosen:
        method = get_method(name) if name in method_names() else None
        if method is None or not method.simulated_factor or settings.anat.split:
            continue
        if get_recipe(method, recipe).hold_out == 0:
            yield note(
                f"--sr-method {name} --recipe {recipe}",
                "all slices are used for training, so the result is not compared with the"
                " high-resolution scan. For a comparison, train on other participants with --set"
                " anat.split.",
            )


def _check_options(settings: Settings) -> Iterator[Notice]:
    """Reject options that require functional runs."""
    superres, evaluation = settings.superres, settings.evaluation
    given_options = {
        "--truth": evaluation.truth_dir is not None,
        "--retrospective": evaluation.retrospective is not None,
        "--sr-factor": bool(superres.factor),
        "--derivatives": bool(settings.preprocessing.derivatives),
        "--model": settings.activation.model is not None,
        "--set preprocessing.input_smoothing": settings.preprocessing.input_smoothing > 0,
    }
    fix = "Omit one of the two options."
    for flag, is_given in given_options.items():
        if is_given:
            yield problem(flag, "this option cannot be combined with --sr-target anat", fix)


def _survey_participants(
    settings: Settings,
) -> Choice[tuple[tuple[Subject, ...], tuple[Subject, ...]]]:
    """Return the selected participants with scans to process, and all participants of the split.

    Participants without suitable scans are reported.
    """
    dataset_checks.check_dataset(settings.paths.bids_dir.absolute())
    selection, superres = settings.selection, settings.superres
    # networks are trained on some of the participants
    is_split = bool(settings.anat.split) and not all(
        find_pretrained(superres, method) for method in superres.chosen
    )
    everybody = settings.with_values(selection={"participant_label": ()})
    opened = open_dataset(everybody if is_split else settings)
    index, labels = opened.value.index, opened.value.labels
    selected = labels
    notices = [*opened.notices]
    if is_split:
        notices += refuse_missing_participants(settings.paths.bids_dir, labels, selection)
        selected = select_participants(labels, selection)
    model_input = None if find_simulated_factor(settings) else input_of_models(superres)
    subjects = []
    for label in labels:
        scans = _survey_participant(index, label, model_input, settings)
        notices += attribute(scans.notices, label)
        if scans.value.has_scans:
            subjects.append(scans.value)
        elif label in selection.participant_label or len(labels) == 1:
            notices.append(_refuse_missing_scans(label, model_input, settings))
        elif label in selected:
            reason = _describe_missing_scans(model_input, settings)
            skipped = note(f"sub-{label}", f"{reason}. The participant is skipped.")
            notices += attribute([skipped], label)
    if labels and not subjects and not any(map(is_problem, notices)):
        notices.append(_refuse_missing_scans("*", model_input, settings))
    if not is_split or not any(subject.structural for subject in subjects):
        chosen = tuple(subject for subject in subjects if subject.label in selected)
        return Choice(value=(chosen, ()), notices=tuple(notices))
    split = _split_participants(subjects, settings)
    return Choice(
        value=(
            tuple(subject for subject in split.value if subject.label in selected),
            tuple(subject for subject in split.value if subject.split_set),
        ),
        notices=(*notices, *split.notices),
    )


def _survey_participant(
    index: Index, label: str, model_input: ModelInput | None, settings: Settings
) -> Choice[Subject]:
    """Return a participant with pairs of scans, low-resolution scans or controls, or none of them.

    Low-resolution scans for a given model are only used if there are no pairs, and controls if
    there are no low-resolution scans either.
    """
    headers = _read_headers(index, label, settings)
    factor = find_simulated_factor(settings)
    notices = [*headers.notices]
    single_notices: list[Notice] = []
    pairs: list[Pair] = []
    if factor is not None:
        scan = _choose_single_scan(headers.value, factor)
        pairs, notices = [*scan.value], [*notices, *scan.notices]
    else:
        for suffix, headers_of_contrast in headers.value.items():
            pair = _choose_pair(label, suffix, headers_of_contrast)
            pairs += pair.value
            (notices if pair.value else single_notices).extend(pair.notices)
    lowres: tuple[tuple[LowresScan, ...], ...] = ()
    controls: tuple[tuple[Pair, ...], ...] = ()
    if not pairs and model_input is not None:
        scans = _choose_lowres_scans(headers.value, label, model_input)
        lowres, notices = scans.value, [*notices, *scans.notices]
    if not pairs and not lowres and settings.anat.control:
        controls = _choose_controls(headers.value)
    if not lowres and not controls:
        notices += single_notices
    subject = Subject(
        label=label,
        t1w=(),
        runs=(),
        structural=tuple(pairs),
        controls=controls,
        lowres=lowres,
    )
    return Choice(value=subject, notices=tuple(notices))


def find_simulated_factor(settings: Settings) -> Factor | None:
    """Return the factor of simulated low-resolution scans; None if scans are measured."""
    known = [get_method(name) for name in settings.superres.chosen if name in method_names()]
    return next((method.simulated_factor for method in known), None)


def _read_headers(index: Index, label: str, settings: Settings) -> Choice[dict[str, list[Header]]]:
    """Return the headers of the usable images in the selected sessions, by contrast and name.

    With simulated low-resolution scans, only the first contrast with images is read.
    """
    sessions = settings.selection.session_label
    headers: dict[str, list[Header]] = {}
    notices: list[Notice] = []
    for suffix, kind in _CONTRASTS.items():
        images = find_companions(index, kind, label)
        usable = read_volume_headers(
            path
            for path in images.value
            if is_magnitude(path) and (not sessions or parse_session(path) in sessions)
        )
        notices += (*images.notices, *usable.notices)
        headers[suffix] = sorted(usable.value, key=lambda header: header.path.name)
        if usable.value and find_simulated_factor(settings) is not None:
            break
    return Choice(value=headers, notices=tuple(notices))


def _choose_single_scan(headers: _HeadersByContrast, factor: Factor) -> Choice[list[Pair]]:
    """Return the high-resolution scan of the first contrast, in a list that may be empty.

    Low-resolution scans are simulated with the factor.
    """
    for suffix, headers_of_contrast in headers.items():
        if headers_of_contrast:
            high = min(headers_of_contrast, key=_voxel_volume)
            text = (
                f"this scan is super-resolved from a simulated low-resolution scan ({suffix} is"
                " the first contrast). To use another scan, select it with --bids-filter-file."
            )
            pair = Pair(highres=high.path, lowres=None, factor=factor)
            return Choice(value=[pair], notices=(note(high.path, text),))
    return Choice(value=[])


def _choose_pair(label: str, suffix: str, headers: Sequence[Header]) -> Choice[list[Pair]]:
    """Return the pair of highest- and lowest-resolution images of a contrast, as a list.

    The list is empty if there is no second resolution, with a note about the participant.
    """
    high = min(headers, key=_voxel_volume, default=None)
    low = max(headers, key=_voxel_volume, default=None)
    if high is None or low is None:
        return Choice(value=[])
    low_volume, high_volume = _voxel_volume(low), _voxel_volume(high)
    if low_volume < _MIN_VOLUME_RATIO * high_volume:
        text = (
            f"{suffix} is not super-resolved because scans were found at one resolution only."
            if low.path == high.path
            else f"{suffix} is not super-resolved because the voxel volumes are too similar"
            f" ({voxel_size_text(low)} and {voxel_size_text(high)}, ratio"
            f" {low_volume / high_volume:.3g}). The ratio must be at least"
            f" {_MIN_VOLUME_RATIO:g}."
        )
        return Choice(value=[], notices=(note(f"sub-{label}", text),))
    notices: tuple[Notice, ...] = ()
    if any(header.path not in (high.path, low.path) for header in headers):
        text = (
            f"{len(headers)} {suffix} images were found. Only this image (the highest resolution)"
            f" and {low.path.name} (the lowest resolution) are used. To use other images, select"
            " them with --bids-filter-file."
        )
        notices = (note(high.path, text),)
    low_zooms = slice_axis.reorder_like(low, high.affine).zooms
    x, y, z = (low_mm / high_mm for low_mm, high_mm in zip(low_zooms, high.zooms, strict=True))
    pair = Pair(highres=high.path, lowres=low.path, factor=(x, y, z))
    return Choice(value=[pair], notices=notices)


def _choose_lowres_scans(
    headers: _HeadersByContrast, label: str, model_input: ModelInput
) -> Choice[tuple[tuple[LowresScan, ...], ...]]:
    """Return a participant's low-resolution scans for a given model, by session.

    If several scans of a contrast have a lower resolution than the model's grid, the scan with the
    smallest voxels is used. Sessions that lack a contrast of the model are skipped.
    """
    min_volume = _MIN_VOLUME_RATIO * prod(model_input.mm)
    sessions: dict[str, dict[str, list[Header]]] = {}
    for suffix in model_input.contrasts:
        for header in headers.get(suffix, ()):
            if _voxel_volume(header) >= min_volume:
                session_headers = sessions.setdefault(parse_session(header.path), {})
                session_headers.setdefault(suffix, []).append(header)
    complete_sessions, notices = [], []
    for session, candidates in sorted(sessions.items()):
        if missing := [suffix for suffix in model_input.contrasts if suffix not in candidates]:
            text = (
                f"the --pretrained model requires low-resolution {'+'.join(model_input.contrasts)}"
                f" scans, but no {' and no '.join(missing)} scan was found; these scans are"
                " skipped."
            )
            notices.append(note(f"sub-{label}_ses-{session}" if session else f"sub-{label}", text))
            continue
        scans = []
        for suffix in model_input.contrasts:
            smallest = min(candidates[suffix], key=_voxel_volume)
            scans.append(LowresScan(path=smallest.path))
            if (n_scans := len(candidates[suffix])) > 1:
                text = (
                    f"{n_scans} low-resolution {suffix} images were found; this image is used"
                    " because it has the smallest voxels."
                )
                notices.append(note(smallest.path, text))
        complete_sessions.append(tuple(scans))
    return Choice(value=tuple(complete_sessions), notices=tuple(notices))


def _choose_controls(headers: _HeadersByContrast) -> tuple[tuple[Pair, ...], ...]:
    """Return a participant's highest-resolution scan of each contrast, by session."""
    sessions: dict[str, list[Pair]] = {}
    for headers_of_contrast in headers.values():
        session_headers: dict[str, list[Header]] = {}
        for header in headers_of_contrast:
            session_headers.setdefault(parse_session(header.path), []).append(header)
        for session, candidates in session_headers.items():
            smallest = min(candidates, key=_voxel_volume)
            scan = Pair(highres=smallest.path, lowres=None, factor=(1.0, 1.0, 1.0))
            sessions.setdefault(session, []).append(scan)
    return tuple(tuple(scans) for _, scans in sorted(sessions.items()))


def parse_session(path: Path) -> str:
    """Return the session label in a file name; "" if there is none."""
    return parse_entities(path).get("session", "")


def _voxel_volume(header: Header) -> float:
    """Return the voxel volume (mm³)."""
    return prod(header.zooms)


def _refuse_missing_scans(
    label: str, model_input: ModelInput | None, settings: Settings
) -> Notice:
    """Return the problem of a participant without suitable scans."""
    fixes = [
        "Add the scans (distinguished by their acq- labels), check that --bids-filter-file does"
        " not exclude them, or choose other participants. To measure volumes of high-resolution"
        " scans"
        " without super-resolution, add --set anat.control=true."
    ]
    if model_input is None:
        fixes.append(
            "To super-resolve participants with low-resolution scans only, specify a model that"
            " was trained on other participants with --pretrained."
        )
    reason = _describe_missing_scans(model_input, settings)
    return problem(f"sub-{label}", reason, " ".join(fixes))


def _describe_missing_scans(model_input: ModelInput | None, settings: Settings) -> str:
    """Return why a participant has no suitable scans, without a period.

    `model_input` is the input of the ``--pretrained`` models, or None if there are none.
    """
    if find_simulated_factor(settings) is not None:
        return "no T1w, T2w or FLAIR scan was found"
    if model_input is None:
        return "training requires T1w, T2w or FLAIR scans at two resolutions, but none were found"
    size = size_text(model_input.mm, " x ")
    return (
        "no T1w, T2w or FLAIR scans at two resolutions were found, and no session has"
        f" low-resolution {'+'.join(model_input.contrasts)} scans for the --pretrained model of"
        f" {size} (their voxel volume must be at least {_MIN_VOLUME_RATIO:g} times as large)"
    )


def _split_participants(subjects: Sequence[Subject], settings: Settings) -> Choice[list[Subject]]:
    """Assign the participants with pairs to training, validation and test sets.

    Networks need the same contrasts in all participants, so that participants with other contrasts
    than most are skipped. Participants without pairs are returned unchanged.
    """
    anat = settings.anat
    counts = Counter(subject.contrasts for subject in subjects if subject.structural)
    contrasts = max(counts, key=lambda key: (counts[key], len(key)), default=())
    members = [subject for subject in subjects if subject.contrasts == contrasts]
    try:
        sets = assign_sets(members, settings)
    except InvalidInput as error:
        reason = f"{error.reason} with the same contrasts at two resolutions"
        fix = "Add participants, or omit the option to train on the scans of each participant."
        refusal = option_problem(anat.split_option, reason, fix)
        return Choice(value=[], notices=(refusal,))
    set_names = sets.value
    texts = [
        f"{name}: {' '.join(f'sub-{label}' for label in set_names if set_names[label] == name)}"
        for name in SETS
    ]
    files = " and ".join(map(str, list_files(settings)))
    text = f"participants are assigned to sets, which are kept in {files}. {'; '.join(texts)}."
    skipped = [
        _skip_other_contrasts(subject, contrasts, settings)
        for subject in subjects
        if subject.structural and subject.contrasts != contrasts
    ]
    assigned = [
        replace(subject, split_set=set_names.get(subject.label, ""))
        for subject in subjects
        if subject.contrasts == contrasts or not subject.structural
    ]
    return Choice(value=assigned, notices=(*sets.notices, note(anat.split_option, text), *skipped))


def _skip_other_contrasts(
    subject: Subject, contrasts: Sequence[str], settings: Settings
) -> Notice:
    """Report a participant whose contrasts differ from those of the shared networks."""
    reason = (
        f"the networks are trained on {'+'.join(contrasts)}, but this participant has"
        f" {'+'.join(subject.contrasts)} at two resolutions"
    )
    what = f"sub-{subject.label}"
    notice = note(what, f"{reason}. The participant is skipped.")
    if subject.label in settings.selection.participant_label:
        fix = "Choose other participants, or omit --set anat.split."
        notice = problem(what, reason, fix)
    return replace(notice, subject=subject.label)
