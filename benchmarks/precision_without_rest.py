"""Precision of contrasts of drawn designs with and without rest, and what the program says.

python benchmarks/precision_without_rest.py [--designs 200] [--seed 0]

A drawn design has 2 to 6 trial types, as blocks or single events, in a run of 4 to 8 min at a TR
of .5 to 3 s. Pauses are rows of rest, of a type whose name says pause (`fix`, `ITI`, …) or of a
type with another name, or do not exist. Standard errors are simulated without code of the program:
white noise, head motion (random walks and their differences), cosines, a double gamma response and
least squares. They are compared with the same model of the same types with a pause of 12 to 20 s
after each event (±40 %), in a run of the same length, at an equal number of events. Contrasts are
each type and `all`. A design is right if all of its contrasts are: no note below a ratio of 2.5, a
note or omission from 3.5 on, and omission above 10. Pauses that are taken for rest are not modeled
in the simulation either.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from _table import keep
from scipy.signal import oaconvolve
from scipy.stats import gamma

from bids_sr.glm.design import DesignSettings
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.default_contrasts import choose_contrasts

Row = tuple[float, float, str]
PAUSES = ("fix", "ITI", "null", "off", "rest_block", "fixation cross", "pause")
OTHER_NAMES = ("look", "wait", "view", "easy")
KINDS = ("no pauses", "rest", "named pauses", "other names")
QUIET, NOTED, OMITTED = 2.5, 3.5, 10.0
REST_S = (12.0, 20.0)  # s, shortest and longest mean pause of the reference
STEP = 0.05  # s, of the simulated response
N_DRAWS = 100  # of noise, for each motion
N_MOTIONS = 3  # draws of head motion, and of the order in the reference


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    results = [judge(np.random.default_rng([options.seed, k])) for k in range(options.designs)]
    rows = []
    for kind in (*KINDS, "all"):
        chosen = [result for result in results if kind in (result["kind"], "all")]
        ratios = np.concatenate([result["ratios"] for result in chosen])
        rows.append(
            {
                "pauses": kind,
                "designs": len(chosen),
                "contrasts": len(ratios),
                "ratio 2.5 to 3.5": int(((ratios >= QUIET) & (ratios < NOTED)).sum()),
                "ratio 3.5 to 10": int(((ratios >= NOTED) & (ratios <= OMITTED)).sum()),
                "ratio above 10": int((ratios > OMITTED).sum()),
                "largest ratio without note": max(r["largest_quiet"] for r in chosen),
                "smallest ratio with note": min(r["smallest_noted"] for r in chosen),
                "right": sum(not result["wrong"] for result in chosen),
            }
        )
    remarks = [f"{r['kind']}, {r['text']}: {w}" for r in results for w in r["wrong"]]
    keep(
        "precision_without_rest",
        f"Precision without rest, seed {options.seed}",
        rows,
        remarks=remarks,
    )
    return 0


def judge(rng: np.random.Generator) -> dict:
    """Draw a design, and compare the program's words with simulated standard errors."""
    kind = KINDS[rng.integers(len(KINDS))]
    tr, length = float(rng.uniform(0.5, 3)), float(rng.uniform(240, 480))
    types = [f"type{k}" for k in range(int(rng.integers(2, 7)))]
    sequence, mean, share = draw_events(rng, types, kind, length)
    n_volumes = int(length / tr)
    table = pd.DataFrame(sequence, columns=["onset", "duration", "trial_type"]).astype(str)
    events = Events.from_rows(list(table), enumerate(table.to_dict("records"), 2))
    modeled, contrasts, notes = choose_contrasts(
        events, (), DesignSettings(), n_volumes, tr, n_dummy=0
    )
    conditions = modeled.conditions
    noted = {name for text, names in notes.items() if "3 times" in text for name in names}
    variances = np.zeros((2, len(conditions) + 1))  # per event, of the design and its reference
    for _ in range(N_MOTIONS):
        motion = draw_motion(rng, n_volumes)
        paused = draw_paused(rng, sequence, conditions, length)
        for k, rows in enumerate((sequence, paused)):
            counts = [sum(name == other for *_, other in rows) for name in conditions]
            errors = simulate_errors(rng, rows, conditions, n_volumes, tr, motion)
            variances[k] += errors**2 * [*counts, sum(counts)]
    ratios = np.sqrt(variances[0] / variances[1])
    wrong, quiet, loud = [], [0.0], [np.inf]
    for name, ratio in zip((*conditions, "all"), ratios, strict=True):
        is_omitted, is_noted = name not in contrasts, name in noted or name not in contrasts
        (loud if is_noted else quiet).append(round(float(ratio), 2))
        if (ratio < QUIET and is_noted) or (ratio >= NOTED and not is_noted):
            wrong.append(f"{name} {'noted' if is_noted else 'not noted'} at {ratio:.2f}")
        elif ratio > OMITTED and not is_omitted:
            wrong.append(f"{name} computed at {ratio:.1f}")
    text = f"{len(types)} types, {mean:.1f} s, TR {tr:.2f} s, share of pauses {share:.2f}"
    return {
        "kind": kind,
        "text": text,
        "ratios": ratios,
        "wrong": wrong,
        "largest_quiet": max(quiet),
        "smallest_noted": min(loud),
    }


def draw_events(
    rng: np.random.Generator, types: Sequence[str], kind: str, length: float
) -> tuple[list[Row], float, float]:
    """Return the events of a run, their mean duration (s), and the share of pauses."""
    is_block = rng.random() < 0.6
    mean = float(rng.uniform(8, 24) if is_block else rng.uniform(1, 4))
    share = 0.0 if kind == "no pauses" else float(rng.uniform(0.03, 0.5))
    pause = {
        "rest": "rest",
        "named pauses": PAUSES[rng.integers(len(PAUSES))],
        "other names": OTHER_NAMES[rng.integers(len(OTHER_NAMES))],
    }.get(kind, "")
    # pauses after each event, or after each round of types
    n_between = 1 if rng.random() < 0.5 or not is_block else len(types)
    pause_length = mean * n_between * share / (1 - share)
    jitter = 0.0 if is_block else 0.5
    rows: list[Row] = []
    time, k = 0.0, 0
    order = balanced(rng, len(types), int(2 * length / mean) + len(types))
    while time < length:
        duration = mean * (1 + jitter * rng.uniform(-1, 1))
        rows.append((time, duration, types[order[k]]))
        time, k = time + duration, k + 1
        if pause and k % n_between == 0:
            duration = pause_length * (1 + jitter * rng.uniform(-1, 1))
            rows.append((time, duration, pause))
            time += duration
    return rows, mean, share


def draw_paused(
    rng: np.random.Generator, rows: Sequence[Row], conditions: Sequence[str], length: float
) -> list[Row]:
    """Return events of the same mean durations, each followed by a pause."""
    durations = [np.mean([row[1] for row in rows if row[2] == name]) for name in conditions]
    paused: list[Row] = []
    time = 0.0
    for j in balanced(rng, len(conditions), int(length)):
        if time < length or len({*(row[2] for row in paused)}) < len(conditions):
            paused.append((time, float(durations[j]), conditions[j]))
            time += durations[j] + np.clip(durations[j], *REST_S) * rng.uniform(0.6, 1.4)
    return paused


def balanced(rng: np.random.Generator, n_types: int, n: int) -> list[int]:
    """Return type numbers in rounds of all types in random order."""
    return [int(j) for _ in range(n // n_types + 2) for j in rng.permutation(n_types)][: n + 1]


def simulate_errors(
    rng: np.random.Generator,
    rows: Iterable[Row],
    conditions: Sequence[str],
    n_volumes: int,
    tr: float,
    motion: np.ndarray,
) -> np.ndarray:
    """Return the standard errors of each condition and of their mean from simulated noise."""
    times = np.arange(0, n_volumes * tr + 40, STEP)
    lags = np.arange(0, 32, STEP)
    response = gamma.pdf(lags, 6) - gamma.pdf(lags, 16) / 6
    response /= response.sum()
    middle = np.round((np.arange(n_volumes) + 0.5) * tr / STEP).astype(int)
    columns = []
    for name in conditions:
        boxcar = np.zeros(len(times))
        for onset, duration, other in rows:
            if other == name:
                boxcar[round(onset / STEP) : round((onset + duration) / STEP)] = 1
        columns.append(oaconvolve(boxcar, response)[middle])
    n_cosines = int(2 * n_volumes * tr / 128)
    phase = np.pi * (np.arange(n_volumes) + 0.5) / n_volumes
    drift = [np.cos(k * phase) for k in range(n_cosines + 1)]
    matrix = np.column_stack([*columns, motion, *drift])
    noise = rng.normal(size=(n_volumes, N_DRAWS))
    effects = np.linalg.lstsq(matrix, noise, rcond=1e-12)[0][: len(conditions)]
    return np.append(effects.std(axis=1), effects.mean(axis=0).std())


def draw_motion(rng: np.random.Generator, n_volumes: int) -> np.ndarray:
    """Return six random walks and their backward differences, standardized."""
    walks = np.cumsum(rng.normal(size=(n_volumes, 6)), axis=0)
    columns = np.hstack([walks, np.diff(walks, axis=0, prepend=walks[:1])])
    return (columns - columns.mean(axis=0)) / columns.std(axis=0)


if __name__ == "__main__":
    sys.exit(main())
