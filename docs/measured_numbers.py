"""Numbers of measurements within sentences: ``python docs/measured_numbers.py``.

A number stands in a page between ``<!--:name-->`` and ``<!--/-->``, where name is a key of
`numbers`. The values are read from `benchmarks/results`; nothing is measured here.
"""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(HERE))

import people_tables  # noqa: E402  # beside this file

from bids_sr.sr.method import get_method  # noqa: E402

PAGES = (
    "docs/papers/index.md",
    "README.md",
    *sorted(f"docs/{path.relative_to(HERE)}" for path in HERE.rglob("*.md")),
)
PLACE = re.compile(r"<!--:([a-z0-9_]+)-->.*?<!--/-->", re.DOTALL)


def rows(name: str) -> list[dict[str, Any]]:
    """Rows of a stored table, of its JSON or, without one, of its Markdown."""
    stored = RESULTS / f"{name}.json"
    if stored.exists():
        found: list[dict[str, Any]] = json.loads(stored.read_text("utf-8"))["rows"]
        return found
    lines = (RESULTS / f"{name}.md").read_text("utf-8").splitlines()
    head, _, *cells = (
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in lines
        if line.startswith("|")
    )
    return [dict(zip(head, row, strict=True)) for row in cells]


def short(value: float, digits: int = 2) -> str:
    """As the pages write a number below one: .88, and −.01."""
    return re.sub(r"(?<!\d)0\.", ".", f"{value:.{digits}f}").replace("-", "−")


def span(values: Iterable[float]) -> str:
    """Lowest and highest: .88 to 1.32."""
    found = list(values)
    return f"{short(min(found))} to {short(max(found))}"


def percents(values: Iterable[float]) -> str:
    """Lowest and highest in whole percent: 11 to 15."""
    shares = list(values)
    return f"{100 * min(shares):.0f} to {100 * max(shares):.0f}"


def _largest_change_by_halves() -> float:
    """Largest change of explained variance where W is learned from half of the volumes."""
    found = rows("double_dipping")
    whole = {row["run"]: row["active"] for row in found if row["W from"] == "as the program"}
    return max(
        abs(float(row["active"]) - float(whole[row["run"]]))
        for row in found
        if row["W from"].endswith("half of the volumes")
    )


def participant_numbers() -> dict[str, str]:
    """Return numbers of the maps of all runs of a participant."""

    def coverages(smoothing_mm: float, region: str) -> str:
        values = [
            float(row["coverage, assumed"])
            for row in rows("participant_maps_pairs")
            if (row["moved"], float(row["mm"]), row["region"]) == ("cubic", smoothing_mm, region)
        ]
        return f"{short(min(values), 3)} to {short(max(values), 3)}"

    def explained(table: str, weights: str) -> str:
        (value,) = (
            row[weights]
            for row in rows(table)
            if (row["contrast"], float(row["mm"]), row["series"]) == ("all", 0.0, "sbl")
        )
        return short(float(value), 3)

    whole, halves = "participant_maps_weights", "participant_maps_halves_weights"
    equal, inverse = "equal", "inverse variance, by voxel"
    return {
        "participant_coverage": coverages(0.0, "active"),
        "participant_coverage_5": coverages(5.0, "active"),
        "participant_equal": explained(whole, equal),
        "participant_inverse": explained(whole, inverse),
        "participant_halves_equal": explained(halves, equal),
        "participant_halves_inverse": explained(halves, inverse),
    }


def people_numbers() -> dict[str, str]:
    """Return the numbers of the runs of three participants, in percent."""

    def listed(values: Iterable[float]) -> str:
        *first, last = (f"{100 * value:.0f}" for value in values)
        return f"{', '.join(first)} and {last}"

    known, weak = people_tables.whole_brain()
    dipped: dict[str, list[float]] = {}
    for row in rows("double_dipping"):
        dipped.setdefault(row["W from"], []).append(float(str(row["active"]).split()[0]))
    return {
        "people_brain": f"{min(known):.0f} to {max(known):.0f}",
        "people_brain_contrasts": f"{min(weak):.0f} to {max(weak):.0f}".replace("-", "−"),
        "people_with_response": listed(dipped["as the program"]),
        "people_without_response": listed(dipped["less the response to conditions"]),
        "people_veins": percents(row["share of energy"] for row in rows("detail_places")),
    }


def region_numbers() -> dict[str, str]:
    """Return medians of the differences of mean effects from measured means, in points."""
    found = {row["regions"]: row for row in rows("region_acquired")}
    clusters, labels = found["clusters"], found["atlas labels, q at most .05"]
    return {
        "region_clusters": str(clusters["number"]),
        "region_measured": f"{float(clusters['measured, median']):.1f}",
        "region_acquired": short(float(clusters["acquired: median"])),
        "region_sbl": short(float(clusters["sbl: median"])),
        "region_acquired_labels": short(float(labels["acquired: median"])),
        "region_sbl_labels": short(float(labels["sbl: median"])),
    }


def large_effect_numbers() -> dict[str, str]:
    """Return numbers of voxels with a large effect, in runs that have such voxels."""

    found = [row for row in rows("large_effects") if row["above (%)"] == 5 and row["voxels"]]
    numbers = {
        "voxels": percents(row["voxels"] / row["active"] for row in found),
        "detail": percents(row["share of detail"] for row in found),
        "tested": percents(float(row["tested"].split()[0]) for row in found),
        "tested_without": percents(float(row["tested without"].split()[0]) for row in found),
        "measured": percents(row["measured"] for row in found),
        "measured_without": percents(row["measured without"] for row in found),
    }
    pairs = [row["dark"].split(", others ") for row in found]
    for key, values in zip(("dark", "other_dark"), zip(*pairs, strict=True), strict=True):
        numbers[key] = percents(map(float, values))
    return {f"large_{name}": value for name, value in numbers.items()}


def numbers() -> dict[str, str]:
    """Return every number of the pages by its name."""
    means = people_tables.means()
    noise = rows("null_noise_people")
    blind = [
        row
        for row in rows("posterior_coverage")
        if row["sbl"] == "blind" and row["mm"] in (0, 0.0)
    ]
    regions = [
        row for row in rows("region_coverage") if row["run"] != "all" and float(row["mm"]) == 0
    ]
    spaces = {
        (row["space"], row["voxels"]): 100 * float(row["beyond, active30"])
        for row in rows("spaces")
        if row["series"] == "sbl"
    }
    template = "MNI152NLin2009aSym"
    errors: dict[str, list[float]] = {}
    for row in rows("posterior_foreign"):
        errors.setdefault(row["effect"], []).append(float(row["rms error / SD"]))
    wrong = [
        row
        for row in rows("posterior_regions")
        if (row["sbl"], row["contrast"], row["region"]) == ("blind", "all", "fdr")
    ]
    *halves, all_halves = rows("other_half")
    tested = [row for row in rows("tested_detail_counts") if row["runs"] == "unsmoothed"]
    threads = {row["training"]: row["ratio"] for row in rows("training_threads")}
    worlds = {row["draws of"]: row for row in rows("tested_worlds")}
    maps = {(row["draws of"], row["map"]): row for row in rows("safe_map")}
    placed = "own fluctuations or maxima"
    safe, others = maps[placed, "5 mm"], maps["other kinds", "5 mm"]
    scale = {(row["participants"], row["what"]): row for row in rows("scale")}
    example = json.loads((HERE / "figures/example.json").read_text("utf-8"))
    took, outputs = example["resources"], example["outputs"]
    srgan = next(row for row in rows("small_srgan") if row["variant"] == "srgan")
    return {
        "srgan_hours": f"{get_method('srgan').cost('paper').always / 3600:.0f}",
        "two_threads": short(threads["srgan:paper"], 1),
        "sbl": str(means["`sbl`"][0]),
        "strongest": people_tables.strongest_baseline()[0],
        "strongest_baseline": str(people_tables.strongest_baseline()[1][0]),
        "zero_filling": str(means["zero filling"][0]),
        "measured": str(means["measured (other half of the run)"][0]),
        **people_numbers(),
        "w_halves": short(_largest_change_by_halves()),
        "calibration_gain": percents(
            float(row["less blind, active"].split()[0]) for row in rows("people_runs_gain")
        ),
        "null_0": span(row["per mille"] for row in noise if row["fwhm (mm)"] == 0),
        "null_5": span(row["per mille"] for row in noise if row["fwhm (mm)"] == 5),
        "coverage_down": span(float(row["one level down"]) for row in blind),
        "coverage_brain": span(float(row["brain"]) for row in blind),
        "coverage_region": span(float(row["coverage"]) for row in regions),
        "coverage_region_noise": span(float(row["noise alone"]) for row in regions),
        "coverage_clusters": span(
            row["coverage"] for row in rows("cluster_coverage") if row["run"] != "all"
        ),
        "coverage_clusters_all": short(float(all_halves["coverage"]), 3),
        "clusters_all": str(all_halves["clusters"]),
        "coverage_clusters_halves": span(float(row["coverage"]) for row in halves),
        **region_numbers(),
        "coverage_small_sd": span(
            row["coverage"]
            for row in rows("small_sd_coverage")
            if row["voxels of"] in {"no local excess", "smallest tenth"}
        ),
        "coverage_active": span(float(row["active in the truth"]) for row in blind),
        "error_people": span(
            float(row["rms error / SD"]) for row in blind if row["rms error / SD"] != ""
        ),
        **{
            f"error_{re.sub(r'[^a-z0-9]+', '_', effect)}": span(found)
            for effect, found in errors.items()
        },
        **{
            f"wrong_{series}": percents(float(row[column]) for row in wrong)
            for series, column in (("sbl", "actual"), *((x, x) for x in ("bspline", "measured")))
        },
        **{
            name: f"{spaces['func', 'of the series'] - spaces[space]:.1f}"
            for name, space in (
                ("space_t1w", ("T1w", "of the series")),
                ("space_template", (template, "of the series")),
                ("space_2mm", (template, "2 mm")),
            )
        },
        **{
            f"{kind}_example_{level}": str(outputs[level][kind])
            for kind in ("files", "mb")
            for level in outputs
        },
        "tested_recovered": str(sum(row["recovered and measured"] for row in tested)),
        "tested_wrong": str(sum(row["measured at or below 0"] for row in tested)),
        "tested_covered": str(sum(row["covered"] for row in tested)),
        "tested_within": str(sum(row["within .10"] for row in tested)),
        "tested_bias": ", ".join(short(row["mean difference"]) for row in tested),
        "tested_useful": tested[0]["measured above 0 and recovered"],
        **{
            name: percents(
                row["wrong"]
                for row in rows("signs_in_masks")
                if row["rows"].startswith(f"{truth},") and row["rows"].endswith("probability")
            )
            for name, truth in (("signs_in_masks", "run"), ("signs_by_blocks", "other blocks"))
        },
        "safe_wrong": f"{safe['wrong']} of {safe['recovered']}",
        "safe_harm": f"{safe['below -.02']} of {safe['recovered']}",
        "safe_worst": short(safe["worst"]),
        "safe_unsmoothed": f"{maps[placed, '0 mm']['below -.02']} of {safe['recovered']}",
        "safe_gain": short(maps["other kinds", "5 mm"]["right, over B-spline"]),
        "safe_others": f"{others['wrong']} of {others['recovered']}",
        "worlds_active": worlds["all"]["active: false, recovered"],
        "worlds_brain": worlds["all"]["brain: false, recovered"],
        "worlds_nyquist": worlds["end near Nyquist"]["active: false, recovered"],
        **{
            f"worlds_true_{name}": worlds[draws]["active: true 0.2, recovered"]
            for name, draws in (
                ("all", "all"),
                *((str(count), f"{count} slices") for count in (8, 12, 16)),
            )
        },
        "srgan_seeds": percents(map(float, srgan["active voxels, by seed"].split())).replace(
            "-", "−"
        ),
        "example_work_gb": f"{took['work_gb']:.1f}",
        "example_min": f"{took['core_min']:.1f}",
        "example_gb": f"{took['memory_gb']:.1f}",
        "example_disk_gb": f"{took['work_gb'] + outputs['standard']['mb'] / 1000:.1f}",
        "group_s": f"{float(scale[100, 'group level']['CPU (s)']):.0f}",
        "group_gb": f"{float(scale[100, 'group level']['peak PSS (GB)']):.1f}",
        "group_gb_10": f"{float(scale[10, 'group level']['peak PSS (GB)']):.1f}",
        **participant_numbers(),
        **large_effect_numbers(),
    }


def filled(text: str) -> str:
    """The text with its numbers as they are now; KeyError for a name that is no number."""
    known = {name.lower(): value for name, value in numbers().items()}
    return PLACE.sub(lambda found: f"<!--:{found[1]}-->{known[found[1]]}<!--/-->", text)


def main() -> None:
    """Write the numbers to all pages."""
    for page in PAGES:
        path = ROOT / page
        path.write_text(filled(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
