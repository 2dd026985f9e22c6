"""Evaluation of a run: all metrics on whether its finer maps are true, and a verdict.

The metrics are in one table, the verdict is in words.

Series of other programs (``--compare``): imported, resampled to the run's grid and judged.

Series as acquired: volumes at the start, reference and head motion, of a run and of others.

What a scope was given takes the place of what would be estimated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from bids_sr.glm.design import Events
from bids_sr.io.grids import AxisOrder
from bids_sr.pipeline.graph import AnyStep, Maker, Scope, Wires
from bids_sr.pipeline.step import Lookup, Part
from bids_sr.series import ACQUIRED_BAND, MEASURED
from bids_sr.steps import compared_series, evaluation, imported, motion, quality, super_resolution
from bids_sr.workflows.wanted import RunOf, methods_of


def add_evaluation(run: RunOf) -> None:
    """Add the steps that evaluate the series of a run.

    They are split halves, references, controls, quality control, flags and the verdict.
    """
    scope = run.scope
    split = run.bold.bold not in run.planned.plan.unsplit
    tables = [each["holdout"] for each in run.models.values() if "holdout" in each.makers]
    tables += scope.gather("precision_rows").values()
    errors = [*scope.gather("error_rows").values()]
    before_errors = len(tables)
    if split:
        tables += add_split_halves(
            scope, {name: run.series[name] for name in run.judged}, run.compared
        )
    else:
        scope.say(Part.EVALUATION, evaluation.UNSPLIT)
    stored = [one for one in run.wanted if one.stored]
    _say(run, split=split)
    known = run.bold.truth is not None and bool(run.bold.truth.activations)
    with_models = "glm" in run.planned.settings.activation.kinds
    tables += add_truth(
        scope, run.mapped[1:], has_known=known, with_models=with_models, split=split
    )
    tables += add_other_rows(scope, run.compared)
    alone = {one.name for one in run.wanted if not one.stored}  # no ensemble's
    tested = [made for name, made in scope.gather("tested").items() if name not in alone]
    networks = [one.name for one in stored if one.network]
    scope.add(evaluation.gather_tested, wires={"tested": tested}, network_names=networks)
    tables += [scope["tested_shares"], *_quality_control(run, split=split)]
    cards = scope.gather(
        "card_file", [one.name for one in stored if one.learned_from == "run" and one.judged]
    )
    _add_first_verdict(run, cards, split=split, known=known and with_models)
    scope.add(evaluation.raise_flags, wires={"rows": tables, "card_file": cards})
    judged = [*tables, scope["flag_rows"]]
    scope.add(evaluation.judge, wires={"rows": judged, "card_file": cards})
    every = [*judged[:before_errors], *errors, *judged[before_errors:]]
    scope.add(evaluation.join_evaluation, wires={"rows": every})


def _add_first_verdict(
    run: RunOf, cards: Mapping[str, Maker], *, split: bool, known: bool
) -> None:
    """Add a verdict on methods trained on the run itself if the run also has networks.

    It is shown before networks have been trained and applied, and is not stored. A run with a
    measured series that is not split into halves has none.

    `cards`: of the methods, by name. `known`: whether maps are compared with known activation.
    """
    stored = [one for one in run.wanted if one.stored and not one.network]
    methods = methods_of(stored)
    unsplit_reference = MEASURED in run.series and not split
    if not methods or len(methods) == len(run.methods) or unsplit_reference:
        return
    scope, names = run.scope, [one.name for one in stored]
    compared = [*names, *([MEASURED] if MEASURED in run.series else [])]
    wires: dict[str, Mapping[str, Maker] | Sequence[Maker]] = {
        "maps": [*scope.gather("maps", ["raw", *compared]).values()]
    }
    if split:
        wires["effects"] = scope.gather("effects", compared)
    rows = [scope["tested_shares"]]
    if split and MEASURED in run.series:
        made = {"split_half": "first_split_half"}
        scope.add(
            evaluation.compare_halves,
            name="compare_first_halves",
            rename=made,
            wires=wires,
            quiet=True,
        )
        rows.append(scope["first_split_half"])
    if known:
        made = {"truth": "first_truth"}
        scope.add(
            evaluation.compare_with_truth,
            name="compare_first_with_truth",
            rename=made,
            wires=wires,
            quiet=True,
        )
        rows.append(scope["first_truth"])
    scope.add(
        evaluation.judge,
        name="judge_first",
        rename={"verdict": "first_verdict", "verdict_rows": "first_verdict_rows"},
        wires={
            "rows": rows,
            "card_file": {name: cards[name] for name in methods if name in cards},
        },
        keep=False,
        method_names=methods,
        series_names=names,
        compared_names=(),
    )


def _say(run: RunOf, *, split: bool) -> None:
    """Add methods text on several steps: quality control, placebos, one-level-down tests."""
    ensembles = _ensembles(run)
    if split and ensembles:
        run.scope.say(
            Part.EVALUATION,
            quality.uncertainty_text(list(ensembles), 1 + max(map(len, ensembles.values()))),
        )
    placebos = [one.name for one in run.wanted if one.placebo]
    run.scope.say(Part.EVALUATION, super_resolution.placebos_text(placebos))
    if any(one.learned_from == "run" for one in run.wanted):
        run.scope.say(Part.EVALUATION, evaluation.ONE_LEVEL_DOWN)


def add_split_halves(
    scope: Scope, series: Mapping[str, Scope], compared: Sequence[str]
) -> list[Maker]:
    """Add the effects of every block in every series, and what the halves say of one another.

    `series`: scopes of the series on the high-resolution grid that are evaluated, by their names.
    """
    for own in series.values():
        own.add(
            evaluation.measure_effects, has_measured=MEASURED in series, wires=own_regressors(own)
        )
    if compared:
        names = [*compared, ACQUIRED_BAND]
        wires: Wires = {name: scope.gather(name, names) for name in ("series", "effects")}
        scope.add(compared_series.match_resolution, wires=wires)
    scope.add(evaluation.gather_fine_effects)
    if MEASURED not in series:
        return []
    scope.add(evaluation.compare_halves)
    return [scope["split_half"]]


def own_regressors(series_scope: Scope) -> dict[str, Maker]:
    """Return the wire by which a series is modeled with the seeds of its own, if it has them."""
    if "own_regressors" not in series_scope.makers:
        return {}
    return {"regressors": series_scope["own_regressors"]}


def add_truth(
    scope: Scope, series: Sequence[str], *, has_known: bool, with_models: bool, split: bool
) -> list[Maker]:
    """Add what compares maps and volumes with measured ones and with known activation.

    Makers of the rows; empty without any truth.
    """
    makers = []
    measured = MEASURED in series
    if (measured or has_known) and with_models:
        scope.add(evaluation.compare_with_truth)
        if split and not measured:
            scope.say(Part.EVALUATION, evaluation.known_text(cast(Lookup, scope.setting)))
        makers.append(scope["truth"])
    if measured:
        scope.add(evaluation.compare_images, wires={"series": scope.gather("series", series)})
        makers.append(scope["truth_images"])
    return makers


def add_other_rows(scope: Scope, compared: Sequence[str]) -> list[Maker]:
    """Add what compares series of other programs with another acquired run of the task."""
    if "other_effects" not in scope.makers:
        return []
    among = scope.gather("effects", [*compared, ACQUIRED_BAND])
    scope.add(compared_series.compare_with_other_run, wires={"effects": among})
    return [scope["other_rows"]]


def _quality_control(run: RunOf, *, split: bool) -> list[Maker]:
    """Add quality control: distortion, domain of networks and uncertainty of ensembles.

    Distortion is measured against the pair; the domain check tells whether networks know such
    images.
    """
    scope = run.scope
    makers: list[Maker] = []
    if split:
        scope.add(quality.compare_masks)
        makers.append(scope["mask_rows"])
    if run.bold.pair is not None:
        guided = [one.name for one in run.wanted if one.stored and one.guided]
        scope.add(quality.compare_edges, guided_names=guided)
        makers.append(scope["edges"])
    for name in run.methods:
        # variance maps are of the run itself
        if any(one.name == name and one.network for one in run.wanted):
            run.series[name].add(quality.check_domain)
            makers.append(run.series[name]["domain_rows"])
    for name, members in _ensembles(run).items() if split else ():
        run.series[name].add(
            quality.measure_uncertainty, wires={"member_effects": scope.gather("effects", members)}
        )
        makers.append(run.series[name]["uncertainty_rows"])
    return makers


def _ensembles(run: RunOf) -> dict[str, list[str]]:
    """Further members of the ensemble of each method that has one."""
    members = {
        name: [one.name for one in run.wanted if one.seed and one.source == name]
        for name in run.methods
    }
    return {name: others for name, others in members.items() if others}


def add_motion(scope: Scope, reference: str = "boldref") -> None:
    """Add the reference of an acquired series and its head motion.

    `reference`: name of the reference; of another series than that of the run nothing is stored.
    """
    of_run = reference == "boldref"
    made = {"boldref": reference}
    keep, quiet = of_run, not of_run
    if "given_hmc_xfms" in scope.makers:
        wires: Wires = {} if of_run else {"distortion": (), "given_boldref": ()}
        scope.add(imported.import_motion, rename=made, wires=wires, keep=keep, quiet=quiet)
    elif "given_confounds" in scope.makers:
        scope.add(imported.rebuild_motion, rename=made, keep=keep, quiet=quiet)
    else:
        if reference not in scope.makers:
            scope.add(motion.average_volumes, rename=made, keep=keep, quiet=quiet)
        wires = {} if of_run else {"boldref": scope[reference]}
        scope.add(motion.mask_head, motion.estimate_motion, wires=wires, keep=keep, quiet=quiet)


def add_confounds(
    scope: Scope, step: AnyStep, *, models_time: bool, keep: bool = True, quiet: bool = False
) -> None:
    """Add the confounds of a series and, if it has one, its temporal model.

    `models_time`: whether volumes are censored, or filters are part of the model.
    """
    if not models_time:
        scope.add(step, keep=keep, quiet=quiet)
        return
    renamed = {"confounds": "gathered_confounds", "confounds_columns": "gathered_columns"}
    scope.add(step, rename=renamed, keep=False, quiet=quiet)
    scope.add(motion.model_time, keep=keep, quiet=quiet)


def add_acquired(
    scope: Scope,
    *,
    timed: bool,
    input_smoothing: float,
    slice_times: Sequence[float] | None = None,
    quiet: bool = False,
) -> None:
    """Add slice timing and smoothing of an acquired series, from which others are made.

    `timed`: whether slice timing is corrected. `input_smoothing`: FWHM (mm) of the smoothing; 0
    for none. `slice_times`: of this series (s); None: those that the scope has.
    """
    name = "unsmoothed" if input_smoothing else "stc"
    made = {"stc": name}
    if not timed:
        scope.alias[name] = "bold"
    elif slice_times is None:
        scope.add(motion.correct_slice_timing, rename=made, quiet=quiet)
    else:
        scope.add(motion.correct_slice_timing, rename=made, quiet=quiet, slice_times=slice_times)
    if input_smoothing:
        scope.add(motion.smooth_acquired, quiet=quiet, input_smoothing=input_smoothing)


def add_calibration(scope: Scope, events: Path | None) -> None:
    """Add a short high-resolution run that tells where the run fluctuates, registered with it."""
    assert scope.outer is not None
    scope.alias["reference"] = "calibration_ref"
    scope.add(motion.count_dummies, quiet=True)
    add_motion(scope, "calibration_ref")
    if "head_mask" not in scope.makers:
        scope.add(motion.mask_head, wires={"boldref": scope["calibration_ref"]}, quiet=True)
    scope.add(compared_series.register_calibration)
    if events is not None:
        scope.give(calibration_events=events)
    scope.add(compared_series.measure_calibration)
    names = (
        "calibration_ref",
        "calibration_patterns",
        "boldref2calibration_xfm",
        "calibration_facts",
    )
    scope.outer.give(**{name: scope[name] for name in names})


def add_another_run(
    scope: Scope,
    file: Path,
    events: Path | Events | None,
    *,
    correct: bool,
    models_time: bool = False,
    input_smoothing: float = 0.0,
) -> None:
    """Add another acquired run of the task.

    This gives its motion, its alignment to the run, and the effects of its blocks.

    `file`: file of the series (NIfTI, 4D). `models_time`: see `add_confounds`. `input_smoothing`:
    see `add_acquired`.
    """
    assert scope.outer is not None
    scope.alias["reference"] = "other_ref"
    scope.give(bold_file=file, regressors=events)
    scope.add(motion.import_series, motion.count_dummies, quiet=True)
    add_motion(scope, "other_ref")
    add_acquired(scope, timed=correct, input_smoothing=input_smoothing, quiet=True)
    if models_time:
        add_confounds(scope, motion.motion_confounds, models_time=True, keep=False, quiet=True)
    scope.add(compared_series.measure_other_run)
    scope.outer.give(other_effects=scope["other_effects"])


_FINE = {"mask": "compared_mask", "roi": "roi_hr"}


def add_compared(run: RunOf) -> None:
    """Place the compared series of a run; they are evaluated beside the others, and not stored."""
    if not run.bold.compared:
        return
    scope = run.scope
    timed = bool(run.scope.setting("has_stc"))
    scope.say(Part.SERIES, compared_series.compared_text(run.compared))
    for name, one in run.bold.compared.items():
        correct = timed and not one.is_corrected
        run.series[name] = place_compared(scope, name, one.bold, one.axis_order, correct=correct)
    other = run.bold.another
    if other is not None and not {run.bold.bold, other.bold} & run.planned.plan.unsplit:
        correct = timed and other.slice_timing is not None
        other_scope = scope.within(
            "another_run_wf",
            axis_order=other.axis_order,
            tr=other.tr,
            slice_times=other.slice_timing,
            start_time=(other if correct else replace(other, slice_timing=None)).start_time(
                run.planned.settings.preprocessing.slice_time_ref
            ),
            dummy_scans=run.planned.settings.preprocessing.dummy_scans,
        )
        add_another_run(
            other_scope,
            other.bold,
            other.events,
            correct=correct,
            models_time=run.planned.settings.activation.models_time,
            input_smoothing=run.planned.settings.preprocessing.input_smoothing,
        )


def place_compared(
    scope: Scope, name: str, file: Path, order: AxisOrder, *, correct: bool
) -> Scope:
    """Place the steps that bring a series of another program to the grid of its run.

    `file`: file of the series (NIfTI, 4D).
    """
    series_scope = scope.within(name, alias=_FINE, series_name=name)
    series_scope.give(bold_file=file)
    series_scope.add(compared_series.import_compared, axis_order=order)
    series_scope.add(compared_series.align_compared)
    if correct:
        series_scope.add(
            motion.correct_slice_timing, quiet=True, wires={"bold": series_scope["compared"]}
        )
    else:
        series_scope.alias["stc"] = "compared"
    series_scope.add(compared_series.place_compared, wires={"acquired": scope["stc"]})
    return series_scope
