"""Effect of denoising before bids-sr on maps and verdict, in the phantom with echoes and known
activation.

python benchmarks/orders.py make PHANTOM OUT
    data sets with BOLD denoised by MP-PCA, by tedana, and by tedana with the combined echoes
    outside its mask
python benchmarks/orders.py table NAME=OUT ...
    explained variance of the known activation, and the verdict
python benchmarks/orders.py chain DATA WORK XCPD
    fMRIPrep's folder (simulated) -> bids-sr -> XCP-D

PHANTOM is the folder of `compared.py phantom`. NAME=OUT are outputs of `bids-sr DATA OUT
participant --sr-method sbl --set activation.kinds=glm --smoothing 0 --level minimal
--contrasts all`; DATA is PHANTOM/data itself, whose echoes bids-sr combines, or one of the data sets
made here, with a single series each.

`chain`: DATA is a tiny phantom of `bids-sr-phantom`. fMRIPrep's folder is made from its known
transforms, as in the tests (`tests/fmriprepmaker.py`), at its minimal level, so that bids-sr
gathers the confounds. XCPD is the Python of XCP-D's environment; files that XCP-D would download
are replaced as in `clients.py`. The chain shows that the programs read one another's folders; its
values must not be used as results. XCP-D's whole call is in `clients.py`.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from _compared_series import read, write
from _labels import label
from _table import keep

from bids_sr.metrics.rows import MetricRow, read_table

DENOISED = ("mppca", "tedana", "tedanaWhole")
FIGURES = {
    "truth_ev_effect": "active",
    "truth_ev_beyond": "active",
    "truth_right_effect": "active",
    "tested_share": "brain",
}
"""Measures, and their regions."""


def make(phantom: Path, out: Path) -> None:
    """Make a data set per denoiser, which replaces the echoes by its series."""
    for name in DENOISED:
        root = out / name
        shutil.copytree(phantom / "data", root, ignore=shutil.ignore_patterns("*_echo-*"))
        func = root / "sub-01" / "func"
        stem = func / "sub-01_task-tap_bold"
        data, image = read(phantom / "series" / f"{name.removesuffix('Whole')}_bold.nii.gz")
        if name.endswith("Whole"):  # tedana writes zeros outside its mask
            combined, _ = read(phantom / "combined_bold.nii")
            data = np.where(data.any(-1, keepdims=True), data, combined)
        write(data, image, Path(f"{stem}.nii.gz"))
        middle = phantom / "data" / "sub-01" / "func" / "sub-01_task-tap_echo-2_bold.json"
        shutil.copy(middle, f"{stem}.json")
        print(f"bids-sr {root} {out}/out-{name} participant")


def text(rows: list[MetricRow], measure: str, series: str, region: str) -> str:
    """Return a value with its interval."""
    for row in rows:
        matches = (label(row), row.series, row.region) == (measure, series, region)
        if matches and row.contrast in ("all", "n/a") and not row.fwhm_mm:
            return f"{row.value:.3f} [{row.lower:.3f}, {row.upper:.3f}]"
    return ""


def table(arguments: list[str]) -> None:
    """Make a line for each order and series."""
    lines, headlines = [], []
    for argument in arguments:
        name, _, out = argument.partition("=")
        file = next(Path(out).glob("sub-*/**/func/*_desc-evaluation_metrics.tsv"))
        rows = read_table(file)
        for series in ("zerofill", "sbl"):
            lines.append(
                {
                    "before bids-sr": name,
                    "series": series,
                    **{
                        f"{measure}, {region}": text(rows, measure, series, region)
                        for measure, region in FIGURES.items()
                    },
                }
            )
        verdict = json.loads(
            Path(str(file).replace("-evaluation_metrics.tsv", "-verdict_metrics.json")).read_text()
        )
        headlines.append(f"{name}: {verdict['headline']}")
    keep(
        "orders",
        "A denoiser before bids-sr, phantom with three echoes, against known activation",
        lines,
        remarks=headlines,
    )


def chain(data: Path, work: Path, xcpd: Path) -> None:
    """Run every program of the chain once."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from clients import xcpd_rows
    from fmriprepmaker import of_phantom

    if not (work / "prep").exists():
        of_phantom(data, work / "prep", with_field=True)
        # lacks columns of fMRIPrep's table
        for table in (work / "prep").rglob("*confounds_timeseries.*"):
            table.unlink()
    out, start_s = work / "out", time.monotonic()
    command = [
        str(Path(sys.executable).with_name("bids-sr")),
        str(data),
        str(out),
        "participant",
        "-w",
        str(work / "work"),
        "-d",
        f"fmriprep={work / 'prep'}",
        "--sr-method",
        "sbl",
        "--smoothing",
        "0",
        "--level",
        "minimal",
        "--output-spaces",
        "MNI152NLin2009cAsym:res-2",
        "--nprocs",
        "1",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    verdict = next(out.rglob("*_desc-verdict_metrics.json"), None)
    message = json.loads(verdict.read_text())["headline"] if verdict else done.stdout[-300:]
    rows: list[dict[str, object]] = [
        {
            "program": "bids-sr -d fmriprep=STAND-IN",
            "what": "the whole call",
            "result": f"exit code {done.returncode}; {message}",
            "s": round(time.monotonic() - start_s, 1),
        },
    ]
    (primary,) = (out / "derivatives").glob("bids-sr-*")
    for row in xcpd_rows(primary, xcpd, work):
        rows.append(
            {"program": row["client"], **{key: row[key] for key in ("what", "result", "s")}}
        )
        # the last file that it reads; `clients.py` makes its whole call
        if "gsr_only" in str(row["what"]):
            break
    keep(
        "orders_chain",
        "fMRIPrep's folder (a stand-in made of the phantom), bids-sr, and what XCP-D reads of it",
        rows,
    )


def main() -> int:
    """Run one subcommand."""
    command, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if command == "make" and len(arguments) == 2:
        make(*map(Path, arguments))
    elif command == "chain" and len(arguments) == 3:
        chain(*map(Path, arguments))
    elif command == "table" and arguments:
        table(arguments)
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
