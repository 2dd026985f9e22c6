"""Survey of a data set: participants, their runs with all companion files, and problems.

Companions of a run are its pair, T1w image, events and metadata.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.bids import headers as hd
from bids_sr.bids import pairs, query, slice_axis, timing
from bids_sr.bids.calibration_runs import calibrations, check_named
from bids_sr.bids.companions import ratio_of, read_run
from bids_sr.bids.derivative_folders import open_derivatives, refuse_output_as_data
from bids_sr.bids.entities import entities_of, label_of, stem_of, stem_of_echoes
from bids_sr.bids.findings import Findings, InputError
from bids_sr.bids.fmriprep import check_surfaces, precomputed_anat, precomputed_run
from bids_sr.bids.given_models import factor_without_pair
from bids_sr.bids.inputs import DEFAULT_FACTORS, BoldRun, Pair, Subject, Survey, Truth
from bids_sr.bids.layout import Index, open_index
from bids_sr.bids.method_options import check_guide, check_options
from bids_sr.bids.reference_runs import check_root, find_truth, truth_in_dataset
from bids_sr.bids.retrospective_plan import check_retrospective
from bids_sr.bids.run_names import check_names
from bids_sr.config import Selection, Settings
from bids_sr.config.seeds import seed_names, seeds_of
from bids_sr.io.fields_of_view import corners_apart
from bids_sr.io.grids import LEAST_SAMPLES
from bids_sr.io.image_header import Header, Triple
from bids_sr.io.tables import column
from bids_sr.region_names import is_file


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
    existing = query.participants(bids_dir, findings)
    labels = query.choose(bids_dir, existing, selection, findings)
    filters = query.read_filters(selection.bids_filter_file, findings)
    # a dry run writes nothing
    database = None if settings.run.dry_run else selection.bids_database_dir
    return labels, open_index(bids_dir, labels, existing, database, filters)


def _walk(settings: Settings, seen: Survey) -> None:
    bids_dir = settings.paths.bids_dir.absolute()
    query.check_dataset(bids_dir)
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
                every[label] += query.well_named([path], seen)
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
            fix = f"Available: {query.choice(label, existing)}"
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
    images = query.well_named(index.find("t1w", label), seen)
    anat = precomputed_anat(seen.sources, label, images, settings.preprocessing.templates, seen)
    t1w = _t1w(images if anat is None else [anat.preproc], label, settings, seen)
    if t1w:
        check_surfaces(label, anat, settings.preprocessing.spaces, seen)
    stars = query.magnitudes(query.well_named(index.find("t2starw", label), seen), seen)
    star_headers = [h for h in (volume_header(path, seen) for path in stars) if h is not None]
    runs, missing = [], []
    superres, timed = settings.superres, "slicetiming" not in settings.preprocessing.ignore
    named = factor_without_pair(superres)

    def known(run: BoldRun) -> Triple | None:
        pair, _ = _choose(run.header, star_headers, settings, Findings())
        return named if pair is None else pair.factor

    calibrated, bolds = calibrations(index, bolds, every, known, settings, seen)
    for bold, *others in query.bold_runs(bolds, settings.preprocessing.echo, seen):
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
        header, _ = slice_axis.with_slices_last(header, sidecar or {})
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
            times = timing.slice_times(run.header, run.sidecar, run.tr, seen) if timed else None
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
        query.tell_field_maps(settings.paths.bids_dir.absolute(), label, seen)
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
    images = query.magnitudes(paths, seen)
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
    tr, first_tr = timing.likely_tr(header.tr), timing.likely_tr(first.tr)
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
    table = query.first_table(bids_dir, task)
    return tuple(dict.fromkeys(column(table, "trial_type"))) if table else ()


_ECHOES_APART_MM = 0.1  # headers of the echoes of one volume differ by rounding alone
