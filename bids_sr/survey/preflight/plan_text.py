"""Text of the plan, for ``--dry-run`` and for messages."""

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

from bids_sr.config import Settings
from bids_sr.config.plugin import Plugin
from bids_sr.glm.contrasts import Contrasts
from bids_sr.io.grids import BOLDREF
from bids_sr.io.notices import Notice
from bids_sr.io.region_names import BRAIN, region_labels
from bids_sr.io.series import SDMOD, series_name
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.survey.bids.method_options import unavailable_reason
from bids_sr.survey.bids.precomputed import reused_text
from bids_sr.survey.bids.pretrained_models import factor_of_models, label_methods
from bids_sr.survey.bids.retrospective_plan import (
    downsampled_subject,
    retrospective_factor,
    select_pair_sources,
)
from bids_sr.survey.notices import group_notices, group_problems
from bids_sr.survey.preflight.combined_runs import format_combined_runs, format_terms, group_runs
from bids_sr.survey.preflight.exclusions import describe_skipped_runs
from bids_sr.survey.preflight.pace import measure_slowdown
from bids_sr.survey.preflight.plan import Estimate, Plan
from bids_sr.survey.preflight.regions import choose_regions, count_label_voxels

_MAX_NAMES = 3  # names of runs in a message
_LARGEST_TESTED_FACTOR = 2  # of all measurements of accuracy
_MIN_SAVED_MINUTES = 10  # shortest time saved by threads that is mentioned


def dry_run_text(plan: Plan, settings: Settings) -> str:
    """Return a description of a planned call and its estimated cost.

    It lists participants, runs, pairs, series, contrasts and smoothing.
    """
    plan_notices = notes(plan, settings)
    notice_lines = [f"{notice.level}: {notice}" for notice in plan_notices]
    n_warnings = sum(notice.level == "warning" for notice in plan_notices)
    lines = [
        f"dataset  {settings.paths.bids_dir}",
        f"results  {settings.paths.output_dir}",
        *notice_lines[:n_warnings],
        *_describe_structural_scans(plan.subjects),
    ]
    for subject in (candidate for candidate in plan.subjects if not candidate.has_scans):
        lines.append(f"sub-{subject.label}: T1w {subject.t1w[0].name if subject.t1w else 'none'}")
        lines += [
            f"  region of interest: {_describe_region(roi, subject, plan, settings)}"
            for roi in choose_regions(settings, subject)
        ]
        for run in subject.runs:
            lines += [f"  {line}" for line in _describe_run(run, subject, plan, settings)]
        if "glm" in settings.activation.kinds:
            lines += [f"  {line}" for line in format_combined_runs(subject.runs, plan)]
    lines += [f"series: {' '.join(plan.series)}", *_describe_settings(plan, settings)]
    lines += describe_skipped_runs(plan.skipped)
    lines.append(f"estimate: {cost_text(plan, settings)}")
    lines += _format_cost_table(plan.estimate, measure_slowdown())
    return "\n".join([*lines, *notice_lines[n_warnings:]])


def notes(plan: Plan, settings: Settings) -> list[Notice]:
    """Return warnings, notes and advice, with equal notices grouped and warnings first.

    Files of the data set are named by their relative path.
    """
    root = settings.paths.bids_dir
    relative = (
        (
            replace(notice, what=str(path.relative_to(root)))
            if root in (path := Path(notice.what)).parents
            else notice
        )
        for notice in plan.warnings
    )
    return sorted(group_notices(relative), key=lambda notice: notice.level != "warning") + [
        Notice(what="", why=text, level="note", code="advice")
        for text in _list_advice(plan, settings)
    ]


def _list_advice(plan: Plan, settings: Settings) -> list[str]:
    """Return advice on scans that would improve the result and on tests without a reference."""
    runs = plan.runs
    if settings.evaluation.retrospective is not None or not runs:
        return []
    advice = []
    if settings.superres.run_trained and not all(run.calibration for run in runs):
        advice.append(
            "to improve super-resolution, consider acquiring a high-resolution calibration run"
            " of at least 20 volumes with the same slices and task in the same session (see"
            " docs/acquire.md)."
        )
    if any(max(run.factor) > _LARGEST_TESTED_FACTOR for run in runs):
        advice.append(
            "the accuracy of maps was only measured for factors up to"
            f" {_LARGEST_TESTED_FACTOR}. Compare with --sr-factor {_LARGEST_TESTED_FACTOR}."
        )
    if not any(run.truth is not None for run in runs):
        limitation = "only the test at half the resolution can be performed"
        if any(run.factor[2] != 1 for run in runs):
            limitation = "accuracy cannot be measured"
        advice.append(
            f"without a high-resolution reference, {limitation}. To measure accuracy, use"
            " --retrospective, which downsamples the runs, super-resolves them and compares the"
            " results with the original runs."
        )
    return advice


def _describe_structural_scans(subjects: Sequence[Subject]) -> list[str]:
    """Return lines with the structural scans of participants: pairs, then scans without a pair."""
    lines = []
    for subject in (candidate for candidate in subjects if candidate.structural):
        lines.append(f"sub-{subject.label}: structural scans")
        for pair in subject.structural:
            names = " from ".join(path.name for path in pair.images)
            lines.append(f"  {pair.contrast}: {names}")
    for subject in (candidate for candidate in subjects if candidate.controls):
        lines.append(
            f"sub-{subject.label}: only high-resolution scans were found; volumes are"
            " measured per session"
        )
        for controls in subject.controls:
            lines.append("  " + ", ".join(scan.highres.name for scan in controls))
    for subject in (candidate for candidate in subjects if candidate.lowres):
        lines.append(
            f"sub-{subject.label}: only low-resolution scans were found; the --pretrained"
            " model is applied"
        )
        for scans in subject.lowres:
            lines.append("  " + ", ".join(scan.path.name for scan in scans))
    return lines


def _describe_region(roi: str, subject: Subject, plan: Plan, settings: Settings) -> str:
    """Return name, space and number of voxels of a region of interest as text."""
    atlas, space = settings.activation.atlas, plan.find_region_space(roi, subject.label)
    if roi == BRAIN or (not subject.t1w and space != BOLDREF):
        return "whole brain"
    if roi in plan.region_masks:
        n_voxels = plan.region_masks[roi].n_voxels
        return f"{Path(roi).name}, {space} space, {n_voxels:,} voxels"
    n_voxels = count_label_voxels(region_labels(roi, atlas), atlas)
    return f"{roi}, labels of {atlas}, {n_voxels:,} voxels of the atlas"


def _describe_run(run: BoldRun, subject: Subject, plan: Plan, settings: Settings) -> list[str]:
    """Return the description of a run in a dry run, as lines."""
    slice_timing = "with slice timing" if run.slice_timing else "no slice timing"
    size = f"{_format_grid(run)}, {run.n_volumes} volumes"
    lines = [f"{run.stem}: {size}, TR {run.tr:g} s, {slice_timing}"]
    if run.truth is not None:
        references = [run.truth.series.bold.name] if run.truth.series else []
        references += [f"effect of {name}" for name in run.truth.activations]
        location = "" if run.truth.root is None else f" in {run.truth.root}"
        lines.append(f"  high-resolution reference: {', '.join(references)}{location}")
    pair = "none"
    if run.pair is not None:
        lowres = run.pair.lowres.name if run.pair.lowres else "its k-space-truncated copy"
        pair = f"{run.pair.highres.name} and {lowres}"
    calibration = "none" if run.calibration is None else _describe_calibration(run.calibration)
    lines += [f"  T2*w pair: {pair}", f"  calibration: {calibration}"]
    if run.precomputed is not None:
        lines.append(f"  used from derivatives: {reused_text(run.precomputed)}")
    if settings.evaluation.retrospective is not None:
        lines.append(f"  {_describe_downsampling(run, subject, settings)}")
    lines.append(f"  super-resolution: {_describe_method(run, settings)}")
    return [*lines, f"  {_describe_contrasts(run, plan.contrasts.get(run.bold, {}))}"]


def _describe_calibration(calibration: BoldRun) -> str:
    """Return name, volumes, voxel size and events of a calibration run as text."""
    task = ""
    if calibration.events is not None:
        task = f", with the task ({calibration.events.name}) regressed out"
    return (
        f"{calibration.bold.name}, {calibration.n_volumes} volumes of"
        f" {_join_numbers(calibration.zooms)} mm{task}"
    )


def _describe_downsampling(run: BoldRun, subject: Subject, settings: Settings) -> str:
    """Return the planned downsampling of a run as text."""
    index = next(index for index, candidate in enumerate(subject.runs) if candidate is run)
    downsampled = downsampled_subject(subject, settings).runs[index]
    n_volumes = downsampled.n_volumes
    is_pair_source = any(run is source for source in select_pair_sources(subject).values())
    if settings.preprocessing.dummy_scans is None and not run.echoes and is_pair_source:
        from bids_sr.preproc.nonsteady import count_nonsteady_volumes

        n_volumes -= count_nonsteady_volumes(run.bold)
    factor = _join_numbers(retrospective_factor(settings), "g")
    return (
        f"this run will be downsampled by {factor} ({settings.evaluation.retrospective}) to"
        f" {_format_grid(downsampled)}, {n_volumes} volumes"
    )


def _format_grid(run: BoldRun) -> str:
    """Return matrix and voxel size of a run as text."""
    return f"{_join_numbers(run.shape)} voxels of {_join_numbers(run.zooms)} mm"


def _describe_contrasts(run: BoldRun, contrasts: Contrasts) -> str:
    """Return the contrasts of a run as text, or its seeds if it has no events."""
    if run.events is None:
        seeds = ", ".join(contrasts)
        return f"no events: seed-based connectivity is computed for the seeds {seeds}"
    return "contrasts: " + "; ".join(
        name if dict(weights) == {name: 1} else f"{name} = {_format_contrast(weights)}"
        for name, weights in contrasts.items()
    )


def _format_contrast(trial_type_weights: Mapping[str, float]) -> str:
    """Return a contrast as a formula of trial types, with names of only symbols in quotes."""
    weights = {
        name if any(map(str.isalnum, name)) else f"'{name}'": weight
        for name, weight in trial_type_weights.items()
    }
    if len(weights) > 1 and _are_all(weights.values(), 1 / len(weights)):
        return f"mean of {', '.join(weights)}"
    (first_name, first_weight), *others = sorted(weights.items(), key=lambda item: -item[1])
    other_weights = [weight for _, weight in others]
    if first_weight == 1 and len(others) > 1 and _are_all(other_weights, -1 / len(others)):
        return f"{first_name} - mean of {', '.join(name for name, _ in others)}"
    terms: list[str] = []
    for name, weight in weights.items():
        plus_sign = "+" if terms else ""
        sign = "-" if weight < 0 else plus_sign
        factor_text = "" if abs(weight) == 1 else f"{abs(weight):.3g}*"
        terms.append(f"{sign}{factor_text}{name}")
    return "".join(terms)


def _are_all(weights: Iterable[float], expected: float) -> bool:
    """Return whether all weights equal a value, up to rounding."""
    return all(math.isclose(weight, expected, rel_tol=1e-6) for weight in weights)


def _describe_settings(plan: Plan, settings: Settings) -> list[str]:
    """Return lines with the changes of recipes and, for BOLD runs, smoothing and kinds of maps."""
    lines = []
    if settings.superres.recipe_changes:
        changes = " ".join(map(str, settings.superres.recipe_changes))
        lines.append(f"recipe: {settings.superres.recipe}, with {changes}")
    if settings.superres.target != "anat":
        widths = plan.choose_smoothing(settings.activation)
        smoothing = " and ".join(f"{width:g} mm" for width in widths) + " before the maps"
        if settings.preprocessing.input_smoothing:
            input_width = f"{settings.preprocessing.input_smoothing:g} mm"
            smoothing = f"{input_width} before super-resolution, {smoothing}"
        regressors = dict.fromkeys("seeds" if run.events is None else "task" for run in plan.runs)
        descriptions = {"cc": f"correlation with the {' or '.join(regressors)}"}
        maps = ", ".join(
            f"{descriptions.get(kind, 'linear model')} ({kind})"
            for kind in settings.activation.kinds
        )
        lines += [f"smoothing (FWHM): {smoothing}", f"maps: {maps}"]
    if settings.resources.use_plugin is not None:
        lines += _describe_plugin(settings.resources.use_plugin)
    return lines


def _describe_plugin(file: Path) -> list[str]:
    """Return lines with the plugin, arguments, variables and template of its jobs."""
    plugin = Plugin.from_file(file)
    arguments = {"arguments": plugin.sbatch_args, "arguments with GPU": plugin.gpu_args}
    return [
        f"plugin: {plugin.plugin}, one job per step, from {file}",
        *(
            f"  {title}: {' '.join(map(shlex.quote, values))}"
            for title, values in arguments.items()
            if values
        ),
        *(
            f"  environment variable: {name}={value}"
            for name, value in plugin.inherited_variables.items()
        ),
        *(f"  template: {line}" for line in plugin.template.splitlines()),
    ]


def cost_text(plan: Plan, settings: Settings) -> str:
    """Return time, memory and disk space of a plan as a sentence."""
    cost = plan.estimate
    workers = settings.resources.nprocs or 1
    processes = "1 process" if workers == 1 else f"{workers} processes"
    time_text = (
        "unknown wall-clock time (training on a GPU was not measured)"
        if math.isinf(cost.minutes)
        else f"{format_minutes(cost.minutes * measure_slowdown())} of wall-clock time"
    )
    tip = describe_saved_time(cost, settings)
    return (
        f"{time_text} with {processes}{tip and f' ({tip})'},"
        f" {cost.memory_gb:.1f} GB of memory, {cost.work_gb:.1f} GB of disk space for intermediate"
        f" files and {cost.output_gb:.1f} GB for results (level {settings.run.level})"
    )


def describe_saved_time(cost: Estimate, settings: Settings) -> str:
    """Return the time that training would save with more threads, or "" if it is short."""
    if cost.saved_minutes < _MIN_SAVED_MINUTES:
        return ""
    saved_text = format_minutes(cost.saved_minutes)
    return f"training takes {saved_text} less with --omp-nthreads {settings.resources.nprocs}"


def format_minutes(minutes: float) -> str:
    """Return a time in minutes as text, rounded to whole minutes.

    >>> format_minutes(.4), format_minutes(4.4), format_minutes(135)
    ('under 1 min', 'about 4 min', 'about 2 h 15 min')
    """
    rounded = round(minutes)
    if rounded < 1:
        return "under 1 min"
    return (
        f"about {rounded} min" if rounded < 60 else f"about {rounded // 60} h {rounded % 60} min"
    )


def _format_cost_table(cost: Estimate, slowdown: float = 1.0) -> list[str]:
    """Return a table of stages with wall-clock minutes and memory, and their total.

    `slowdown` is the slowdown relative to idle processors.
    """
    known = [row.wall_minutes if math.isfinite(row.wall_minutes) else 0.0 for row in cost.rows]
    minutes = _round_to_tenths(time * slowdown for time in known)
    cells = [
        (row.stage, f"{time:.1f}" if math.isfinite(row.wall_minutes) else "unknown", row.memory_gb)
        for row, time in zip(cost.rows, minutes, strict=True)
    ]
    total = f"{sum(minutes):.1f}" if math.isfinite(cost.minutes) else "unknown"
    cells.append(("total", total, cost.memory_gb))
    width = max(len(stage) for stage, *_ in cells)
    return [
        f"  {'':<{width}}{'wall-clock min':>16}{'GB memory':>12}",
        *(f"  {stage:<{width}}{time:>16}{gb:12.1f}" for stage, time, gb in cells),
        (
            "  The memory of each stage is the maximum across its steps. The total includes all"
            " parallel processes."
        ),
    ]


def _round_to_tenths(numbers: Iterable[float]) -> list[float]:
    """Round numbers to tenths so that their sum is the rounded sum.

    >>> _round_to_tenths([0.14, 0.14, 0.14])
    [0.1, 0.2, 0.1]
    """
    ends = [round(end, 1) for end in accumulate(numbers, initial=0.0)]
    return [round(stop - start, 1) for start, stop in pairwise(ends)]


def format_problems(problems: Sequence[Notice]) -> str:
    """Return all problems as text, each with its file, reason and remedy."""
    groups = group_problems(problems)
    count_text = "1 problem" if len(groups) == 1 else f"{len(groups)} problems"
    head = f"{count_text} with the input; nothing was written."
    return "\n".join([head, *(str(problem) for problem in groups)])


def choice_lines(plan: Plan, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield a title (``method`` or ``contrasts``) and its text; runs with equal text are grouped.

    Runs are named if there are several. Nothing is yielded with ``--retrospective``, because the
    dataset that it creates has a plan of its own.
    """
    if settings.evaluation.retrospective is not None:
        return
    names_by_choice: dict[tuple[str, str], list[str]] = {}
    for run in plan.runs:
        choice = "method", _describe_method(run, settings)
        names_by_choice.setdefault(choice, []).append(run.stem)
    for run in plan.runs:
        if run.events is not None:
            choice = "contrasts", ", ".join(plan.contrasts[run.bold])
            names_by_choice.setdefault(choice, []).append(run.stem)
    for subject in plan.subjects:
        for group in group_runs(subject.runs, plan):
            for name, terms in group.over_runs.items():
                choice = "contrasts", f"{name} = {format_terms(terms)}"
                names_by_choice.setdefault(choice, []).append(group.label)
    for (title, text), names in names_by_choice.items():
        yield title, text if len(plan.runs) == 1 else f"{list_some(names, _MAX_NAMES)}: {text}"


def _describe_method(run: BoldRun, settings: Settings) -> str:
    """Return the methods and the factor of a run as text, with reasons."""
    superres = settings.superres
    names = [name for name in superres.chosen if not unavailable_reason(name, run, superres)]
    is_retrospective = settings.evaluation.retrospective is not None
    reasons = []
    if superres.auto and superres.thins_slices:
        reasons.append(
            "the default method is tv because the slices become thinner; srgan and sbl are"
            " slice-wise methods"
        )
    elif superres.auto and run.pair is None:
        reasons.append("srgan requires a T2*w pair, but no usable pair was found")
    elif superres.auto and set(superres.learned) - set(names):
        reasons.append("a single slice is not enough to train a network")
    if run.factor[2] != 1 and (run.truth is not None or superres.all_baselines):
        reasons.append(f"the baseline {SDMOD} is skipped because the slices become thinner")
    if not is_retrospective:
        reasons.append(_describe_factor_source(run, settings))
    reasons_text = f" ({'; '.join(reasons)})" if reasons else ""
    factor = retrospective_factor(settings) if is_retrospective else run.factor
    labels = label_methods(superres)
    names_text = ", ".join(labels.get(series_name(name), name) for name in names) or "none"
    return f"{names_text} by {_join_numbers(factor, 'g')}{reasons_text}"


def _describe_factor_source(run: BoldRun, settings: Settings) -> str:
    """Return the source of a run's super-resolution factor, as text."""
    if run.pair is not None:
        return "factor from the T2*w pair"
    if settings.superres.factor:
        return "factor from --sr-factor"
    if factor_of_models(settings.superres) is not None:
        return "factor from the --pretrained model"
    if run.calibration is not None:
        return "factor from the calibration run"
    slices = f"{run.zooms[2]:.3g} mm"
    return (
        "default in-plane factor 2 because no usable pair or calibration run was found, slice"
        f" thickness {slices}; use --sr-factor to choose another factor"
    )


def _join_numbers(numbers: Iterable[float], form: str = ".3g") -> str:
    """Return numbers joined by "×"; `form` is the format of numbers that are not integers."""
    return "×".join(
        str(number) if isinstance(number, int) else f"{round(number, 4):{form}}"
        for number in numbers
    )
