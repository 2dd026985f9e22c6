"""Both recipes side by side, and what the longer one may still gain; for benchmarks/recipes.py.

Two extrapolations of the paper's curve are stated, neither of which is a measurement: its rise (up
to its best look) carried on as a - b * work^-c, which flattens, and the trend of the later half of
the rows carried on as a line in the logarithm of work, which never does. Rows are the looks that
the table of the curve tells, evenly in the logarithm of work. Intervals come from blocks of
residuals drawn anew, and hold within each form only. Whether the first form foretells anything is
tried where the answer is known, and said.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from _recipes_run import CONTENT
from _table import RESULTS, keep
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from bids_sr.sr.method import get_method

Row = dict[str, Any]
Floats = NDArray[np.float64]
PAPER = get_method("srgan").recipes["paper-mse"]
Model = Callable[[Floats, Floats], Floats]
WORK, PSNR = "work (1e12)", "held-out PSNR (dB)"
SKIPPED = 0.05  # of the work up to the best look, at its beginning, is not fitted
NEAR = 0.2  # of the work up to the best look, on both sides of it: rows around it
LAST = 5  # rows that make up the end of a curve
OVER = 0.6  # a best look before this share of the work: the curve is past its best
BLOCK, DRAWS = 4, 500
BACKTEST_DB, WIDE_DB = 0.1, 1.0


def fit_power(work: Floats, psnr: Floats) -> Floats:
    """a, b, c of a - b * work^-c by least squares; work in units of its largest."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        found, _ = curve_fit(
            lambda w, a, b, c: a - b * w**-c,
            work,
            psnr,
            p0=(psnr.max() + 0.5, 1.0, 0.5),
            bounds=((0, 0, 0.05), (60, 60, 3)),
            max_nfev=20_000,
        )
    return np.asarray(found)


def power(given: Floats, work: Floats) -> Floats:
    """The curve of `fit_power`."""
    return given[0] - given[1] * work ** -given[2]


def fit_line(work: Floats, psnr: Floats) -> Floats:
    """Slope and height of a line in the logarithm of work, over the second half of the points."""
    late = work >= np.median(work)
    return np.polyfit(np.log(work[late]), psnr[late], 1)


def line(given: Floats, work: Floats) -> Floats:
    """The line of `fit_line`."""
    return np.polyval(given, np.log(work))


def forecast(
    work: Floats,
    psnr: Floats,
    at: float,
    fit: Callable[[Floats, Floats], Floats],
    model: Model,
    seed: int = 0,
) -> tuple[float, float, float]:
    """(value, 2.5 %, 97.5 %) of a curve at some work; blocks of its residuals are drawn anew for
    the interval.
    """
    given = fit(work, psnr)
    smooth = model(given, work)
    rest, rng, drawn = psnr - smooth, np.random.default_rng(seed), []
    for _ in range(DRAWS):
        starts = rng.integers(max(1, len(rest) - BLOCK + 1), size=-(-len(rest) // BLOCK))
        again = np.concatenate([rest[s : s + BLOCK] for s in starts])
        again = np.resize(again, len(rest))
        try:
            drawn.append(float(model(fit(work, smooth + again), np.array([at]))[0]))
        except RuntimeError:  # a draw that no such curve fits says nothing
            continue
    low, high = np.percentile(drawn, (2.5, 97.5)) if drawn else (np.nan, np.nan)
    return float(model(given, np.array([at]))[0]), float(low), float(high)


def rising(work: Floats, psnr: Floats) -> NDArray[np.bool_]:
    """Looks up to the best one, without the very beginning."""
    return (work > SKIPPED * work[psnr.argmax()]) & (work <= work[psnr.argmax()])


def read(name: str) -> list[Row]:
    """Rows of a table, none where it is not there."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["rows"] if path.exists() else []


def curves(rows: list[Row]) -> dict[int, tuple[Floats, Floats]]:
    """(work, PSNR) of each seed."""
    out = {}
    for seed in sorted({int(row.get("seed", 0)) for row in rows}):
        own = [row for row in rows if int(row.get("seed", 0)) == seed]
        out[seed] = (
            np.array([row[WORK] for row in own], float),
            np.array([row[PSNR] for row in own], float),
        )
    return out


def full_work(rows: list[Row]) -> float:
    """Operations (1e12) of the paper's whole search phase."""
    return rows[-1][WORK] / rows[-1]["iteration"] * PAPER.iterations


def extrapolated(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """What the paper's curve may come to, and whether that can be said."""
    (work, psnr), whole = curves(rows)[0], full_work(rows)
    top, best = work.max(), float(work[psnr.argmax()])
    rise, at = rising(work, psnr), whole / top
    forms = {
        "rise as a - b * work^-c": (rise, fit_power, power),
        "later half of the rows as a line in log work": (np.ones(len(work), bool), fit_line, line),
    }
    out, carried = [], {}
    for name, (used, fit, model) in forms.items():
        value, low, high = forecast(work[used] / top, psnr[used], at, fit, model)
        carried[name] = float(model(fit(work[used] / top, psnr[used]), np.array([1.0]))[0])
        out.append(
            {
                "paper-mse's curve carried on": name,
                "PSNR at the full work (dB)": round(value, 2),
                "2.5 %": round(low, 2),
                "97.5 %": round(high, 2),
            }
        )
    end = float(np.mean(psnr[-LAST:]))
    said = [
        f"Recipe paper-mse did {top:.4g} of {whole:.4g} x 1e12 operations ({top / whole:.1%}); its"
        f" best look is at {best:.4g} ({best / top:.0%} of what was done), {psnr.max():.2f} dB;"
        f" the last {LAST} rows of its thinned curve have {end:.2f} dB in the mean."
    ]
    off = carried["rise as a - b * work^-c"] - end
    if best < OVER * top:
        said.append(
            f"The curve has fallen since its best look by {psnr.max() - end:.2f} dB. Why was not"
            f" measured{fitted(rows, work, best)}. The rise carried on misses the end by"
            f" {off:+.2f} dB, so it is no forecast. Here looks are 50 iterations apart and nothing"
            f" is trained again; the recipe itself looks every {PAPER.evaluate_every} iterations,"
            " then trains anew on all slices for as many as did best."
        )
    else:
        early = rise & (work <= top / 2)
        off = float(
            np.mean(power(fit_power(work[early] / top, psnr[early]), work[-5:] / top) - psnr[-5:])
        )
        known = abs(off) <= BACKTEST_DB and out[0]["97.5 %"] - out[0]["2.5 %"] <= WIDE_DB
        said.append(
            f"Fitted up to half of the work the rise misses the end by {off:+.2f} dB; "
            + (
                "it may be read with its interval."
                if known
                else "it is not yet where it can be carried on with trust."
            )
        )
    return out, said


def fitted(rows: list[Row], work: Floats, best: float) -> str:
    """What the loss on the slices trained on did while the held-out PSNR fell, and what that
    leaves open.
    """
    if not all(CONTENT in row for row in rows):
        return ""
    loss = np.array([row[CONTENT] for row in rows])
    near, end = loss[np.abs(work / best - 1) <= NEAR].mean(), loss[-LAST:].mean()
    did = (
        f"went on falling, from {near:.2g} to {end:.2g}"
        if end < near
        else f"went from {near:.2g} to {end:.2g}"
    )
    return (
        f". The content loss on patches of the slices trained on {did} (means of the rows around"
        f" the best look, and of the last {LAST})"
        + (
            ", as it does where a network fits its own slices more and more closely"
            if end < near
            else ""
        )
        + ". There was no training without the critic, whose term is on from the first step and"
        " can lower PSNR as well: its part is not known"
    )


def side_by_side() -> list[Row]:
    """Figures of both recipes, as far as tables are there."""
    out = []
    for kind, data in (("", "measured"), ("_phantom", "phantom")):
        both = {name: read(f"recipe_{name}{kind}_scores") for name in ("fast", "paper-mse")}
        made = {
            name: [row for row in rows if row["series"].startswith("srgan")]
            for name, rows in both.items()
        }
        if not all(made.values()):
            continue
        plain = {row["series"]: row for row in both["fast"]}
        skipped = ("series", "iteration", "processor (s)")
        for key in (
            key for key in made["fast"][0] if key not in skipped and key in made["paper-mse"][0]
        ):
            values = np.array([row[key] for row in made["fast"]], float)
            other = float(np.mean([row[key] for row in made["paper-mse"]]))
            out.append(
                {
                    "data": data,
                    "figure": key,
                    "fast, mean of seeds": round(float(values.mean()), 4),
                    "SD over seeds": (
                        round(float(values.std(ddof=1)), 4) if len(values) > 1 else ""
                    ),
                    "paper-mse as far as it ran": round(other, 4),
                    "fast - paper-mse": round(float(values.mean()) - other, 4),
                    "fast no worse": bool(values.mean() >= other),
                    **{name: plain[name].get(key, "") for name in ("bspline", "zerofill")},
                }
            )
    return out


def remarks_on(kind: str) -> list[str]:
    """Work of both recipes and where the paper's stands at that of the fast one."""
    fast, paper = curves(read(f"recipe_fast{kind}")), read(f"recipe_paper-mse{kind}")
    data = "phantom" if kind else "measured pair"
    best = [float(psnr.max()) for _, psnr in fast.values()]
    whole = full_work(paper)
    work, psnr = curves(paper)[0]
    spent = float(np.mean([w[-1] for w, _ in fast.values()]))
    before = psnr[work <= spent]
    lines = [
        f"{data}: fast does {spent:.4g} x 1e12 operations, the whole schedule of paper-mse"
        f" {whole:.5g} ({whole / spent:.0f} times as many; a second training on all slices, which"
        f" paper-mse adds, not counted). Held-out PSNR of fast {np.mean(best):.2f} dB ({len(best)}"
        f" seeds, {min(best):.2f} to {max(best):.2f}); of paper-mse "
        + (f"{before.max():.2f} dB at the work of fast, " if len(before) else "")
        + f"{psnr.max():.2f} dB at best, in {work.max() / spent:.1f} times the work of fast."
    ]
    past = np.flatnonzero(psnr >= np.mean(best))
    if len(past):
        lines.append(
            f"{data}: paper-mse passes the mean of fast at {work[past[0]] / spent:.1f} times its"
            " work."
        )
    return lines


def draw(whole: float) -> None:
    """Held-out PSNR against work, every seed a line."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "recipes"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.5))
    for kind, style in (("", "-"), ("_phantom", "--")):
        for name, color in (("fast", "tab:orange"), ("paper-mse", "tab:blue")):
            for k, (work, psnr) in enumerate(curves(read(f"recipe_{name}{kind}")).values()):
                label = f"{name}{', phantom' * bool(kind)}" if k == 0 else None
                axes.plot(work, psnr, style, color=color, label=label, linewidth=1)
    work, psnr = curves(read("recipe_paper-mse"))[0]
    rise, top = rising(work, psnr), work.max()
    every = np.ones(len(work), bool)
    for used, fit, model, label in (
        (rise, fit_power, power, "its rise carried on"),
        (every, fit_line, line, "its trend carried on"),
    ):
        given = fit(work[used] / top, psnr[used])
        ahead = np.geomspace(work[used].max(), whole, 50)
        axes.plot(
            ahead,
            model(given, ahead / top),
            ":",
            color="gray" if model is line else "black",
            label=label,
        )
    axes.axvline(whole, color="black", linewidth=0.5)
    axes.set_xscale("log")
    axes.set(xlabel="floating-point operations (1e12)", ylabel="held-out PSNR (dB)")
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(RESULTS / "recipes.svg", metadata={"Date": None})
    plt.close(figure)


def compare() -> None:
    """Write recipes.{json,md,svg} from the tables of both recipes."""
    paper = read("recipe_paper-mse")
    ahead, remarks = extrapolated(paper)
    kinds = [
        k for k in ("", "_phantom") if read(f"recipe_fast{k}") and read(f"recipe_paper-mse{k}")
    ]
    remarks = [text for kind in kinds for text in remarks_on(kind)] + remarks
    remarks.append(
        "Number of steps, adversarial weight and critic of fast were chosen on held-out slices of"
        " this very pair (TRUTH.md, opening 1), those of paper-mse are fixed: held-out slices of"
        " the pair favor fast. What decides is the measured run and the phantom."
    )
    remarks += ["; ".join(f"{key}: {value}" for key, value in row.items()) + "." for row in ahead]
    keep(
        "recipes",
        "srgan: recipe fast against recipe paper-mse",
        side_by_side() or ahead,
        remarks=remarks,
    )
    draw(full_work(paper))
