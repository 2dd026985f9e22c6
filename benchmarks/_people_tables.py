"""Calls and tables of `people.py runs`, `noisy`, `contrasts`, `harm` and `protocol`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _labels import label
from _people_calibrations import CHANGES, make_calibration
from _people_data import MIDDLE, NOISY, SMOOTHED, TESTED, TYPES, Tested, make_tested
from _people_effects import PLACE, store_effects
from _people_runs import Kept, call, find_working_run, gains, value
from _table import keep as keep_table

from bids_sr.engine.metric_rows import MISSING, MetricRow
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE

REGIONS = ("brain", ACQUIRED_ACTIVE)
MEASURES = {
    "r": "split_r_beyond",
    "explained variance": "split_ev_beyond",
    "correct fraction": "split_right_beyond",
    "recovered amplitude": "split_amplitude_beyond",
}
WRONG = ("mirrored", "x1", "y1", "x2", "y2", "moved", "other", "spike")
ACTIVE = (
    "voxels active in the acquired run (its t map, unsmoothed, as a cubic B-spline on the"
    " high-resolution grid: |t| > 4)"
)
SHOWN = (
    ("zero filling", "blind", "zerofill"),
    ("`sbl`, blind", "blind", "sbl"),
    ("`sbl`, calibrated", "fine", "sbl"),
    ("measured", "blind", "measured"),
)
BASELINES = {
    "B-spline": "bspline",
    "zero filling": "zerofill",
    "`sdmod`": "sdmod",
    "`sbl`": "sbl",
}
HARM = {"B2": WRONG, "A": WRONG}
PROTOCOL = {
    "B2": ("v10", "fine", "v60", "regressed", "pe1", "pe2"),
    "B1": ("v10", "fine", "v60"),
    "A": ("v10", "fine", "regressed", "pe1", "pe2"),
    "A-middle": ("fine", "after"),
    "C-middle": ("fine", "after"),
}
MOVED = (
    "Moved: what the registration of the two references undid (rms). Explained variance beyond the"
    " acquired Nyquist limit; less blind: the difference, 95 % interval over blocks. Share: of"
    " zero filling's squared error that is explained, mean over the strongest components of the"
    " measured series."
)
EVERY = {**TESTED, **MIDDLE, **NOISY, **TYPES, **SMOOTHED}


def runs(arguments: Sequence[str]) -> None:
    """Tabulate every run without and with calibration: values with intervals, means over
    participants, and gains.
    """
    out = _called(arguments, dict.fromkeys(TESTED, ("blind", "fine")))
    rows, scored = [], []
    for name, tested in TESTED.items():
        for series, kind, shown in SHOWN:
            outputs = Kept(out / name / "kept" / kind)
            if outputs.done:
                figures = {
                    measure: [value(outputs.rows, shown, key, region) for region in REGIONS]
                    for measure, key in MEASURES.items()
                }
                scored.append((tested.person, series, figures))
                rows.append({"run": tested.title, "series": series, **_with_intervals(figures)})
    keep(
        "people_runs",
        f"Beyond the acquired Nyquist limit: {_count(out)}",
        rows,
        remarks=[
            "Calibrated by: "
            + "; ".join(f"{tested.title}: {tested.about}" for tested in TESTED.values())
            + ".",
            f"Split halves of all events against rest, unsmoothed; active: {ACTIVE}. 95 %"
            " intervals over blocks of the run, with W and the voxels as they are.",
        ],
    )
    shown = [series for series, *_ in SHOWN if any(s == series for _, s, _ in scored)]
    means = [
        _mean_over_people(series, [(person, f) for person, s, f in scored if s == series])
        for series in shown
    ]
    keep(
        "people_runs_mean",
        f"Beyond the acquired Nyquist limit, mean over people: {_count(out)}",
        means,
        remarks=[
            (
                "Brain / active voxels, each with the lowest and the highest person; a person's"
                " runs are averaged first. Where fewer people are named, the measured run of the"
                " others repeats too little of its detail to correct for noise."
            ),
        ],
    )
    differences = [_compared(out, tested, "fine") for tested in TESTED.values()]
    keep(
        "people_runs_gain",
        f"Calibrated less blind: {_count(out)}",
        [row for row in differences if row],
        remarks=[MOVED],
    )


def noisy(arguments: Sequence[str]) -> None:
    """Tabulate runs with thermal noise restored to the level of measured voxels, next to runs
    without.
    """
    out = _called(arguments, dict.fromkeys(NOISY, ("blind",)))
    rows = []
    for name, tested in TESTED.items():
        both = [Kept(out / label / "kept" / "blind") for label in (name, f"{name}-noisy")]
        if all(outputs.done for outputs in both):
            row: dict[str, Any] = {"run": tested.title}
            for outputs, noise in zip(both, ("as cropped", "noise restored"), strict=True):
                row[f"tested share, {noise}"] = round(outputs.tested, 3)
                row[f"applied, {noise}"] = "yes" if outputs.applied else "no"
                for region, place in zip(REGIONS, ("brain", "active"), strict=True):
                    level = value(outputs.rows, "sbl", "split_ev_beyond", region)
                    row[f"explained variance, {place}, {noise}"] = _text(level)
            rows.append(row)
    keep(
        "people_noisy",
        "`sbl`, blind, with thermal noise restored, beyond the acquired Nyquist limit",
        rows,
        remarks=[
            "Cropping k-space averages noise; here as much is added to either channel as a voxel"
            f" has that was measured so large (`--retrospective noisy`). Active: {ACTIVE}."
        ],
    )


def contrasts(arguments: Sequence[str]) -> None:
    """Tabulate `sbl` without calibration for every contrast that can be split."""
    runs_by_name = {name: TYPES.get(f"{name}-types", tested) for name, tested in TESTED.items()}
    out = _called(arguments, {tested.name: ("blind",) for tested in runs_by_name.values()})
    rows: list[dict[str, Any]] = []
    for tested in runs_by_name.values():
        outputs = Kept(out / tested.name / "kept" / "blind")
        if not outputs.done:
            continue
        rows_of_method = [
            row
            for row in outputs.rows
            if (row.series, row.minus, label(row)) == ("sbl", MISSING, "split_ev_beyond")
        ]
        rows += [
            {
                "run": tested.title,
                "contrast": contrast,
                "of conditions": "yes" if "Minus" in contrast else "no",
                **{
                    place: _text(
                        next(
                            r
                            for r in rows_of_method
                            if (r.contrast, r.region) == (contrast, region)
                        )
                    )
                    for region, place in zip(REGIONS[::-1], ("active", "brain"), strict=True)
                },
            }
            for contrast in dict.fromkeys(row.contrast for row in rows_of_method)
        ]
    keep(
        "people_contrasts",
        "Explained variance of `sbl` by contrast, blind, beyond the acquired Nyquist limit",
        rows,
        remarks=[f"Active: {ACTIVE}, in that contrast."],
    )


def baselines(arguments: Sequence[str]) -> None:
    """Tabulate `sbl` without calibration next to the baselines, for all events against rest."""
    out = _called(arguments, dict.fromkeys(TESTED, ("blind",)))
    rows = []
    for tested in TESTED.values():
        outputs = Kept(out / tested.name / "kept" / "blind")
        if not outputs.done:
            continue
        for series, shown in BASELINES.items():
            levels = [value(outputs.rows, shown, "split_ev_beyond", region) for region in REGIONS]
            rows.append(
                {
                    "run": tested.title,
                    "series": series,
                    "brain": _text(levels[0]),
                    "active": _text(levels[1]),
                }
            )
    keep(
        "people_baselines",
        "Explained variance of baselines and `sbl`, blind, beyond the acquired Nyquist limit",
        rows,
        remarks=[f"Active: {ACTIVE}. All events against rest, unsmoothed."],
    )


def smoothed(arguments: Sequence[str]) -> None:
    """Run `sbl` without calibration on smoothed runs; `tested_detail.py` tabulates the results."""
    _called(arguments, dict.fromkeys(SMOOTHED, ("blind",)))


def effects(arguments: Sequence[str]) -> None:
    """Store block effects of the runs of `contrasts`.

    Smoothed runs are only stored if they are named. The working directories of the calls must
    exist.
    """
    names = [TYPES.get(f"{name}-types", tested).name for name, tested in TESTED.items()]
    names += [name for name in SMOOTHED if {name, f"{name}:blind"} & set(arguments[2:])]
    out = _called(arguments, dict.fromkeys(names, ("blind",)))
    for name in names:
        if len(arguments) > 2 and not {name, f"{name}:blind"} & set(arguments[2:]):
            continue
        store_effects(find_working_run(out / name), out / name / PLACE)


def harm(arguments: Sequence[str]) -> None:
    """Tabulate the effects of wrong calibrations, and the choices of the gate."""
    out = _called(
        arguments, {name: ("blind", "fine", *kinds, "five") for name, kinds in HARM.items()}
    )
    rows = [
        _compared(out, TESTED[name], kind)
        for name, kinds in HARM.items()
        for kind in ("fine", *kinds, "five")
    ]
    keep(
        "people_harm",
        "Calibrations that are wrong, less blind",
        [row for row in rows if row],
        remarks=[MOVED],
    )


def protocol(arguments: Sequence[str]) -> None:
    """Tabulate the number of volumes, before or after, with or without the task, and
    distortion.
    """
    out = _called(arguments, {name: ("blind", *kinds) for name, kinds in PROTOCOL.items()})
    rows = [
        _compared(out, EVERY[name], kind) for name, kinds in PROTOCOL.items() for kind in kinds
    ]
    keep(
        "people_protocol",
        "Calibrations of other length, moment, task and distortion, less blind",
        [r for r in rows if r],
    )


def keep(
    name: str, title: str, rows: Sequence[Mapping[str, Any]], *, remarks: Sequence[str] = ()
) -> None:
    """Store a table that has rows."""
    if rows:
        keep_table(name, title, rows, remarks=remarks)


def _called(arguments: Sequence[str], kinds: dict[str, tuple[str, ...]]) -> Path:
    """Make the requested calls, all if none was named; return the folder with their results."""
    data, out, only = Path(arguments[0]), Path(arguments[1]), arguments[2:]
    for name, run_kinds in kinds.items():
        for kind in run_kinds:
            if only and not {name, f"{name}:{kind}"} & set(only):
                continue
            file = "none" if kind == "blind" else make_calibration(kind, EVERY[name], data, out)
            outputs = call(
                *make_tested(EVERY[name], data, out),
                out / name,
                kind,
                file,
                EVERY[name].contrasts,
            )
            print(f"{name} {kind}: {outputs.about}", flush=True)
    return out


def _count(out: Path) -> str:
    done = [tested for name, tested in TESTED.items() if Kept(out / name / "kept" / "fine").done]
    return f"{len(done)} runs of {len({tested.person for tested in done})} people"


def _text(row: MetricRow) -> str:
    """Return a value with its interval."""
    if math.isnan(row.value):
        return "n/a"
    ends = "" if math.isnan(row.lower) else f" [{row.lower:.3f}, {row.upper:.3f}]"
    return f"{row.value:.3f}{ends}"


def _with_intervals(figures: dict[str, list[MetricRow]]) -> dict[str, str]:
    return {
        f"{measure}, {region}": _text(row)
        for measure, region_rows in figures.items()
        for region, row in zip(("brain", "active"), region_rows, strict=True)
    }


def _mean_over_people(
    series: str, figures: Sequence[tuple[str, dict[str, list[MetricRow]]]]
) -> dict[str, str]:
    """Return one row of the table over participants, who are the units."""
    row = {"series": series}
    people = list(dict.fromkeys(person for person, _ in figures))
    for measure in MEASURES:
        texts = []
        for at in range(len(REGIONS)):
            person_means = [
                np.mean([f[measure][at].value for p, f in figures if p == person])
                for person in people
            ]
            finite = [mean for mean in person_means if np.isfinite(mean)]
            fewer = "" if len(finite) == len(person_means) else f", {len(finite)} people"
            texts.append(
                f"{np.mean(finite):.2f} ({min(finite):.2f} to {max(finite):.2f}{fewer})"
                if finite
                else "n/a"
            )
        row[measure] = " / ".join(texts)
    return row


def _compared(out: Path, tested: Tested, kind: str) -> dict[str, Any] | None:
    """Return the gain of a calibration in a run, and the choice of the gate; None if it was not
    called.
    """
    blind, calibrated = (
        Kept(out / tested.name / "kept" / "blind"),
        Kept(out / tested.name / "kept" / kind),
    )
    if not (blind.done and calibrated.done):
        return None
    row: dict[str, Any] = {
        "run": tested.title,
        "calibration": CHANGES[kind][0],
        "chosen": chosen(calibrated),
    }
    gain_rows = gains(blind, calibrated)
    displacement = calibrated.calibration.get("displacement_rms_mm")
    row["moved, mm"] = "" if displacement is None else round(displacement, 2)
    for region, place in zip(REGIONS, ("brain", "active"), strict=True):
        level = value(calibrated.rows, "sbl", "split_ev_beyond", region).value
        row[f"explained variance, {place}"] = "n/a" if math.isnan(level) else round(level, 3)
    for region, place in zip(REGIONS, ("brain", "active"), strict=True):
        gain = gain_rows.get(("gain_split_ev_beyond", region))
        row[f"less blind, {place}"] = "n/a" if gain is None else _text(gain)
    return row | {
        "share": round(calibrated.about["share"], 3),
        "blind share": round(blind.about["share"], 3),
    }


def chosen(outputs: Kept) -> str:
    """Return the choice of the gate in words."""
    if outputs.about["status"] != 0:
        return "refused at the start: as blind"
    held_out = outputs.held_out
    if outputs.calibration.get("usable") is False:
        return f"not used: {outputs.calibration.get('reason')}"
    weight = held_out.get("weight", held_out.get("blend"))
    more = []
    if isinstance(moved := held_out.get("position_correction_mm"), float):
        more.append(f"place corrected by {moved:.1f} mm")
    if gains_ := held_out.get("predicted_gain_by_weight"):
        more.append(
            "predicted gain " + ", ".join(f"{gain:+.3f} at {at}" for at, gain in gains_.items())
        )
    more += [] if outputs.applied else ["sbl not applied"]
    return ", ".join([f"weight {weight:g}" if weight is not None else "not used", *more])
