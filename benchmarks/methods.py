"""All methods and baselines at one stated budget of processor time, against measured volumes.

benchmarks/methods.py BIDS_DIR TRUTH_DIR --work DIR [--minutes M …] [--seeds N] [--methods NAME …]
[--recipe NAME]
    [--threads N] [--every N] [--no-maps] [--vgg-weights FILE]

BIDS_DIR holds one BOLD run and a T2*-weighted pair of a head that was acquired at low resolution,
TRUTH_DIR the same run at high resolution. Every method is trained once for each budget and seed,
always through its whole schedule: how many steps fit into the minutes is measured first, and
nothing stops early. The curve over budgets is the learning curve; it counts as flat where doubling
the budget gained less than .05 dB and less than two standard deviations over seeds. Models and
their figures lie in --work and are found again, so a run that was stopped goes on.

All models are trained before the truth is opened. Volumes are upsampled on their own grid, no
motion is undone. PSNR (99th percentile of the mean measured volume in the mask as peak), SSIM and
RMSE are means over every n-th volume inside the brain; effective resolution (voxel / K) is that of
the mean image; t of all stimuli together, without smoothing, is correlated with that of the
measured run over the brain, and where that has |t| > 4 (active). The table leads with the
explained variance of the measured effect beyond the acquired Nyquist limit (one half of the blocks
against the measured other half, its noise taken out), brain and active, with r, recovered
amplitude and right share beside it. Writes
benchmarks/results/methods{,_curves,_orderings}.{json,md} and methods_curves.svg.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _files import one
from _kept import checksum, kept_rows
from _methods_run import EXPLAINED, Judge, Pace, Scene, loaded, trained
from _table import RESULTS, keep

from bids_sr.series import INTERPOLATIONS, PAIR_BASELINES
from bids_sr.sr.method import method_names
from bids_sr.sr.models.model import LoadedModel

Row = dict[str, Any]
FLAT_DB = 0.05
BASELINES = (*INTERPOLATIONS, *PAIR_BASELINES)  # those that stand alone on single volumes
EV, EV_ACTIVE = "explained variance", "explained variance active"
# (better, worse, by, paper) as the papers have it, at the factor nearest to 2
ORDERINGS = (
    ("mse3d", "tv", "psnr", "tv-self-sr, table 2"),
    ("tv", "dip", "psnr", "tv-self-sr, table 2"),
    ("li", "li-agnostic", "psnr", "tv-self-sr, table 2"),
    ("li", "mse3d", "psnr", "tv-self-sr, table 2"),
    ("mse3d", "li-agnostic", "psnr", "tv-self-sr, table 2"),
    ("tv", "linear", "psnr", "tv-self-sr, table 1"),
    ("tv", "nearest", "psnr", "tv-self-sr, table 1"),
    ("tv", "bspline", "psnr", "tv-self-sr, table 1"),
    ("cpce", "circle", "psnr", "gan-cpce-circle"),
    ("cpce", "circle", "ssim", "gan-cpce-circle"),
    ("resnet3d", "gan3d", "rmse", "mouse-sr, section 3.1"),
    ("gan3d", "bspline", "rmse", "mouse-sr, section 3.1"),
    ("gan3d", "ccnn3d", "rmse", "mouse-sr, section 3.1"),
    ("resnet3d", "bspline", "ssim", "mouse-sr, section 3.1"),
    ("resnet3d", "ccnn3d", "ssim", "mouse-sr, section 3.1"),
    ("attunet", "unet", "psnr", "attention-unet"),
    ("attunet", "vit", "psnr", "attention-unet"),
)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bids_dir", type=Path)
    parser.add_argument("truth_dir", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--minutes",
        type=float,
        nargs="+",
        default=[0.5, 1.0, 2.0],
        help="of processor time, rising",
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--methods", nargs="+", default=list(method_names()), choices=method_names()
    )
    parser.add_argument("--recipe", choices=("fast", "paper-mse"), default="fast")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument(
        "--no-maps", action="store_true", help="leave out t maps, which need every volume"
    )
    parser.add_argument("--vgg-weights", type=Path)
    parser.add_argument("--name", default="methods", help="of the results")
    given = parser.parse_args()
    given.minutes = sorted(given.minutes)
    return given


def main() -> None:
    given = options()
    Path(given.work, "scores").mkdir(parents=True, exist_ok=True)
    scene = Scene.read(given.bids_dir, given.work)
    pace: dict[str, Pace] = {}
    models: list[Path] = []
    failed: dict[str, str] = {}
    for name in given.methods:
        for seed in range(given.seeds):
            for minutes in given.minutes:
                if name in failed:
                    continue
                try:
                    models.append(
                        trained(
                            scene,
                            name,
                            given.recipe,
                            minutes,
                            seed,
                            given.work,
                            given.threads,
                            given.vgg_weights,
                            pace,
                        )
                    )
                # one method that fails must not take hours of the others with it
                except Exception as error:
                    failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
                    sys.stderr.write(f"{name} failed: {failed[name]}\n")
    judge = Judge.read(scene, given.truth_dir, given.every, maps=not given.no_maps)
    made_from = {
        "truth": checksum(one(given.truth_dir, "sub-*/func/*_bold.nii.gz")),
        "every": given.every,
        "figures": "with explained variance",
    }
    runs: list[Row] = []
    for name in BASELINES:
        make = partial(_scored, scene, judge, name, None, given.threads, maps=not given.no_maps)
        (scored,) = kept_rows(_scores(given, name), made_from | {"maps": not given.no_maps}, make)
        runs.append(
            {"method": name, "minutes": 0.0, "seed": 0, "parameters": 0, "steps": 0} | scored
        )
    for path in models:
        model, notes = loaded(path)
        last = notes["minutes"] == given.minutes[-1] and not given.no_maps
        make = partial(_scored, scene, judge, notes["method"], model, given.threads, maps=last)
        (scored,) = kept_rows(
            _scores(given, path.stem), made_from | {"maps": last, "weights": checksum(path)}, make
        )
        runs.append(notes | scored)
    report(runs, failed, given)


def _scores(given: argparse.Namespace, stem: str) -> Path:
    """Where the figures of a series are kept; several calls for some `--methods` each may fill the
    folder together.
    """
    return Path(given.work, "scores", f"{stem}.json")


def _scored(
    scene: Scene, judge: Judge, name: str, model: LoadedModel | None, threads: int, *, maps: bool
) -> list[dict[str, Any]]:
    return [judge.scores(scene.upsampler(name, model, threads), scene.volumes, maps=maps)]


def of(runs: list[Row], name: str, minutes: float) -> list[Row]:
    """All seeds of a method at a budget, or a baseline."""
    return [
        run
        for run in runs
        if run["method"] == name and (name in BASELINES or run["minutes"] == minutes)
    ]


def spread(values: list[float]) -> float:
    """Standard deviation over seeds; nothing can be said of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def flat(runs: list[Row], name: str, minutes: list[float]) -> tuple[bool | None, float]:
    """(whether the curve has flattened, gain a doubling of the budget at its end); None where it
    cannot be told.
    """
    if name in BASELINES:
        return True, 0.0
    if len(minutes) < 2:
        return None, float("nan")
    before, now = ([run["psnr"] for run in of(runs, name, m)] for m in minutes[-2:])
    if not before or not now:
        return None, float("nan")
    gain = (float(np.mean(now)) - float(np.mean(before))) / np.log2(minutes[-1] / minutes[-2])
    sd = spread(now)
    return bool(gain < FLAT_DB and (np.isnan(sd) or gain < max(2 * sd, FLAT_DB / 5))), float(gain)


def summarized(runs: list[Row], name: str, minutes: list[float]) -> Row:
    """The row of the table: means over seeds at the largest budget."""
    last = of(runs, name, minutes[-1])
    known = {
        key: [run.get(key, float("nan")) for run in last]
        for key in ("psnr", "ssim", "rmse", "resolution")
    }
    plain = of(runs, "zerofill", 0)[0]["psnr"]
    level, gain = flat(runs, name, minutes)
    mean = {key: float(np.mean(values)) for key, values in known.items()}
    more = {
        key: float(np.mean([run.get(key, float("nan")) for run in last]))
        for key in ("t r", "t r active")
    }
    explained = {
        key: [run.get(key, float("nan")) for run in last]
        for key in (*EXPLAINED.values(), EV_ACTIVE)
    }
    return {
        "series": name,
        **{key: round(float(np.mean(explained[key])), 4) for key in (EV, EV_ACTIVE)},
        "SD of it over seeds": round(spread(explained[EV]), 4),
        **{key: round(float(np.mean(explained[key])), 4) for key in list(EXPLAINED.values())[1:]},
        "PSNR (dB)": round(mean["psnr"], 2),
        "SD over seeds": round(spread(known["psnr"]), 3),
        "over zerofill": round(mean["psnr"] - plain, 2),
        "above zerofill": mean["psnr"] > plain,
        "SSIM": round(mean["ssim"], 4),
        "RMSE": round(mean["rmse"], 2),
        "resolution (mm)": round(mean["resolution"], 2),
        "t map r": round(more["t r"], 4),
        "t map r, active": round(more["t r active"], 4),
        "processor s, training": round(
            float(np.mean([run.get("processor seconds", 0.0) for run in last])), 1
        ),
        "s a volume": round(float(np.mean([run["seconds a volume"] for run in last])), 3),
        "steps": last[0]["steps"],
        "of the recipe's": last[0].get("steps of the recipe", 0),
        "parameters": last[0]["parameters"],
        "gain a doubling (dB)": round(gain, 3),
        "flat": "" if level is None else level,
    }


def verdict(
    runs: list[Row], better: str, worse: str, by: str, minutes: list[float], seeds: int
) -> str:
    """Whether an ordering holds: claimed only for flat curves and at least three seeds, by two
    standard errors.
    """
    one, other = ([run[by] for run in of(runs, name, minutes[-1])] for name in (better, worse))
    if not one or not other:
        return "not run"
    ahead = (np.mean(one) - np.mean(other)) * (-1 if by == "rmse" else 1)
    error = np.sqrt(
        sum(np.nan_to_num(spread(values)) ** 2 / len(values) for values in (one, other))
    )
    found = (
        "holds"
        if ahead > 2 * error
        else "does not hold"
        if ahead < -2 * error
        else "not told apart"
    )
    open_ = [name for name in (better, worse) if flat(runs, name, minutes)[0] is not True]
    if seeds < 3:
        return f"no claim ({found}; fewer than 3 seeds)"
    return f"no claim ({found}; still rising: {', '.join(open_)})" if open_ else found


def _leading(row: Row) -> tuple[float, float]:
    """Order of the table: by explained variance where there is one, else by PSNR, best first."""
    return -float(np.nan_to_num(row[EV], nan=-np.inf)), -row["PSNR (dB)"]


def report(runs: list[Row], failed: dict[str, str], given: argparse.Namespace) -> None:
    """Tables and the figure of the curves."""
    names = [*BASELINES, *(name for name in given.methods if of(runs, name, given.minutes[-1]))]
    rows = sorted((summarized(runs, name, given.minutes) for name in names), key=_leading)
    spent = [row["processor s, training"] for row in rows if row["series"] not in BASELINES] or [
        0.0
    ]
    below = [
        row["series"]
        for row in rows
        if row["series"] not in BASELINES and not row["above zerofill"]
    ]
    remarks = [
        f"Budget: {given.minutes[-1]:g} minutes of processor time a training, {given.recipe}"
        f" recipes, {given.seeds} seeds, {given.threads} thread(s); means over seeds. Perceptual"
        " terms " + ("on." if given.vgg_weights else "off: no weights of VGG-19 were given."),
        (
            f"Taken were {min(spent):.0f} to {max(spent):.0f} s of processor: how many steps fit"
            " was told from a trial of each method, and other work of the machine makes steps"
            " longer."
        ),
        f"Not above zero filling in PSNR: {', '.join(below) or 'none'}.",
        (
            "Explained variance is that of the measured effect beyond the acquired Nyquist limit"
            " in the other half of the blocks, without its noise: 0 is no detail at all, less than"
            " 0 wrong detail. r is blind to amplitude."
        ),
        (
            "inject, ratio and what has variance maps of the run (sdmod, sbl) put in the fine"
            " image of the pair, which comes from the measured run here: static detail, not"
            " change; their t maps tell what change they show. Variance maps are found in seconds,"
            " whatever the budget."
        ),
        *(f"{name} failed: {why}" for name, why in failed.items()),
    ]
    keep(
        given.name,
        "All methods and baselines at one budget, against measured volumes",
        rows,
        remarks=remarks,
    )
    curves = [
        {
            "method": name,
            "minutes": m,
            "steps": found[0]["steps"],
            "PSNR (dB)": round(float(np.mean([run["psnr"] for run in found])), 3),
            "SD over seeds": round(spread([run["psnr"] for run in found]), 3),
            "SSIM": round(float(np.mean([run["ssim"] for run in found])), 4),
            "processor s": round(float(np.mean([run["processor seconds"] for run in found])), 1),
        }
        for name in given.methods
        for m in given.minutes
        if (found := of(runs, name, m))
    ]
    if curves:
        keep(
            f"{given.name}_curves",
            "Learning curves: each point a training through its whole schedule",
            curves,
        )
        draw(runs, given)
    orderings = [
        {"better": a, "worse": b, "by": by, "paper": paper, "here": found}
        for a, b, by, paper in ORDERINGS
        if (found := verdict(runs, a, b, by, given.minutes, given.seeds)) != "not run"
    ]
    if orderings:
        keep(
            f"{given.name}_orderings",
            "Orderings of the papers on this run",
            orderings,
            remarks=[
                (
                    "One head, factor 2 in plane, a pair made from the run: not the papers' data,"
                    " which no ordering here speaks about."
                ),
            ],
        )


def draw(runs: list[Row], given: argparse.Namespace) -> None:
    """PSNR over budget, one line a method, seeds as points."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = given.name
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5.5))
    plain = of(runs, "zerofill", 0)[0]["psnr"]
    shown = [name for name in given.methods if of(runs, name, given.minutes[-1])]
    for k, name in enumerate(shown):
        points = [(m, run["psnr"] - plain) for m in given.minutes for run in of(runs, name, m)]
        color = plt.get_cmap("tab20")(k % 20)
        axes.plot(*zip(*points, strict=True), ".", color=color)
        means = [
            np.mean([run["psnr"] for run in of(runs, name, m)]) - plain for m in given.minutes
        ]
        axes.plot(given.minutes, means, "-", color=color, label=name)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set(xlabel="minutes of processor time", ylabel="PSNR over zero filling (dB)")
    axes.legend(fontsize="small", ncols=2)
    figure.tight_layout()
    figure.savefig(RESULTS / f"{given.name}_curves.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
