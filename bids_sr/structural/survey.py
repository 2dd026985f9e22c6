"""Structural scans of all participants (``--sr-target anat``), by contrast and resolution."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.io.grids import Factor, size_text
from bids_sr.io.image_header import Header
from bids_sr.io.notices import InvalidInput
from bids_sr.io.word_lists import enumerate_words
from bids_sr.sr.method import get_method, get_recipe, list_methods, method_names
from bids_sr.structural.kept_split import SETS, assign_sets, list_files
from bids_sr.survey.bids import bridges, dataset_checks, slice_axis
from bids_sr.survey.bids.collect import find_companions, open_dataset
from bids_sr.survey.bids.entities import is_magnitude, parse_entities
from bids_sr.survey.bids.findings import (
    InputError,
    about,
    add_notices,
    add_problem,
    note,
    refuse_option,
)
from bids_sr.survey.bids.inputs import LowresScan, ModelInput, Pair, Subject, Survey
from bids_sr.survey.bids.layout import KINDS, Index
from bids_sr.survey.bids.pairs import voxel_size_text
from bids_sr.survey.bids.participant_selection import (
    refuse_missing_participants,
    select_participants,
)
from bids_sr.survey.bids.pretrained_models import (
    check_given_models,
    find_pretrained,
    input_of_models,
)

# BIDS suffix → kind of image in the index, in the order of the channels
_CONTRASTS = {KINDS[kind][1]: kind for kind in ("t1w", "t2w", "flair")}
# smallest ratio of low- to high-resolution voxel volume that counts as two resolutions
_MIN_VOLUME_RATIO = 1.5
_ReadHeaders = Callable[[str], list[Header]]  # headers of a participant, by the suffix of scans


def survey_structural(settings: Settings) -> Survey:
    """Survey the structural scans of all participants, and return problems without raising.

    Only headers are read.
    """
    with Survey() as survey:
        _check_methods(settings)
        _check_options(settings)
        try:
            _survey_participants(settings, survey)
        except InputError as error:
            add_notices(error.problems)
    return survey


def _check_methods(settings: Settings) -> None:
    """Reject methods that do not fuse contrasts, and unsuitable models."""
    fusion_methods = [method.name for method in list_methods() if method.fuses_contrasts]
    crop_methods = [method.name for method in list_methods() if method.simulated_factor]
    if not settings.superres.chosen:
        refuse_option(
            "--sr-method all",
            "--sr-target anat requires a method in addition to the interpolations",
            f"Add a method, such as --sr-method {fusion_methods[0]} all.",
        )
    for name in settings.superres.chosen:
        if name in (crop_methods if find_simulated_factor(settings) else fusion_methods):
            continue
        if name in (*fusion_methods, *crop_methods):
            refuse_option(
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
        refuse_option(
            f"--sr-method {name}",
            reason,
            f"Choose among {', '.join([*fusion_methods, *crop_methods])}.",
        )
    check_given_models(settings.superres)
    _note_untested_training(settings)


def _note_untested_training(settings: Settings) -> None:
    """Note that results are not compared if all slices of a participant are used for training."""
    recipe = settings.superres.recipe
    for name in settings.superres.chosen:
        method = get_method(name) if name in method_names() else None
        if method is None or not method.simulated_factor or settings.anat.split:
            continue
        if get_recipe(method, recipe).hold_out == 0:
            note(
                f"--sr-method {name} --recipe {recipe}",
                "all slices are used for training, so the result is not compared with the"
                " high-resolution scan. For a comparison, train on other participants with --set"
                " anat.split.",
            )


def _check_options(settings: Settings) -> None:
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
            add_problem(flag, "this option cannot be combined with --sr-target anat", fix)


def _survey_participants(settings: Settings, survey: Survey) -> None:
    """Add the participants with structural scans to process, and report problems."""
    dataset_checks.check_dataset(settings.paths.bids_dir.absolute())
    selection, superres = settings.selection, settings.superres
    # networks are trained on some of the participants
    is_split = bool(settings.anat.split) and not all(
        find_pretrained(superres, method) for method in superres.chosen
    )
    everybody = settings.with_values(selection={"participant_label": ()})
    labels, index = open_dataset(everybody if is_split else settings)
    selected = labels
    if is_split:
        add_notices(refuse_missing_participants(settings.paths.bids_dir, labels, selection))
        selected = select_participants(labels, selection)
    subjects = []
    is_simulated = find_simulated_factor(settings) is not None
    model_input = None if is_simulated else input_of_models(superres)
    missing_reason = _describe_missing_scans(model_input, is_simulated=is_simulated)
    for label in labels:
        with about(label):
            subject = _survey_participant(index, label, model_input, settings)
        if subject.has_scans:
            subjects.append(subject)
        elif label in selection.participant_label or len(labels) == 1:
            _report_missing_scans(label, missing_reason, model_input)
        elif label in selected:
            with about(label):
                note(f"sub-{label}", f"{missing_reason}. The participant is skipped.")
    if labels and not subjects and not survey.problems:
        _report_missing_scans("*", missing_reason, model_input)
    if is_split and any(subject.structural for subject in subjects):
        subjects = _split_participants(subjects, settings)
        survey.split_subjects = tuple(subject for subject in subjects if subject.split_set)
    survey.subjects = tuple(subject for subject in subjects if subject.label in selected)


def _survey_participant(
    index: Index,
    label: str,
    model_input: ModelInput | None,
    settings: Settings,
) -> Subject:
    """Return a participant with pairs of scans, low-resolution scans or controls, or none of them.

    Low-resolution scans for a given model are only searched if there are no pairs, and controls if
    there are no low-resolution scans either.
    """
    single_notes: list[str] = []
    read_headers = partial(_read_headers, index, label, settings)
    factor = find_simulated_factor(settings)
    if factor is not None:
        pairs = _find_single_scan(read_headers, factor)
    else:
        pairs = [
            pair
            for suffix in _CONTRASTS
            for pair in _find_pairs(suffix, read_headers(suffix), single_notes)
        ]
    lowres: tuple[tuple[LowresScan, ...], ...] = ()
    controls: tuple[tuple[Pair, ...], ...] = ()
    if not pairs and model_input is not None:
        lowres = _find_lowres_scans(read_headers, label, model_input)
    if not pairs and not lowres and settings.anat.control:
        controls = _find_controls(read_headers)
    if not lowres and not controls:
        for text in single_notes:
            note(f"sub-{label}", text)
    return Subject(
        label=label,
        t1w=(),
        runs=(),
        structural=tuple(pairs),
        controls=controls,
        lowres=lowres,
    )


def find_simulated_factor(settings: Settings) -> Factor | None:
    """Return the factor of simulated low-resolution scans; None if scans are measured."""
    known = [get_method(name) for name in settings.superres.chosen if name in method_names()]
    return next((method.simulated_factor for method in known), None)


def _find_single_scan(read_headers: _ReadHeaders, factor: Factor) -> list[Pair]:
    """Return the high-resolution scan of the first contrast, in a list that may be empty.

    Low-resolution scans are simulated with the factor.
    """
    for suffix in _CONTRASTS:
        if headers := read_headers(suffix):
            high = min(headers, key=_voxel_volume)
            note(
                high.path,
                f"this scan is super-resolved from a simulated low-resolution scan ({suffix} is"
                " the first contrast). To use another scan, select it with --bids-filter-file.",
            )
            return [Pair(highres=high.path, lowres=None, factor=factor)]
    return []


def _find_pairs(suffix: str, headers: Sequence[Header], single_notes: list[str]) -> list[Pair]:
    """Return the pair of highest- and lowest-resolution images of a contrast, as a list.

    The result is empty if there is no second resolution. Notes about contrasts with one resolution
    are appended to `single_notes`; they are shown unless such scans are used.
    """
    high = min(headers, key=_voxel_volume, default=None)
    low = max(headers, key=_voxel_volume, default=None)
    if high is None or low is None:
        return []
    low_volume, high_volume = _voxel_volume(low), _voxel_volume(high)
    if low_volume < _MIN_VOLUME_RATIO * high_volume:
        resolution_note = (
            f"{suffix} is not super-resolved because scans were found at one resolution only."
            if low.path == high.path
            else f"{suffix} is not super-resolved because the voxel volumes are too similar"
            f" ({voxel_size_text(low)} and {voxel_size_text(high)}, ratio"
            f" {low_volume / high_volume:.3g}). The ratio must be at least"
            f" {_MIN_VOLUME_RATIO:g}."
        )
        single_notes.append(resolution_note)
        return []
    if any(header.path not in (high.path, low.path) for header in headers):
        note(
            high.path,
            f"{len(headers)} {suffix} images were found. Only this image (the highest resolution)"
            f" and {low.path.name} (the lowest resolution) are used. To use other images, select"
            " them with --bids-filter-file.",
        )
    low_zooms = slice_axis.reorder_like(low, high.affine).zooms
    x, y, z = (low_mm / high_mm for low_mm, high_mm in zip(low_zooms, high.zooms, strict=True))
    return [Pair(highres=high.path, lowres=low.path, factor=(x, y, z))]


def _find_lowres_scans(
    read_headers: _ReadHeaders, label: str, model_input: ModelInput
) -> tuple[tuple[LowresScan, ...], ...]:
    """Return a participant's low-resolution scans for a given model, by session.

    If several scans of a contrast have a lower resolution than the model's grid, the scan with the
    smallest voxels is used. Sessions that lack a contrast of the model are skipped.
    """
    min_volume = _MIN_VOLUME_RATIO * prod(model_input.mm)
    sessions: dict[str, dict[str, list[Header]]] = {}
    for suffix in (suffix for suffix in _CONTRASTS if suffix in model_input.contrasts):
        for header in read_headers(suffix):
            if _voxel_volume(header) >= min_volume:
                session_headers = sessions.setdefault(parse_session(header.path), {})
                session_headers.setdefault(suffix, []).append(header)
    complete_sessions = []
    for session, candidates in sorted(sessions.items()):
        if missing := [suffix for suffix in model_input.contrasts if suffix not in candidates]:
            note(
                f"sub-{label}_ses-{session}" if session else f"sub-{label}",
                f"the --pretrained model requires low-resolution {'+'.join(model_input.contrasts)}"
                f" scans, but no {' and no '.join(missing)} scan was found; these scans are"
                " skipped.",
            )
            continue
        complete_sessions.append(
            tuple(
                _select_smallest_voxels(suffix, candidates[suffix])
                for suffix in model_input.contrasts
            )
        )
    return tuple(complete_sessions)


def _select_smallest_voxels(suffix: str, candidates: Sequence[Header]) -> LowresScan:
    """Return the scan with the smallest voxels; note that others are not used."""
    smallest = min(candidates, key=_voxel_volume)
    if len(candidates) > 1:
        note(
            smallest.path,
            f"{len(candidates)} low-resolution {suffix} images were found; this image is used"
            " because it has the smallest voxels.",
        )
    return LowresScan(path=smallest.path)


def _find_controls(read_headers: _ReadHeaders) -> tuple[tuple[Pair, ...], ...]:
    """Return a participant's highest-resolution scan of each contrast, by session."""
    sessions: dict[str, list[Pair]] = {}
    for suffix in _CONTRASTS:
        session_headers: dict[str, list[Header]] = {}
        for header in read_headers(suffix):
            session_headers.setdefault(parse_session(header.path), []).append(header)
        for session, candidates in session_headers.items():
            smallest = min(candidates, key=_voxel_volume)
            scan = Pair(highres=smallest.path, lowres=None, factor=(1.0, 1.0, 1.0))
            sessions.setdefault(session, []).append(scan)
    return tuple(tuple(scans) for _, scans in sorted(sessions.items()))


def _read_headers(index: Index, label: str, settings: Settings, suffix: str) -> list[Header]:
    """Return the headers of the usable images of a contrast in the selected sessions, by name."""
    sessions = settings.selection.session_label
    paths = find_companions(index, _CONTRASTS[suffix], label)
    headers = (
        bridges.read_volume_header(path)
        for path in paths
        if is_magnitude(path) and (not sessions or parse_session(path) in sessions)
    )
    usable_headers = [header for header in headers if header is not None]
    return sorted(usable_headers, key=lambda header: header.path.name)


def parse_session(path: Path) -> str:
    """Return the session label in a file name; "" if there is none."""
    return parse_entities(path).get("session", "")


def _voxel_volume(header: Header) -> float:
    """Return the voxel volume (mm³)."""
    return prod(header.zooms)


def _report_missing_scans(label: str, reason: str, model_input: ModelInput | None) -> None:
    """Report a participant without suitable scans as a problem."""
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
    add_problem(f"sub-{label}", reason, " ".join(fixes))


def _describe_missing_scans(model_input: ModelInput | None, *, is_simulated: bool) -> str:
    """Return why a participant has no suitable scans, without a period.

    `model_input` is the input of the ``--pretrained`` models, or None if there are none.
    """
    if is_simulated:
        return "no T1w, T2w or FLAIR scan was found"
    if model_input is None:
        return "training requires T1w, T2w or FLAIR scans at two resolutions, but none were found"
    size = size_text(model_input.mm, " x ")
    return (
        "no T1w, T2w or FLAIR scans at two resolutions were found, and no session has"
        f" low-resolution {'+'.join(model_input.contrasts)} scans for the --pretrained model of"
        f" {size} (their voxel volume must be at least {_MIN_VOLUME_RATIO:g} times as large)"
    )


def _split_participants(subjects: Sequence[Subject], settings: Settings) -> list[Subject]:
    """Assign the participants with pairs to training, validation and test sets.

    Networks need the same contrasts in all participants, so that participants with other contrasts
    than most are skipped. Participants without pairs are returned unchanged.
    """
    anat = settings.anat
    counts = Counter(subject.contrasts for subject in subjects if subject.structural)
    contrasts = max(counts, key=lambda key: (counts[key], len(key)), default=())
    members = [subject for subject in subjects if subject.contrasts == contrasts]
    try:
        set_names = assign_sets(members, settings)
    except InvalidInput as error:
        reason = f"{error.reason} with the same contrasts at two resolutions"
        fix = "Add participants, or omit the option to train on the scans of each participant."
        refuse_option(anat.split_option, reason, fix)
        return []
    texts = [
        f"{name}: {' '.join(f'sub-{label}' for label in set_names if set_names[label] == name)}"
        for name in SETS
    ]
    files = " and ".join(map(str, list_files(settings)))
    note(
        anat.split_option,
        f"participants are assigned to sets, which are kept in {files}. {'; '.join(texts)}.",
    )
    for subject in subjects:
        if subject.structural and subject.contrasts != contrasts:
            _skip_other_contrasts(subject, contrasts, settings)
    return [
        replace(subject, split_set=set_names.get(subject.label, ""))
        for subject in subjects
        if subject.contrasts == contrasts or not subject.structural
    ]


def _skip_other_contrasts(subject: Subject, contrasts: Sequence[str], settings: Settings) -> None:
    """Report a participant whose contrasts differ from those of the shared networks."""
    reason = (
        f"the networks are trained on {'+'.join(contrasts)}, but this participant has"
        f" {'+'.join(subject.contrasts)} at two resolutions"
    )
    with about(subject.label):
        if subject.label in settings.selection.participant_label:
            fix = "Choose other participants, or omit --set anat.split."
            add_problem(f"sub-{subject.label}", reason, fix)
        else:
            note(f"sub-{subject.label}", f"{reason}. The participant is skipped.")
