"""Pictures and numbers of README and documentation, from runs on `examples/studyforrest`.

    python docs/make_figures.py FOLDER

runs the example in FOLDER at each storage level and without its reference, unless the outputs
exist, and measures what the run at the standard level takes. It writes:

- `docs/figures/detail.svg` (detail, added detail and detail explained), `example.png` (one slice
  and map of every kind of series) and `accuracy.png`;
- `docs/figures/example.json`: result, explained variances, files, disk, memory and processor time,
  which `docs/measured_numbers.py` and this script put into the pages;
- `docs/figures/example.tsv`: the stored metrics from which the program states this result;
- with a Chromium on the path, `docs/figures/report.png` and `report_blind.png` (first screens with
  and without the reference) and `docs/figures/report/*.png` (figures of the report, by `desc-`).
"""

import argparse
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import nibabel as nb
import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from bids_sr.engine.metric_rows import MISSING, read_frame, read_table, table_text
from bids_sr.engine.nodes import scope_name
from bids_sr.glm.block_effects import Effects
from bids_sr.report.stored_figures import read_figures
from bids_sr.spatial.nyquist import beyond_nyquist

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "docs")]

import measured_numbers  # noqa: E402  # beside this file
from _resources import disk_gb, watch  # noqa: E402

HERE = ROOT / "docs/figures"
EXAMPLE = ROOT / "examples/studyforrest"
LEVELS = ("standard", "minimal", "full")
STEM = "sub-01_task-localizer"
CONTRAST = "all"
THRESHOLD = 3.1  # of t, as drawn
ACQUIRED = "simulated 6 mm"  # 3 mm data, k-space cropped
ZOOM_MM = 36.0  # half width of the zoomed square
SCREEN = (1300, 800)
FACTOR = (2, 2, 1)  # acquired voxel size in measured voxels
PATCH = 20  # measured voxels, width of the maps of detail
INNER = slice(3, 17)  # slices that the maps of detail may show
DETAIL_LINES = (
    "Detail: the part of a map that scans with 6 mm voxels do not contain",
    "Super-resolution adds detail to the acquired map",
    "Detail explained: the share of the true detail that the added detail contains",
)
SHARE_LABELS = {
    "bspline": "B-spline",
    "zerofill": "zero filling",
    "sbl": "sbl",
    "measured": "measured\n(other half)",
}
START, END = (
    "<!-- numbers of the example, by docs/make_figures.py -->",
    "<!-- end of the numbers -->",
)
METHODS = ("srgan", "sbl")
SERIES = ("bspline", "zerofill", "inject", "sdmod", *METHODS, "measured")
FIGURES = {
    "brain": 1000,
    "norm": 1000,
    "pair": 900,
    "pairreg": 900,
    "coreg": 1000,
    "highres": 900,
    "motion": 900,
    "carpet": 900,
    "training": 900,
    "variance": 1000,
    "srslice": 1100,
    "beyond": 1000,
}
"""Figures of the report that the pages show, and the width (pixels) at which they are drawn."""


def rows(out: Path) -> pd.DataFrame:
    """The table of the evaluation."""
    return read_frame(out / f"sub-01/func/{STEM}_desc-evaluation_metrics.tsv")


def explained_beyond(
    table: pd.DataFrame, series: str, region: str = "brain"
) -> dict[str, float | None]:
    """Explained variance beyond Nyquist with its interval; None where it is not defined."""
    wanted = {
        "statistic": "ev",
        "reference": "measured",
        "band": "beyond",
        "minus": "n/a",
        "series": series,
        "region": region,
        "contrast": CONTRAST,
    }
    row = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)].iloc[0]
    return {
        key: None if pd.isna(row[key]) else round(float(row[key]), 5)
        for key in ("value", "lower", "upper")
    }


def read_verdict(out: Path) -> dict[str, Any]:
    """Return the verdict of the run."""
    file = out / f"sub-01/func/{STEM}_desc-verdict_metrics.json"
    return dict(json.loads(file.read_text()))


def numbers(out: Path) -> dict[str, Any]:
    """What README quotes, by a name each."""
    table = rows(out)
    verdict = read_verdict(out)
    best = verdict["best"]
    explained = {
        region: {name: explained_beyond(table, name, region) for name in (*SERIES,)}
        for region in ("brain", "acquired40")
    }
    flags = table[table.statistic.str.startswith("flag_") & (table.value > 0)]
    return {
        "command": "python docs/make_figures.py FOLDER",
        "headline": verdict["headline"].replace("\N{NO-BREAK SPACE}", " "),
        "best": best,
        "explained_variance_beyond_nyquist": explained,
        "flags_raised": sorted(set(flags.statistic)),
    }


def run_example(folder: Path) -> dict[str, float]:
    """Run the example at each level and without its reference, and return what the first took.

    Outputs that exist are used. The levels share the working directory.
    """
    file = folder / "resources.json"
    folder.mkdir(parents=True, exist_ok=True)
    calls = {level: ["-w", str(folder / "work"), "--level", level] for level in LEVELS}
    calls["blind"] = ["-w", str(folder / "work-blind"), "--truth", "none"]
    for name, options in calls.items():
        out, work = folder / name, Path(options[1])
        if out.exists():
            continue
        command = [str(Path(sys.executable).with_name("bids-sr")), str(EXAMPLE), str(out)]
        usage = watch([*command, "participant", *options], folder=work)
        assert usage.code == 0, usage.output
        if name == LEVELS[0]:
            resources = {
                "core_min": usage.cpu_seconds / 60,
                "memory_gb": usage.peak_gib * 2**30 / 1e9,
                "work_gb": usage.peak_gb,
            }
            file.write_text(json.dumps(resources))
    return {name: round(value, 2) for name, value in json.loads(file.read_text()).items()}


def count_files(out: Path) -> dict[str, float]:
    """Return the number of files below an output directory, and their size on the disk (MB)."""
    n_files = sum(path.is_file() for path in out.rglob("*"))
    return {"files": n_files, "mb": round(1000 * disk_gb(out), 1)}


def select_metrics(out: Path, best: str) -> str:
    """Return the stored metrics of the best method that the result is based on, as a table."""
    rows = read_table(out / f"sub-01/func/{STEM}_desc-evaluation_metrics.tsv")
    return table_text(
        row
        for row in rows
        if row.series == best
        and row.minus == MISSING
        and row.band in ("beyond", MISSING)
        and row.fwhm_mm in (0.0,)
        and row.reference in ("measured", "oneLevelDown", MISSING)
        and not row.statistic.startswith(("verdict", "flag"))
    )


def number_lines(found: Mapping[str, Any]) -> str:
    """Return the numbers as a table."""
    best, explained = found["best"], found["explained_variance_beyond_nyquist"]
    names = ("bspline", "inject", "sdmod", best, "measured")
    rows = [
        f"| {title} | " + " | ".join(shown_share(explained[region][name]) for name in names) + " |"
        for region, title in (
            ("acquired40", "detail explained, active voxels"),
            ("brain", "detail explained, whole brain"),
        )
    ]
    return "\n".join(
        [
            f"| {ACQUIRED} to 3 mm | B-spline | `inject` | `sdmod` | `{best}` | measured |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def shown_share(row: Mapping[str, float]) -> str:
    """Return an explained variance with its interval in percent, such as "4 % (−8 to 16 %)"."""
    value, lower, upper = (
        f"{round(100 * row[key])}".replace("-", "−") for key in ("value", "lower", "upper")
    )
    return f"{value} % ({lower} to {upper} %)"


def number_sentence(found: Mapping[str, Any]) -> str:
    """Return the expected result of the run in two sentences."""
    active = found["explained_variance_beyond_nyquist"]["acquired40"]
    spline, zerofill = (
        f"{round(100 * active[name]['value'])}".replace("-", "−")
        for name in ("bspline", "zerofill")
    )
    baselines = (name for name in SERIES if name not in {*METHODS, "measured"})
    strongest = max(baselines, key=lambda name: active[name]["value"])
    text = (
        f"The console states: *{found['headline']}* Of the same detail, the strongest baseline,"
        f" `{strongest}`, explains {shown_share(active[strongest])}, B-spline interpolation"
        f" {spline} %, zero filling {zerofill} %, and the network `srgan`"
        f" {shown_share(active['srgan'])}."
    )
    return "\n".join(textwrap.wrap(text, 130, break_long_words=False, break_on_hyphens=False))


PAGES = {"README.md": number_sentence, "docs/tutorial.md": number_lines}
"""Where the numbers stand between two comments, and in which words."""


def write_numbers(found: Mapping[str, Any]) -> None:
    """Put the numbers where pages have room for them."""
    for page, words in PAGES.items():
        path, text = HERE.parent.parent / page, f"{START}\n{words(found)}\n{END}"
        old = path.read_text(encoding="utf-8")
        path.write_text(
            re.sub(f"{START}\n.*?{END}", lambda _, text=text: text, old, flags=re.DOTALL),
            encoding="utf-8",
        )


def load(out: Path, name: str) -> nb.Nifti1Image:
    """An image of the run."""
    return nb.load(out / f"sub-01/func/{STEM}_{name}.nii.gz")


def panels(out: Path, best: str) -> dict[str, tuple[nb.Nifti1Image, nb.Nifti1Image]]:
    """Title to mean image and t map: the four series of the picture."""
    high = {"B-spline": "bspline", f"super-resolved ({best})": best, "measured": "measured"}
    found = {
        ACQUIRED: (
            load(out, "space-boldref_desc-acquired_bold"),
            load(out, f"space-boldref_contrast-{CONTRAST}_stat-t_desc-acquired_statmap"),
        ),
        **{
            title: (
                load(out, f"space-boldref_res-hr_desc-{name}_bold"),
                load(out, f"space-boldref_res-hr_contrast-{CONTRAST}_stat-t_desc-{name}_statmap"),
            )
            for title, name in high.items()
        },
    }
    return {
        title: (nb.Nifti1Image(np.asanyarray(a.dataobj).mean(-1), a.affine), b)
        for title, (a, b) in found.items()
    }


def draw_example(out: Path, path: Path) -> None:
    """The same slice and map as acquired, by B-spline, super-resolved and as measured; below, the
    marked square.
    """
    shown = panels(out, read_verdict(out)["best"])
    truth = shown["measured"][1]
    t = np.nan_to_num(truth.get_fdata())
    strong = np.where(t > THRESHOLD, t, 0)
    k = int(np.argmax(strong.sum((0, 1))))
    center = np.array(
        [
            np.average(np.arange(n), weights=strong[..., k].sum(1 - axis))
            for axis, n in enumerate(t.shape[:2])
        ]
    )
    edge = (center + 0.5) / t.shape[:2]  # in fields of view, which all grids share
    size = np.array(t.shape[:2]) * truth.header.get_zooms()[:2]
    limit = float(np.percentile(strong[strong > 0], 98))
    fig, axes = plt.subplots(2, 4, figsize=(12, 6.6), layout="constrained", facecolor="white")
    for column, (title, (mean, stat)) in enumerate(shown.items()):
        data, tmap = mean.get_fdata()[..., k].T, np.nan_to_num(stat.get_fdata()[..., k]).T
        for row, axis in enumerate(axes[:, column]):
            extent = (0, size[0], 0, size[1])
            axis.imshow(
                data, cmap="gray", origin="lower", extent=extent, interpolation="nearest", vmin=0
            )
            masked = np.ma.masked_less(tmap, THRESHOLD)
            drawn = axis.imshow(
                masked,
                cmap="inferno",
                origin="lower",
                extent=extent,
                interpolation="nearest",
                vmin=THRESHOLD,
                vmax=limit,
            )
            x, y = edge * size
            box = (x - ZOOM_MM, x + ZOOM_MM), (max(y - ZOOM_MM, 0), max(y + ZOOM_MM, 2 * ZOOM_MM))
            if row:
                axis.set(xlim=box[0], ylim=box[1])
            else:
                axis.set_title(title, fontsize=13)
                (x0, x1), (y0, y1) = box
                axis.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color="white", linewidth=1)
            axis.invert_xaxis() if mean.affine[0, 0] < 0 else None  # left is left
            axis.set_axis_off()
            for place, letter, side in ((0.02, "L", "left"), (0.98, "R", "right")):
                look = {
                    "ha": side,
                    "va": "top",
                    "color": "white",
                    "fontsize": 11,
                    "fontweight": "bold",
                }
                (
                    axis.text(place, 0.98, letter, transform=axis.transAxes, **look)
                    if not row
                    else None
                )
    bar = fig.colorbar(drawn, ax=axes, shrink=0.5, pad=0.01)
    bar.set_label("t, all stimuli against rest")
    save(fig, path)


def draw_accuracy(out: Path, path: Path) -> None:
    """Draw the measured detail that each series explains, in percent."""
    table = rows(out)
    fig, axes = plt.subplots(
        1, 2, figsize=(9, 3.2), sharey=True, layout="constrained", facecolor="white"
    )
    for axis, (region, title) in zip(
        axes,
        {"brain": "brain", "acquired40": "active in the acquired run (|t| > 4)"}.items(),
        strict=True,
    ):
        found = [explained_beyond(table, name, region) for name in SERIES]
        for place, (name, each) in enumerate(zip(SERIES, found, strict=True)):
            color = (
                "#0072B2" if name in METHODS else "#000000" if name == "measured" else "#999999"
            )
            if each["value"] is None:
                continue
            if each["lower"] is not None:
                ends = [100 * each[key] for key in ("lower", "upper")]
                axis.plot(ends, [place, place], color=color, linewidth=2)
            axis.plot([100 * each["value"]], [place], "o", color=color)
        axis.axvline(0, color="#999999", linewidth=0.8)
        axis.set_yticks(range(len(SERIES)), SERIES)
        axis.set_title(title)
        axis.set_xlabel("detail explained (%)")
    axes[0].invert_yaxis()
    save(fig, path)


def run_effects(work: Path) -> dict[str, np.ndarray]:
    """Return effects (X, Y, Z) of the tested contrast on complete slices, in percent.

    Keys are the series ``measured`` and ``sbl``, their detail with prefix ``detail_``, and their
    other part with prefix ``within_``. The left of the participant is at low indices.
    """
    folder = next(work.glob(f"**/{scope_name(STEM)}"))
    found = {}
    for name in ("measured", "sbl"):
        effects = Effects.load(folder / name / "measure_effects/effects.npz")
        conditions = {block.condition for block in effects.blocks}
        weights = effects.run_weights(dict.fromkeys(conditions, 1.0))
        assert weights is not None
        effect = 100 / effects.mean[effects.mask].mean() * effects.effect(weights)
        effect = effect[::-1] if effects.affine[0, 0] < 0 else effect
        detail = beyond_nyquist(effect, FACTOR)
        found |= {name: effect, f"detail_{name}": detail, f"within_{name}": effect - detail}
    return found


def draw_detail(found: Mapping[str, Any], work: Path, path: Path) -> None:
    """Explain detail, added detail and detail explained (SVG); `found`: see `numbers`.

    The maps show the square of inner slices with the most detail in the measured series.
    """
    effects = run_effects(work)
    energy = effects["detail_measured"][..., INNER] ** 2
    sums = sliding_window_view(energy, (PATCH, PATCH), axis=(0, 1)).sum((-1, -2))
    x, y, k = np.unravel_index(np.argmax(sums), sums.shape)
    shown = {
        name: effect[x : x + PATCH, y : y + PATCH, INNER][..., k].T
        for name, effect in effects.items()
    }
    row = int(np.argmax((shown["detail_measured"] ** 2).sum(1)))
    fig = plt.figure(figsize=(9, 9.4), facecolor="white")
    look = {"fontsize": 13, "fontweight": "bold", "va": "center"}
    for place, line in zip((0.975, 0.655, 0.335), DETAIL_LINES, strict=True):
        fig.text(0.02, place, line, **look)
    for bottom, series, titles in (
        (0.7, "measured", ("measured (3 mm)", "its 6 mm part", "true detail")),
        (0.38, "sbl", ("super-resolved with sbl", "acquired (6 mm)", "added detail")),
    ):
        for column, title in enumerate(titles):
            axis = fig.add_axes((0.05 + 0.285 * column, bottom, 0.235, 0.225))
            name = ("", "within_", "detail_")[column] + series
            axis.imshow(shown[name], "RdBu_r", origin="lower", vmin=-9, vmax=9)
            axis.images[0].set_interpolation("none")
            axis.set_title(title, fontsize=12)
            axis.set(xticks=[], yticks=[])
            axis.text(
                -0.107, 0.46, " −="[column], transform=axis.transAxes, ha="center", fontsize=24
            )
            if not column:
                axis.axhline(row, color="black", linewidth=1, linestyle=":")
    bar = fig.colorbar(axis.images[0], cax=fig.add_axes((0.91, 0.45, 0.014, 0.4)))
    bar.set_label("effect (% of the mean signal)")
    _draw_profile(fig.add_axes((0.075, 0.075, 0.39, 0.225)), shown, row)
    _draw_shares(fig.add_axes((0.655, 0.075, 0.325, 0.225)), found)
    with mpl.rc_context({"svg.hashsalt": "detail", "svg.fonttype": "none"}):
        fig.savefig(path, metadata={"Date": None})
    plt.close(fig)


def _draw_profile(axis: plt.Axes, shown: Mapping[str, np.ndarray], row: int) -> None:
    """Draw effects along the dotted line of the maps."""
    mm = 3 * np.arange(PATCH)
    measured, within = shown["measured"][row], shown["within_measured"][row]
    axis.fill_between(mm, measured, within, color="#f3cf84", linewidth=0, label="true detail")
    axis.plot(mm, measured, color="black", label="measured (3 mm)")
    axis.plot(mm, within, "--", color="#777777", label="acquired (6 mm)")
    axis.plot(mm, shown["sbl"][row], color="#0072B2", label="super-resolved")
    axis.legend(fontsize=10, frameon=False, loc="upper left", handlelength=1.5)
    axis.set(xlabel="position along the dotted line (mm)", ylabel="effect (%)")
    axis.spines[["top", "right"]].set_visible(False)


def shares(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the detail explained in active voxels, in percent, by series."""
    explained = found["explained_variance_beyond_nyquist"]["acquired40"]
    return {
        name: f"{100 * explained[name]['value']:.0f} %".replace("-", "−") for name in SHARE_LABELS
    }


def _draw_shares(axis: plt.Axes, found: Mapping[str, Any]) -> None:
    """Draw the detail explained in active voxels by series."""
    for place, (name, text) in enumerate(shares(found).items()):
        value = float(text.removesuffix(" %").replace("−", "-"))
        color = {"sbl": "#0072B2", "measured": "black"}.get(name, "#777777")
        axis.barh(place, value, color=color, height=0.6)
        axis.text(
            max(value, 0) + 4, place, text, va="center", fontsize=11, backgroundcolor="white"
        )
    axis.set_yticks(range(len(SHARE_LABELS)), SHARE_LABELS.values(), fontsize=11)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.axvline(100, color="black", linewidth=0.8, linestyle=":", zorder=0)
    axis.set(xlim=(-55, 125), xlabel="detail explained in active voxels (%)")
    axis.set_xticks((-40, 0, 50, 100), ("below 0:\nwrong", "0:\nnone", "50", "100:\nall"))
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)


def save(fig: plt.Figure, path: Path) -> None:
    """Write a figure as a small PNG."""
    buffer = io.BytesIO()
    fig.savefig(buffer, dpi=110)
    plt.close(fig)
    store(Image.open(buffer), path)


def store(image: Image.Image, path: Path) -> None:
    """Write an image with 128 colors, the borders of one color cut off."""
    plain = image.convert("RGB")
    path.parent.mkdir(parents=True, exist_ok=True)
    plain.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def browser() -> str | None:
    """A Chromium on the path."""
    return next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )


def photograph(page: Path, path: Path, size: tuple[int, int], *, whole: bool = True) -> None:
    """Draw a page as a browser without a window does; `whole`: cut off what is empty below."""
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        program = browser()
        assert program is not None
        subprocess.run(
            [
                program,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--virtual-time-budget=8000",
                f"--user-data-dir={folder}/profile",
                f"--window-size={size[0]},{size[1]}",
                f"--screenshot={shot}",
                page.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
            timeout=180,
        )
        image = Image.open(shot).convert("RGB")
        if whole:
            ink = np.argwhere((np.asarray(image) < 250).any((1, 2)))
            image = image.crop((0, 0, image.width, int(ink.max()) + 8)) if len(ink) else image
        store(image, path)


def photograph_report(out: Path) -> None:
    """The report's first screen, and its figures."""
    photograph(out / "sub-01.html", HERE / "report.png", SCREEN, whole=False)
    for name, width in FIGURES.items():
        for found in read_figures(out, "01"):
            if found.html or (found.figure, found.contrast) != (name, "n/a"):
                continue
            with tempfile.TemporaryDirectory() as folder:
                page = Path(folder) / "page.html"
                page.with_name("figure.svg").write_bytes(found.path.read_bytes())
                page.write_text(
                    '<body style="margin:0;background:#fff"><img src="figure.svg"'
                    f' width="{width}">'
                )
                photograph(page, HERE / "report" / f"{name}.png", (width, 2400))
            break


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="folder for the outputs of the example"
    )
    folder = parser.parse_args().folder
    resources = run_example(folder)
    out = folder / "full"
    HERE.mkdir(exist_ok=True)
    found = numbers(out)
    found["resources"] = resources
    found["outputs"] = {level: count_files(folder / level) for level in LEVELS}
    (HERE / "example.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (HERE / "example.tsv").write_text(select_metrics(out, found["best"]))
    write_numbers(found)
    measured_numbers.main()
    draw_example(out, HERE / "example.png")
    draw_accuracy(out, HERE / "accuracy.png")
    draw_detail(found, folder / "work", HERE / "detail.svg")
    if browser():
        photograph_report(folder / "standard")
        photograph(folder / "blind/sub-01.html", HERE / "report_blind.png", SCREEN, whole=False)


if __name__ == "__main__":
    main()
