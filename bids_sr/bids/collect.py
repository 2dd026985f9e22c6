"""Survey of a data set: participants, their runs with all companion files, and problems.

The companions of a run are its pair, T1w image, events and metadata.

Structural scans at two resolutions (``--sr-target anat``): a participant's shared contrasts.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from bids_sr.bids import companions, pairs
from bids_sr.bids import headers as hd
from bids_sr.bids.companions import ratio_of, read_run
from bids_sr.bids.findings import Findings, InputError, open_derivatives, refuse_output_as_data
from bids_sr.bids.fmriprep import check_surfaces, precomputed_anat, precomputed_run
from bids_sr.bids.inputs import (
    DEFAULT_FACTORS,
    BoldRun,
    LowresScan,
    ModelInput,
    Pair,
    Subject,
    Survey,
    Truth,
    check_given_models,
    check_guide,
    check_options,
    entities_of,
    factor_without_pair,
    input_of_models,
    is_magnitude,
    label_of,
    refuse_all,
    stem_of,
    stem_of_echoes,
)
from bids_sr.bids.layout import KINDS, Index, open_index
from bids_sr.bids.other_runs import (
    calibrations,
    check_named,
    check_root,
    find_truth,
    truth_in_dataset,
)
from bids_sr.bids.pairs import check_retrospective, sizes
from bids_sr.bids.run_names import check_names
from bids_sr.config import Selection, Settings
from bids_sr.config.spaces import seed_names, seeds_of
from bids_sr.io.grids import LEAST_SAMPLES, Header, Triple, corners_apart, size_text
from bids_sr.io.tables import column
from bids_sr.region_names import is_file
from bids_sr.sr.method import all_methods, method_names


def survey(settings: Settings) -> Survey:
    """Survey the data set; problems are returned, not raised.

    Only headers, tables and sidecars are read.
    """
    seen = Survey()
    try:
        _walk(settings, seen)
    except InputError as error:
        seen.add(error.problems)
    return seen


def _sidecar(index: Index, path: Path, seen: Findings) -> dict[str, object] | None:
    """Metadata of a file; a failure is a problem."""
    try:
        return index.sidecar(path)
    except InputError as error:
        seen.add(error.problems)
        return None


def open_dataset(settings: Settings, findings: Findings) -> tuple[list[str], Index]:
    """Return labels of the participants to work on, and the index of what there is of them.

    `InputError`: the data set cannot be opened.
    """
    bids_dir = settings.paths.bids_dir.absolute()
    selection = settings.selection
    existing = companions.participants(bids_dir, findings)
    labels = companions.choose(bids_dir, existing, selection, findings)
    filters = companions.read_filters(selection.bids_filter_file, findings)
    # a dry run writes nothing
    database = None if settings.run.dry_run else selection.bids_database_dir
    return labels, open_index(bids_dir, labels, existing, database, filters)


def _walk(settings: Settings, seen: Survey) -> None:
    bids_dir = settings.paths.bids_dir.absolute()
    companions.check_dataset(bids_dir)
    check_options(settings, seen)
    if refuse_output_as_data(bids_dir, seen):
        return
    if settings.evaluation.truth_dir is not None:
        check_root(settings.evaluation.truth_dir)
    seen.sources = open_derivatives(settings.preprocessing.derivatives, bids_dir, seen)
    labels, index = open_dataset(settings, seen)
    check_named(settings, labels, seen)
    every: dict[str, list[Path]] = {}
    for label in labels:
        every[label] = []
        for path in index.find("bold", label):
            name = stem_of_echoes(path)
            with seen.about(label, name if name.startswith(f"sub-{label}_") else ""):
                every[label] += companions.well_named([path], seen)
    subjects = []
    for label, bolds in _select(every, settings.selection, seen).items():
        with seen.about(label):
            bolds = check_names(bolds, seen)
            subject = (
                _subject(index, label, bolds, every[label], settings, seen) if bolds else None
            )
        if subject is not None and subject.runs:
            subjects.append(subject)
    tasks = {entities_of(bold).get("task", "") for bold, _ in seen.chosen.values()}
    seen.type_order = {task: _type_order(index, bids_dir, task, seen) for task in sorted(tasks)}
    seen.subjects = tuple(subjects)


def _select(
    every: Mapping[str, Sequence[Path]], selection: Selection, seen: Survey
) -> dict[str, list[Path]]:
    """Select runs by session, task and run label; a label found nowhere is a problem."""
    asked = {
        "session": selection.session_label,
        "task": selection.task_id,
        "run": tuple(map(str, selection.run_id)),
    }
    options = {"session": "--session-label", "task": "--task-id", "run": "--run-id"}
    for entity, labels in asked.items():
        existing = sorted(
            {label_of(entities_of(path), entity) for paths in every.values() for path in paths}
            - {""}
        )
        for label in (each for each in labels if each not in existing):
            reason = (
                f"no BOLD runs with {entity} {label!r} were found for the selected participants"
            )
            fix = f"Available: {companions.choice(label, existing)}"
            seen.refuse_option(f"{options[entity]} {label}", reason, fix)
    chosen = {
        label: [
            p
            for p in paths
            if all(not want or label_of(entities_of(p), e) in want for e, want in asked.items())
        ]
        for label, paths in every.items()
    }
    nothing_refused = not seen.problems
    for label, paths in chosen.items():
        if paths:
            continue
        if label in selection.participant_label and nothing_refused:
            requested = any(asked.values())
            seen.refuse(
                f"sub-{label}",
                "no BOLD runs were found for the requested sessions, tasks and runs"
                if requested
                else "no BOLD runs were found for this participant",
                "Exclude the participant, or add the missing BOLD run"
                " (`func/sub-…_task-…_bold.nii.gz`) to the dataset.",
            )
        elif not selection.participant_label:
            with seen.about(label):
                seen.tell(
                    f"sub-{label}",
                    "none of the requested BOLD runs were found; the participant is skipped.",
                )
    if every and not any(chosen.values()) and not seen.problems:
        filtered = selection.bids_filter_file is not None
        seen.refuse(
            "sub-*/func",
            "no BOLD runs in the dataset match the filters in --bids-filter-file"
            if filtered
            else "no BOLD runs were found in the dataset",
            "Check the filter file, or add BOLD runs (`func/sub-…_task-…_bold.nii.gz`) to the"
            " dataset."
            if filtered
            else "Add BOLD runs (`func/sub-…_task-…_bold.nii.gz`) to the dataset.",
        )
    return chosen


def _subject(
    index: Index,
    label: str,
    bolds: Sequence[Path],
    every: Sequence[Path],
    settings: Settings,
    seen: Survey,
) -> Subject:
    images = companions.well_named(index.find("t1w", label), seen)
    anat = precomputed_anat(seen.sources, label, images, settings.preprocessing.templates, seen)
    t1w = _t1w(images if anat is None else [anat.preproc], label, settings, seen)
    if t1w:
        check_surfaces(label, anat, settings.preprocessing.spaces, seen)
    stars = companions.magnitudes(companions.well_named(index.find("t2starw", label), seen), seen)
    star_headers = [h for h in (volume_header(path, seen) for path in stars) if h is not None]
    runs, missing = [], []
    superres, timed = settings.superres, "slicetiming" not in settings.preprocessing.ignore
    named = factor_without_pair(superres)

    def known(run: BoldRun) -> Triple | None:
        pair, _ = _choose(run.header, star_headers, settings, Findings())
        return named if pair is None else pair.factor

    calibrated, bolds = calibrations(index, bolds, every, known, settings, seen)
    for bold, *others in companions.bold_runs(bolds, settings.preprocessing.echo, seen):
        name = stem_of_echoes(bold) if others else stem_of(bold)
        with seen.about(label, name):
            events = None if "events" in settings.preprocessing.ignore else index.events(bold)
            sidecar, header = _sidecar(index, bold, seen), hd.read_header(bold, seen)
            run = None if sidecar is None else read_run(bold, sidecar, seen)
            echoes = _echoes(index, [bold, *others], seen) if others else ()
            if others and not echoes:
                run = None
        seen.chosen[name] = bold, events
        if header is None:
            continue
        findings = Findings()
        header, _ = hd.with_slices_last(header, sidecar or {})
        pair, holdout = _choose(header, star_headers, settings, findings)
        if pair is None and not findings.problems and not stars:
            missing.append(bold)
        _take(findings, settings, seen)
        if pair is None and _conflicts(header, star_headers, settings):
            seen.add(findings.problems)
        if run is None:
            continue
        calibration = calibrated.get(bold)
        ratio = None if calibration is None else ratio_of(calibration, run)
        ratio = named or ratio or DEFAULT_FACTORS
        with seen.about(label, name):
            times = hd.slice_times(run.header, run.sidecar, run.tr, seen) if timed else None
            run = replace(run, events=events, echoes=echoes, slice_timing=times)
            run = replace(
                run,
                pair=pair,
                holdout=holdout,
                calibration=calibration,
                factor=ratio if pair is None else pair.factor,
                precomputed=precomputed_run(seen.sources, run, anat, seen),
            )
            if run.precomputed is None and run.shape[2] < LEAST_SAMPLES:
                count = "one slice" if run.shape[2] == 1 else f"{run.shape[2]} slices"
                seen.tell(bold, f"the run has {count}, so head motion is estimated in-plane only.")
            runs.append(replace(run, truth=_truth(run, settings, seen, with_anat=bool(t1w))))
    if missing:
        pairs.refuse_without_pair(label, missing, settings, seen)
    if any(run.precomputed is None or run.precomputed.field is None for run in runs):
        companions.tell_field_maps(settings.paths.bids_dir.absolute(), label, seen)
    subject = Subject(label=label, t1w=tuple(t1w), runs=tuple(runs), precomputed=anat)
    if settings.evaluation.retrospective is not None:
        check_retrospective(subject, settings, seen)
    else:
        check_guide(settings.superres, subject, seen)
    return subject


def _choose(
    bold: Header, stars: Sequence[Header], settings: Settings, findings: Findings
) -> tuple[Pair | None, Pair | None]:
    """The pair that a run is trained on, and the one that is held out where that was asked for."""
    superres = settings.superres
    session = entities_of(bold.path).get("session")
    # the factor is by how much the BOLD will be downsampled
    if settings.evaluation.retrospective is not None:
        superres = replace(superres, factor=())
    seen = Findings()
    if settings.evaluation.pair_holdout:
        pair, holdout = pairs.choose_two(bold, session, stars, superres, seen)
    else:
        pair, holdout = pairs.choose(bold, session, stars, superres, seen), None
    if settings.evaluation.retrospective is None and pairs.is_too_fine(pair, superres, findings):
        return None, None
    findings.add_all(seen)
    return pair, holdout


def _conflicts(bold: Header, stars: Sequence[Header], settings: Settings) -> bool:
    """Return whether a pair would serve a run if --sr-factor were not given.

    The factor has to differ in plane: across slices, a pair with slices as thick as those of the
    run is what most participants have.
    """
    superres = settings.superres
    asked = superres.factor_by_axis
    if asked is None or superres.force or settings.evaluation.retrospective is not None:
        return False
    free = replace(settings, superres=replace(superres, factor=()))
    pair, _ = _choose(bold, stars, free, Findings())
    return pair is not None and pair.factor[:2] != asked[:2]


def _truth(run: BoldRun, settings: Settings, seen: Survey, *, with_anat: bool) -> Truth | None:
    """The truth of a run: that of the folder given, else one that lies in the data set."""
    evaluation = settings.evaluation
    timed = "slicetiming" not in settings.preprocessing.ignore
    if evaluation.truth_dir is not None:
        return find_truth(evaluation.truth_dir, run, seen, timed=timed)
    if evaluation.truth == "none" or evaluation.retrospective is not None:
        return None
    root = settings.paths.bids_dir.absolute()
    how = settings.activation
    seeds = seeds_of(how.seeds, with_anat=with_anat, atlas=how.atlas)
    strict = bool(settings.superres.factor) and not settings.superres.force
    return truth_in_dataset(root, run, seen, timed=timed, seeds=seed_names(seeds), strict=strict)


def _take(findings: Findings, settings: Settings, seen: Survey) -> None:
    """Problems of a pair count only when a pair is needed; otherwise they are told."""
    seen.add(findings.notices)
    if pairs.needs_pair(settings.superres) or settings.evaluation.pair_holdout:
        seen.add(findings.problems)
        return
    known = [problem.of_all() for problem in seen.problems]
    for problem in findings.problems:
        if problem not in known:
            seen.tell(
                problem.what,
                f"the T2*-weighted pair is not used: {problem.why}. {problem.remedy}",
            )


_SLAB = 0.6  # thinnest extent of a slab relative to that of an image of the whole head


def _slabs(images: Sequence[Path]) -> set[Path]:
    """Return the images that cover less of the head than others, such as ``acq-inplane``."""
    extents = {}
    for path in images:
        header = hd.read_header(path, Findings())
        if header is not None:
            sides = zip(header.shape[:3], header.zooms, strict=False)
            extents[path] = min(n * zoom for n, zoom in sides)
    return {path for path, extent in extents.items() if extent < _SLAB * max(extents.values())}


def _t1w(paths: Sequence[Path], label: str, settings: Settings, seen: Survey) -> list[Path]:
    images = companions.magnitudes(paths, seen)
    sessions, roi = settings.selection.session_label, settings.activation.roi
    slabs = _slabs(images) if len(images) > 1 else set()
    images.sort(
        key=lambda path: (
            bool(sessions) and entities_of(path).get("session", "") not in sessions,
            path in slabs,
        )
    )
    for path in images[:1]:
        volume_header(path, seen)
    if not images:
        texts = [
            "No T1w image matches the filters in --bids-filter-file."
            if settings.selection.bids_filter_file
            else "No T1w image was found."
        ]
        if roi not in ("auto", "brain"):
            texts.append(
                "The ROI file cannot be transformed to the BOLD series."
                if is_file(roi)
                else f"The region {roi} cannot be located."
            )
        if roi != "brain":
            texts.append("The whole brain is used as the region of interest.")
        texts.append(
            "Results are not normalized to template space, and the confounds csf, white_matter"
            " and their CompCor components are not computed."
        )
        seen.tell(f"sub-{label}", " ".join(texts))
    elif len(images) > 1:
        seen.tell(images[0], f"{len(images)} T1w images were found; this image is used.")
    return images


def volume_header(path: Path, findings: Findings) -> Header | None:
    """Header of a single 3D image, or None with a problem.

    Shape, affine and further facts, or None.
    """
    header = hd.read_header(path, findings)
    if header is None or (
        len(hd.squeeze_3d(header)) == 3 and not (header.complex or header.colored)
    ):
        return header
    if header.colored:
        findings.refuse(
            path,
            hd.COLORED,
            "Convert the DICOM images of the original scan, or exclude this file.",
        )
        return None
    what = "complex voxels" if header.complex else f"{len(header.shape)} dimensions {header.shape}"
    findings.refuse(
        path,
        f"the image has {what}, but a 3D magnitude image is expected",
        "Save the magnitude as a 3D image.",
    )
    return None


def _differences(
    header: Header,
    sidecar: Mapping[str, object],
    first: Header,
    first_sidecar: Mapping[str, object],
    name: str,
) -> Iterator[str]:
    """Yield how an echo differs from the first echo, whose file name is `name`."""
    if header.shape != first.shape:
        yield f"the image shape is {header.shape}, but {name} has the shape {first.shape}"
    else:
        apart = corners_apart(header.shape[:3], header.affine, first.shape[:3], first.affine)
        if apart > _ECHOES_APART_MM:
            yield f"the field of view is shifted by up to {apart:.3g} mm relative to {name}"
    for key in ("RepetitionTime", "SliceTiming", "SliceEncodingDirection"):
        value, reference = sidecar.get(key), first_sidecar.get(key)
        if value != reference and not (value is None or reference is None):
            yield f"{key} differs from {name}"
    tr, first_tr = hd.likely_tr(header.tr), hd.likely_tr(first.tr)
    if tr and first_tr and not math.isclose(tr, first_tr, rel_tol=0.01):
        yield (
            f"the repetition time in the image header is {tr:g} s, but {name} has a repetition"
            f" time of {first_tr:g} s"
        )


def _echoes(index: Index, paths: Sequence[Path], seen: Survey) -> tuple[tuple[Path, float], ...]:
    """Echoes of a run with their echo times (ms); what is unsound becomes a problem."""
    echoes = []
    for path in paths:
        header = hd.read_header(path, seen)
        sidecar = _sidecar(index, path, seen)
        if header is None or sidecar is None:
            return ()
        first = seen.headers.get(paths[0])
        if first is not None and path != paths[0]:
            reference = _sidecar(index, paths[0], seen) or {}
            for difference in _differences(header, sidecar, first, reference, paths[0].name):
                seen.refuse(
                    path,
                    f"the echoes cannot be combined because {difference}",
                    "Convert the DICOM images again, or select a single echo with --echo-idx N.",
                )
        te = sidecar.get("EchoTime")
        if isinstance(te, bool) or not isinstance(te, int | float) or not 0 < te < 1:
            reason = (
                "EchoTime must be a time in seconds to combine the echoes, but the sidecar"
                f" contains {te!r}"
            )
            seen.refuse(
                path,
                reason,
                "Specify EchoTime in the sidecar, or select a single echo with --echo-idx N.",
            )
        else:
            echoes.append((path, 1000.0 * te))
    times = [te for _, te in echoes]
    listed = ", ".join(f"{te:g}" for te in times)
    if len(echoes) == len(paths) and times != sorted(set(times)):
        reason = f"the echo times must increase with the echo number, but are {listed} ms"
        seen.refuse(paths[0], reason, "Correct EchoTime in the sidecars.")
    elif len(echoes) == len(paths):
        text = (
            f"the {len(paths)} echoes (TE {listed} ms) are combined. To select a single echo, use"
            " --echo-idx N."
        )
        seen.tell(stem_of_echoes(paths[0]), text)
    return tuple(echoes)


def _type_order(index: Index, bids_dir: Path, task: str, seen: Survey) -> tuple[str, ...]:
    """Order of trial types that every participant of the data set shares.

    That of Levels in the events sidecar; else of first appearance in the first events table of the
    data set, whichever participants were chosen, so that ``thumbMinusLittle`` has one sign for
    all.
    """
    for name, (bold, events) in seen.chosen.items():
        named = entities_of(bold)
        if named.get("task", "") == task and events is not None:
            with seen.about(named["subject"], name):
                described = (_sidecar(index, events, seen) or {}).get("trial_type")
            levels = described.get("Levels") if isinstance(described, dict) else None
            if isinstance(levels, dict):
                return tuple(str(level) for level in levels)
    table = companions.first_table(bids_dir, task)
    return tuple(dict.fromkeys(column(table, "trial_type"))) if table else ()


_CONTRASTS = {KINDS[kind][1]: kind for kind in ("t1w", "t2w", "flair")}
"""BIDS suffix → kind of image in the index, in the order of the channels."""
_ECHOES_APART_MM = 0.1  # headers of the echoes of one volume differ by rounding alone
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
    companions.check_dataset(settings.paths.bids_dir.absolute())
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
    x, y, z = (a / b for a, b in zip(hd.like(low, high.affine).zooms, high.zooms, strict=True))
    return [Pair(highres=high.path, lowres=low.path, factor=(x, y, z))]


def _images(
    index: Index, label: str, suffix: str, settings: Settings, seen: Findings
) -> list[Header]:
    """Return the headers of the sound images of one contrast in the chosen sessions."""
    sessions = settings.selection.session_label
    paths = companions.well_named(index.find(_CONTRASTS[suffix], label), seen)
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
