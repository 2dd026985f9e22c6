"""Runs of the race of warm starts, told apart by what they were made from, and summed up; for
warm_start.py.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from _kept import MADE, read_note

from bids_sr.sr.method import get_method

Row = dict[str, Any]
FAST = get_method("srgan").recipes["fast"]
NEAR_DB = 0.02


def runs_of_race(folder: Path, learned: str) -> list[Row]:
    """All runs; refused where some were made from another learned network or another pair than the
    others.
    """
    runs = [read_note(path) for path in sorted(folder.glob("*.json"))]
    for one in runs:
        first = next(other[MADE] for other in runs if other["data"] == one["data"])
        same = all(one[MADE][name] == first[name] for name in ("lowres", "highres", "mask"))
        if not same or one[MADE].get("learned", learned) != learned:
            sys.exit(
                f"{folder}: a run on {one['data']} was made from other data or another network;"
                " race again"
            )
    return runs


def thinned(run: Row) -> list[list[float]]:
    """The looks that all runs have."""
    return [look for look in run["curve"] if look[0] % FAST.evaluate_every == 0]


def reached(runs: list[Row], wanted: float) -> tuple[float, int]:
    """(steps, seeds that get there): mean over the seeds that reach a held-out PSNR."""
    first = [next((look[0] for look in thinned(run) if look[1] >= wanted), None) for run in runs]
    there = [at for at in first if at is not None]
    return (float(np.mean(there)) if there else float("nan")), len(there)


def summary(runs: list[Row]) -> list[Row]:
    """One row for each pair and setting."""
    out = []
    for where in dict.fromkeys(run["data"] for run in runs):
        own = [run for run in runs if run["data"] == where]
        recipe = [r for r in own if r["start"] == "cold" and r["steps"] == FAST.steps]
        end = float(np.mean([top(r) for r in recipe]))
        until, _ = reached(recipe, end - NEAR_DB)
        for start, steps, rate in sorted(
            {(run["start"], run["steps"], run["rate"]) for run in own}
        ):
            these = [
                run
                for run in own
                if (run["start"], run["steps"], run["rate"]) == (start, steps, rate)
            ]
            best, seconds = (
                [top(run) for run in these],
                [run["seconds"] for run in these if "seconds" in run],
            )
            at, count = reached(these, end - NEAR_DB)
            out.append(
                {
                    "pair": where,
                    "start": start,
                    "steps": steps,
                    "peak rate": rate,
                    "seeds": len(these),
                    "held-out PSNR (dB)": round(float(np.mean(best)), 3),
                    "SD": round(float(np.std(best, ddof=1)), 3) if len(best) > 1 else "",
                    "over the recipe's end": round(float(np.mean(best)) - end, 3),
                    "SSIM": round(float(np.mean([run["ssim"] for run in these])), 4),
                    "seeds within .02 dB": count,
                    "steps until then": round(at) if count else "",
                    "share of the recipe's steps": round(at / FAST.steps, 3) if count else "",
                    "share of the recipe's steps until then": (
                        round(at / until, 3) if count and until > 0 else ""
                    ),
                    "processor s": round(float(np.mean(seconds)), 1) if seconds else "",
                    "in a quarter": count == len(these) and at <= FAST.steps / 4,
                }
            )
    return out


def top(run: Row) -> float:
    """Best held-out PSNR among the looks that all runs have."""
    return float(max(look[1] for look in thinned(run)))
