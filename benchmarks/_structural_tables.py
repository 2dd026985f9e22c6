"""Tables and plots of structural.py: likeness, effects of what was varied, volumes and their
agreement.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import _table
import numpy as np
from _structural_data import ALIGNMENTS, TISSUES, Align, Heads
from _structural_run import Cell
from numpy.typing import NDArray

from bids_sr.phantom.still_scans import CONTRASTS
from bids_sr.stats.group.paired_tests import differences, signed_rank

Array = NDArray[Any]
Row = dict[str, Any]
Series = tuple[str, Align]
# attention-unet, sections 4.4 to 4.6: PSNR (dB), SSIM, MAE, NMSE on its validation set, whole
# slices, fused
PAPER = {
    "affine": "35.39 / .9852 / 3.78e-3 / 4.32e-10",
    "rigid": "35.2 / .984 / 3.88e-3 / 4.35e-10",
    "nonlinear": "worse in all tests",
}
PAPER_EFFECTS = {
    "fused over single": "better",
    "slices over patches": "better, slightly where fused",
    "critic in the loss over beside it": "no gain",
    "affine over rigid": "+0.19 dB",
    "nonlinear over rigid": "worse",
    "attunet over unet": "",
    "attunet over unet wide": "better",
    "attunet over vit": "better",
}
VOLUMES = (
    "attention-unet: super-resolved volumes of fluid, venous sinuses and pial layers lay 0 to"
    " 20-40 % from those of "
)
VOLUMES += (
    "the fine scans, and repeated fine scans differed by medians of 1 to 4.7 % (fluid), 0.5 to 2.7"
    " % (venous "
)
VOLUMES += "sinuses), 9.2 to 12.7 % (pial layers)."


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Bland and Altman's limits of agreement."""

    # means, differences: one for each pair, the points of the plot
    means: tuple[float, ...]
    differences: tuple[float, ...]
    bias: float  # mean difference
    # lower, upper: bias -+ 1.96 standard deviations (n - 1) of the differences
    lower: float
    upper: float
    percent: bool  # whether differences are in percent of the mean of the pair


def bland_altman(
    reference: Sequence[float], found: Sequence[float], *, percent: bool = True
) -> Agreement:
    """Agreement of two measurements of the same things; differences are found less reference.

    Parameters
    ----------
    reference, found : one value each (ml, for volumes)
    percent : differences in percent of the mean of the two, as attention-unet, figure 10, plots
        them

    Raises
    ------
    ValueError : fewer than two pairs, lists of different length, or a mean of 0 under percent
    """
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(found, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(
            f"limits of agreement want two lists of one length of at least 2, not {a.shape} and"
            f" {b.shape}"
        )
    means = (a + b) / 2
    differences = b - a
    if percent:
        if not means.all():
            raise ValueError("a pair with a mean of 0 has no difference in percent")
        differences = 100 * differences / means
    bias, spread = float(differences.mean()), 1.96 * float(differences.std(ddof=1))
    return Agreement(
        means=tuple(means.tolist()),
        differences=tuple(differences.tolist()),
        bias=bias,
        lower=bias - spread,
        upper=bias + spread,
        percent=percent,
    )


def keep_all(
    given: argparse.Namespace,
    heads: Heads,
    cells: Sequence[Cell],
    found: Mapping[Series, list[Row]],
    notes: Mapping[str, list[Row]],
    facts: Mapping[int, Row],
) -> None:
    """Write all tables and plots."""
    budget = (
        f"{given.seconds:g} s of processor a network, fast recipes, one seed; {given.train}"
        f" training heads, of which every fourth chooses the stopping point, {given.test} test"
        f" heads; phantom {given.preset}."
    )
    short = [
        f"{cell.method} ({notes[cell.name][0]['steps']} steps)"
        for cell in cells
        if _hardly(notes[cell.name])
    ]
    if short:
        budget += (
            " Hardly trained in that time, and no measure of what the network can do:"
            f" {', '.join(short)}."
        )
    likeness_table(cells, found, notes, [budget, *_registration(facts, heads)])
    effects_table(given, cells, found, budget)
    volumes_table(found, facts, heads, budget)
    draw_likeness([cell for cell in cells if not _hardly(notes[cell.name])], found)
    draw_volumes(found, facts, heads)


def _hardly(took: Sequence[Row]) -> bool:
    """Whether the networks of a cell made so few steps that their weights are nearly those they
    began with.
    """
    return any(one["steps"] < 10 for one in took)


def _mean(figures: Sequence[Row], measure: str, contrasts: Sequence[str] = CONTRASTS) -> Array:
    """A measure of each head, mean over contrasts."""
    return np.array(
        [np.mean([head["likeness"][c][measure] for c in contrasts]) for head in figures]
    )


def _registration(facts: Mapping[int, Row], heads: Heads) -> list[str]:
    """How far registration was off, in words."""
    out = []
    for align in ALIGNMENTS:
        errors = [one["errors_mm"][align] for one in facts.values()]
        kinds = {
            kind: [v for e in errors for k, v in e.items() if k.endswith(kind)]
            for kind in ("highres", "lowres")
        }
        low, high = (
            f"{np.mean(kinds[kind]):.2f} (largest {np.max(kinds[kind]):.2f})" for kind in kinds
        )
        out.append(
            f"{align}: scans lie {low} mm (fine) and {high} mm (coarse) from where they should"
            " (rms in the brain)."
        )
    share = 100 * heads.gradient
    return [
        *out,
        (
            f"The coarse scanner's gradients are off by up to {share:g} % an axis: synthetic, put"
            " in here."
        ),
    ]


def likeness_table(
    cells: Sequence[Cell],
    found: Mapping[Series, list[Row]],
    notes: Mapping[str, list[Row]],
    remarks: list[str],
) -> None:
    """One row a series."""
    by_name = {cell.name: cell for cell in cells}
    rows = []
    for (name, align), figures in found.items():
        cell, own = by_name.get(name), _mean(figures, "psnr")
        over = own - _mean(found["bspline", align], "psnr")
        took = notes.get(name, [])
        rows.append(
            {
                "method": cell.method if cell else name,
                "alignment": align,
                "contrasts": "" if cell is None else "fused" if cell.fused else "single",
                "seen": "" if cell is None else "patches" if cell.patches else "slices",
                "critic": (
                    ""
                    if cell is None or cell.method != "attunet"
                    else "in the loss"
                    if cell.critic
                    else "beside"
                ),
                "PSNR (dB)": round(float(own.mean()), 2),
                "SD over heads": round(_spread(own), 2),
                "over bspline (dB)": round(float(over.mean()), 2),
                **{
                    f"PSNR {c}": round(float(_mean(figures, "psnr", [c]).mean()), 2)
                    for c in CONTRASTS
                },
                "SSIM": round(float(_mean(figures, "ssim").mean()), 4),
                "MAE": round(float(_mean(figures, "mae").mean()), 5),
                "NMSE": round(float(_mean(figures, "nmse").mean()), 5),
                "steps": took[0]["steps"] if took else "",
                "networks": len(took) or "",
                "processor s": (
                    round(sum(one["processor seconds"] for one in took), 1) if took else ""
                ),
                "parameters": took[0]["parameters"] if took else "",
                "paper": PAPER[align] if cell and cell == Cell(align=align) else "",
            }
        )
    ways = ("method", "alignment", "contrasts", "seen", "critic")
    low = [row for row in rows if row["contrasts"] and row["over bspline (dB)"] <= 0]
    below = [" ".join(str(row[way]) for way in ways).strip() for row in low]
    remarks += [
        (
            "What is held out is looked at in whole slices also where networks are trained on"
            " patches and applied in patches: their stopping point is chosen by something else"
            " than what they are judged by."
        ),
        f"Not above the cubic spline in PSNR: {'; '.join(below) or 'none'}.",
        (
            "Paper: PSNR / SSIM / MAE / NMSE of real pairs of two scanners, over whole images with"
            " their background, whose zeros raise PSNR and SSIM; only signs of differences can be"
            " compared with figures of a phantom's brain. The NMSE of the paper divides voxel by"
            " voxel; ours is the squared error over the squared scan."
        ),
        (
            "One frame for all scans of a head is the fine T1w here, the template in the paper:"
            " what the paper's affine gains by making heads alike is not in these figures."
        ),
    ]
    _table.keep(
        "structural", "Attention U-Net on three contrasts of phantom heads", rows, remarks=remarks
    )


def _spread(values: Array) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def pairs_of(cells: Sequence[Cell]) -> dict[str, list[tuple[Cell, Cell]]]:
    """Cells that differ in one thing alone, by what that is; the better one of the paper first."""
    there = set(cells)
    ways = list(product(ALIGNMENTS, (True, False), (False, True), (False, True)))
    one = [Cell(align=a, fused=f, patches=p, critic=c) for a, f, p, c in ways]
    made = {
        "fused over single": [(c, _other(c, fused=False)) for c in one if c.fused],
        "slices over patches": [(c, _other(c, patches=True)) for c in one if not c.patches],
        "critic in the loss over beside it": [
            (_other(c, critic=True), c) for c in one if not c.critic
        ],
        "affine over rigid": [(_other(c, align="affine"), c) for c in one if c.align == "rigid"],
        "nonlinear over rigid": [
            (_other(c, align="nonlinear"), c) for c in one if c.align == "rigid"
        ],
        **{
            f"attunet over {name}": [(Cell(), Cell(method=name))]
            for name in ("unet", "unet wide", "vit")
        },
    }
    kept = {
        name: [(a, b) for a, b in pairs if a in there and b in there]
        for name, pairs in made.items()
    }
    return {name: pairs for name, pairs in kept.items() if pairs}


def _other(cell: Cell, **changed: Any) -> Cell:
    return Cell(
        **{name: getattr(cell, name) for name in ("align", "fused", "patches", "critic")} | changed
    )


def effects_table(
    given: argparse.Namespace,
    cells: Sequence[Cell],
    found: Mapping[Series, list[Row]],
    budget: str,
) -> None:
    """What each thing that was varied is worth, paired over test heads."""
    rows = []
    for name, pairs in pairs_of(cells).items():
        for contrasts in (CONTRASTS, ("T1w",)) if "rigid" in name else (CONTRASTS,):
            sides = [
                np.mean(
                    [_mean(found[cell.name, cell.align], "psnr", contrasts) for cell in side],
                    axis=0,
                )
                for side in zip(*pairs, strict=True)
            ]
            rows.append(
                _effect(name, "+".join(contrasts), len(pairs), *sides, PAPER_EFFECTS[name])
            )
    for cell in (Cell(align=align) for align in ALIGNMENTS):
        if cell in cells:
            sides = [_mean(found[name, cell.align], "psnr") for name in (cell.name, "bspline")]
            rows.append(
                _effect(
                    f"attunet over bspline, {cell.align}", "+".join(CONTRASTS), 1, *sides, "better"
                )
            )
    if not rows:
        return
    least = 2.0 ** (1 - given.test)
    _table.keep(
        "structural_effects",
        "What was varied, paired over test heads",
        rows,
        remarks=[
            budget,
            (
                f"Wilcoxon's signed-rank test over {given.test} heads, two-sided, exact: no p is"
                f" below {least:.3g}, and none is corrected for the number of rows. Each head's"
                " figure is the mean over the pairs of cells. The spread over seeds of training"
                " is not in it: with one seed, a difference of single cells may be one of seeds."
            ),
            (
                "Alignments: each is judged against the fine scans in its own alignment, as in the"
                " paper. Rows of T1w alone: the fine T1w stays on its own grid in all three, and"
                " differs by its scale, which follows the mean of the coarse scan, and by what is"
                " cut above 1. A deformation bends the coarse scan onto the fine one, by which it"
                " is judged."
            ),
        ],
    )


def _effect(name: str, contrasts: str, cells: int, first: Array, second: Array, paper: str) -> Row:
    found = differences(first.tolist(), second.tolist())
    p = signed_rank(found)["p_wilcoxon"]
    claim = "not shown" if p >= 0.05 else "better" if found.mean() > 0 else "worse"
    return {
        "difference": name,
        "contrasts": contrasts,
        "pairs of cells": cells,
        "mean (dB)": round(float(found.mean()), 3),
        "smallest head": round(float(found.min()), 3),
        "largest head": round(float(found.max()), 3),
        "p": round(p, 4),
        "here": claim,
        "paper": paper,
    }


def retest(
    facts: Mapping[int, Row], found: Mapping[Series, list[Row]], heads: Heads, name: str
) -> Agreement:
    """Agreement of the second session's volumes with those of the first."""
    first = [one["volumes"][name]["measured"] for one in found["bspline", "rigid"]]
    return bland_altman(first, [facts[seed]["retest_ml"][name] for seed in heads.test])


def _in_tissues(figures: Sequence[Row]) -> bool:
    """Whether tissues were looked for, and told apart in every head."""
    return all(one["volumes"] is not None for one in figures)


def volumes_table(
    found: Mapping[Series, list[Row]], facts: Mapping[int, Row], heads: Heads, budget: str
) -> None:
    """One row a series and tissue, the yardsticks first."""
    if len(heads.test) < 2:
        return
    rows = []
    for tissue in TISSUES:
        first = [one["volumes"][tissue]["measured"] for one in found["bspline", "rigid"]]
        shares = [facts[seed]["shares_ml"][tissue] for seed in heads.test]
        rows.append(
            _volumes("second session", "", tissue, first, retest(facts, found, heads, tissue), {})
        )
        rows.append(
            _volumes(
                "what the phantom is made of", "", tissue, first, bland_altman(first, shares), {}
            )
        )
        for (name, align), figures in found.items():
            if not _in_tissues(figures):
                continue
            own = [one["volumes"][tissue] for one in figures]
            agreed = bland_altman([o["measured"] for o in own], [o["found"] for o in own])
            shared = {
                what: round(float(np.mean([o[what] for o in own if o[what] is not None])), 4)
                for what in ("dice", "tpf", "tnf", "ppv")
            }
            rows.append(
                _volumes(name, align, tissue, [o["measured"] for o in own], agreed, shared)
            )
    remarks = [
        budget,
        (
            "Differences in percent of the mean of both volumes, found less measured; limits are"
            f" bias -+ 1.96 SD over heads. With {len(heads.test)} heads the limits themselves are"
            " rough."
        ),
        VOLUMES + " Its tissues are others than ours, of patients, by other programs.",
        (
            "A second session of the phantom differs in position, receive field and noise alone:"
            " no tissue changes, so it is a narrower yardstick than people scanned weeks apart."
        ),
    ]
    lost = [
        f"{name}, {align}"
        for (name, align), figures in found.items()
        if any("no tissues" in f for f in figures)
    ]
    if lost:
        remarks.append(f"Atropos found no tissues in some or all images of: {'; '.join(lost)}.")
    _table.keep(
        "structural_volumes",
        "Volumes of tissues against those of the fine scans",
        rows,
        remarks=remarks,
    )


def _volumes(
    name: str, align: str, tissue: str, known: list[float], agreed: Agreement, shared: Row
) -> Row:
    return {
        "series": name,
        "alignment": align,
        "tissue": tissue,
        "measured (ml)": round(float(np.mean(known)), 1),
        "bias (%)": round(agreed.bias, 2),
        "lower limit": round(agreed.lower, 2),
        "upper limit": round(agreed.upper, 2),
        **{what: shared.get(what, "") for what in ("dice", "tpf", "tnf", "ppv")},
    }


def _pyplot(salt: str) -> Any:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = salt
    from matplotlib import pyplot as plt

    return plt


def draw_likeness(cells: Sequence[Cell], found: Mapping[Series, list[Row]]) -> None:
    """PSNR over the cubic spline of the same alignment: a row a cell, a point a head, a line for
    the mean.
    """
    if not cells:
        return
    plt = _pyplot("structural")
    figure, axes = plt.subplots(figsize=(7.5, 0.24 * len(cells) + 1.2))
    for row, cell in enumerate(cells):
        over = _mean(found[cell.name, cell.align], "psnr") - _mean(
            found["bspline", cell.align], "psnr"
        )
        color = plt.get_cmap("tab10")(ALIGNMENTS.index(cell.align))
        axes.plot(over, [row] * len(over), ".", color=color)
        axes.plot([over.mean()] * 2, [row - 0.35, row + 0.35], "-", color=color)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(cells)), [cell.name.replace("_", " ") for cell in cells], fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="PSNR over the cubic spline in the same alignment (dB); a point a test head")
    figure.tight_layout()
    figure.savefig(_table.RESULTS / "structural.svg", metadata={"Date": None})
    plt.close(figure)


def draw_volumes(
    found: Mapping[Series, list[Row]], facts: Mapping[int, Row], heads: Heads
) -> None:
    """Bland-Altman plots, tissues in rows, series in columns; gray: limits of session two."""
    shown = [series for series in found if series[1] == "rigid" and _in_tissues(found[series])]
    if len(heads.test) < 2 or not shown:
        return
    plt = _pyplot("structural_volumes")
    size = (2.0 * len(shown) + 0.6, 5.6)
    figure, axes = plt.subplots(
        len(TISSUES), len(shown), figsize=size, sharex="row", sharey="row", squeeze=False
    )
    for panels, tissue in zip(axes, TISSUES, strict=True):
        again = retest(facts, found, heads, tissue)
        for ax, (name, align) in zip(panels, shown, strict=True):
            own = [one["volumes"][tissue] for one in found[name, align]]
            agreed = bland_altman([o["measured"] for o in own], [o["found"] for o in own])
            ax.axhspan(again.lower, again.upper, color="0.85")
            ax.axhline(0, color="black", linewidth=0.6)
            ax.plot(agreed.means, agreed.differences, ".")
            for level, line in ((agreed.bias, "-"), (agreed.lower, "--"), (agreed.upper, "--")):
                ax.axhline(level, linestyle=line, linewidth=0.9, color="tab:blue")
            if tissue == TISSUES[0]:
                ax.set_title(name.replace("_", " ").replace("rigid ", ""), fontsize=7)
        panels[0].set_ylabel(f"{tissue.upper()}: difference (%)", fontsize=8)
    axes[-1][0].set_xlabel("mean of both (ml)", fontsize=8)
    figure.tight_layout()
    figure.savefig(_table.RESULTS / "structural_volumes.svg", metadata={"Date": None})
    plt.close(figure)
