"""The paper with its numbers and its figure: ``python paper/make_paper.py``.

`paper/template.md` is the text; ``{{name}}`` stands where a number belongs. All of them are read
from the stored results (`benchmarks/results`, `benchmarks/FINDINGS.md`, `docs/figures`), in which
command, commit and date are named, and written with the text to `paper/paper.md`;
`paper/people.png` is the figure. `tests/unit/package` has tests that both are up to date and that
the template contains no number of its own.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "docs"))

import people_tables  # noqa: E402  # beside the pages, which have the same table


def rows(name: str) -> list[dict[str, Any]]:
    """Rows of a stored table."""
    found: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))["rows"]
    return found


def cells(path: Path, *begin: str) -> list[str]:
    """The cells that follow those given, in the one row of a file that begins with them."""
    (row,) = (
        line for line in path.read_text("utf-8").splitlines() if line.startswith(_row(*begin))
    )
    return [cell.strip() for cell in row.strip("| ").split("|")][len(begin) :]


def _row(*begin: str) -> str:
    return "".join(f"| {cell} " for cell in begin) + "|"


def percent(value: float) -> str:
    """A share in percent, without a minus before 0."""
    return f"{round(100 * value) + 0}"


def short(value: float, digits: int = 2) -> str:
    """A number of less than one as the pages write it: .88, and −.010."""
    return re.sub(r"(?<!\d)0\.", ".", f"{value:.{digits}f}").replace("-", "−")


def numbers() -> dict[str, str]:
    """Every number of the paper, by its name in the template."""
    people = people_tables.means()
    series = dict(zip(("zerofill", "sbl", "calibrated", "measured"), people, strict=True))
    example = json.loads((ROOT / "docs/figures/example.json").read_text("utf-8"))
    active = example["explained_variance_beyond_nyquist"]["acquired40"]
    regions = cells(ROOT / "benchmarks/FINDINGS.md", "upper quarter of the range", "`sbl`")
    image = cells(RESULTS / "adversarial.md", "with", "PSNR (dB)")
    predictors = (RESULTS / "people_word.md").read_text("utf-8").count(" does not separate: ")
    noise = {
        fwhm: [row["per mille"] for row in rows("null_noise_people") if row["fwhm (mm)"] == fwhm]
        for fwhm in (0.0, 5.0)
    }
    mutants = next(row for row in rows("mutants") if row["part"] == "all")
    whole = next(row for row in rows("paper_subject") if row["stage"] == "the whole run")
    return {
        "people": people_tables.table(),
        "sbl": str(people[series["sbl"]][0]),
        "sbl_low": str(people[series["sbl"]][1]),
        "sbl_high": str(people[series["sbl"]][2]),
        "calibrated": str(people[series["calibrated"]][0]),
        "example_sbl": percent(active["sbl"]["value"]),
        "example_low": percent(active["sbl"]["lower"]),
        "example_high": percent(active["sbl"]["upper"]),
        "example_bspline": percent(active["bspline"]["value"]),
        "example_sdmod": percent(active["sdmod"]["value"]),
        "example_srgan": percent(active["srgan"]["value"]),
        "region_total": regions[0],
        "region_grid": regions[1],
        "region_smoothing": regions[2],
        "region_method": regions[3],
        "adversarial": short(float(image[2]), 3),
        "adversarial_low": short(float(image[3]), 3),
        "adversarial_high": short(float(image[4]), 3),
        "predictors": str(predictors),
        "mutants": str(mutants["faults"] - mutants["equivalent"]),
        "mutants_killed": str(mutants["detected"]),
        "noise_low": short(min(noise[0.0])),
        "noise_high": short(max(noise[0.0])),
        "noise_smooth": short(max(noise[5.0])),
        "nilearn": short(min(row["ols"] for row in rows("nilearn_agreement")), 3),
        "minutes": f"{float(whole['step s'].split()[0]) / 60:.1f}",
        "memory": f"{float(whole['peak GB of a step'].split()[0]):.1f}",
    }


def paper() -> str:
    """The text of the paper with its numbers; KeyError for a name that is no number."""
    known = numbers()
    text = (HERE / "template.md").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: known[found[1]], text)


def drawn() -> list[list[Any]]:
    """What the figure shows: data set, series and percent of every run, and the means."""
    means = [["mean", name, mean] for name, (mean, _, _) in people_tables.means().items()]
    return [*(list(run) for run in people_tables.runs()), *means]


def draw(path: Path) -> None:
    """Draw the figure; what it shows stands in the description of the file."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(people_tables.means())
    fig, axis = plt.subplots(figsize=(7.2, 2.6), layout="constrained")
    for data, name, value in drawn():
        y = -names.index(name)
        if data == "mean":
            axis.plot([value, value], [y - 0.3, y + 0.3], color="black", linewidth=2, zorder=1)
        else:
            axis.plot(value, y, "o", color=people_tables.COLORS[data], zorder=2)
    for data, color in people_tables.COLORS.items():
        axis.plot([], [], "o", color=color, label=data)
    axis.set(xlim=(-3, 103), xlabel="detail explained (%)")
    axis.set_yticks([-k for k in range(len(names))], [name.replace("`", "") for name in names])
    axis.grid(axis="x", alpha=0.35)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.legend(loc="upper right", fontsize="small")
    fig.savefig(path, dpi=200, metadata={"Description": json.dumps(drawn()), "Software": None})
    plt.close(fig)


def main() -> None:
    """Write the paper and its figure."""
    (HERE / "paper.md").write_text(paper(), "utf-8")
    draw(HERE / "people.png")


if __name__ == "__main__":
    main()
