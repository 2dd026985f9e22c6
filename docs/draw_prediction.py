"""True share over the share tested one level of resolution down, one mark a run, from `benchmarks/people.py predict`.

    python docs/draw_prediction.py

writes `docs/figures/tested_share.svg`.
"""

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results" / "people_tested.json"
SERIES = {"sbl": "o", "focuss": "s", "wmn": "^", "sdmod": "D"}
COLORS = {"A": "#0072B2", "B": "#D55E00", "C": "#009E73"}


def main() -> None:
    """Draw it."""
    mpl.rcParams |= {"svg.hashsalt": "tested_share", "svg.fonttype": "none", "font.size": 9}
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    ratio = np.mean(
        [np.mean([row["sbl true"] / row["sbl tested"] for row in rows if row["person"] == person]) for person in COLORS]
    )
    figure, axes = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
    end = 1.1 * max(row[f"{name} tested"] for row in rows for name in SERIES)
    axes.plot((0, end), (0, end), color=".7", lw=1, ls="--", label="equal")
    axes.plot((0, end), (0, ratio * end), color="k", lw=1, label=f"sbl: {ratio:.2f} × tested")
    for name, marker in SERIES.items():
        lead = name == "sbl"
        for row in rows:
            color = COLORS[row["person"]]
            axes.scatter(row[f"{name} tested"], row[f"{name} true"], marker=marker, s=42 if lead else 22,
                         facecolors=color if lead else "none", edgecolors=color)  # fmt: skip
    marks = [mpl.lines.Line2D([], [], marker=each, color="k", ls="", markerfacecolor="k" if name == "sbl" else "none",
                              label=name) for name, each in SERIES.items()]  # fmt: skip
    people = [mpl.lines.Line2D([], [], marker="o", color=each, ls="", label=f"person {name}")
              for name, each in COLORS.items()]  # fmt: skip
    axes.legend(handles=[*axes.get_legend_handles_labels()[0], *marks, *people], frameon=False, fontsize=8)
    axes.set(xlim=(0, end), ylim=(0, end), xlabel="share tested one level of resolution down",
             ylabel="true share at the resolution of the results")  # fmt: skip
    figure.savefig(HERE / "figures" / "tested_share.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
