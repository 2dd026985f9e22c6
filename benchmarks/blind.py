"""What a run without a reference says of itself, and what its reference says once it is opened.

Usage:

- python benchmarks/blind.py make BOLD OUT         OUT/low: the run brought down by two in plane,
  nothing finer beside it; OUT/truth: the run as it was measured
- python benchmarks/blind.py open LEFT_OUT BLIND OPENED   BLIND, OPENED: outputs of bids-sr --level
  full on OUT/low without and with `--truth OUT/truth`; LEFT_OUT: the person whose rows the
  prediction may not use

The first two axes are cut to half their size in k-space about the center of the field of view, as
the shared low-resolution data sets are made, and stored as whole numbers, as a scanner does.
`open` counts as an opening of the measured truth (TRUTH.md). The true share is that of zero
filling's squared error against the measured series as the program prepared it (same head motion,
same grid), over its strongest temporal components inside the brain.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from _labels import label
from _people_measured import FIRST, components, without_drift
from _people_predicted import FACTOR, ratio_of, reach_of
from _table import RESULTS, keep

from bids_sr.io.nifti import save_image
from bids_sr.metrics.long_tables import MetricRow, read_table
from bids_sr.sr.resolution.matrices import kspace_crop

SHOWN = ("sbl", "sdmod", "bspline")
EXPLAINED = "split_ev_beyond"


def make(arguments: list[str]) -> None:
    """The run at half its resolution, and as it was measured, as two data sets."""
    bold, out = Path(arguments[0]), Path(arguments[1])
    root = next(
        folder for folder in bold.parents if (folder / "dataset_description.json").exists()
    )
    stem = bold.name.removesuffix("_bold.nii.gz")
    for place in (out / "low", out / "truth"):
        folder = place / bold.parent.relative_to(root)
        folder.mkdir(parents=True)
        for table in (root / "dataset_description.json", root / "README"):
            shutil.copy(table, place)
        for beside in (
            *bold.parent.glob(f"{stem}_bold.json"),
            *bold.parent.glob(f"{stem}_events.*"),
        ):
            shutil.copy(beside, folder)
    image = nib.load(bold)  # type: ignore[attr-defined]
    data = np.asarray(image.dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    low, affine = kspace_crop(data, image.affine, factor=FACTOR, magnitude=True)  # type: ignore[attr-defined]
    header = image.header.copy()
    header.set_data_dtype(np.int16)
    save_image(np.round(low), affine, out / "low" / bold.relative_to(root), header_like=header)
    shutil.copy(bold, out / "truth" / bold.relative_to(root))
    command = f"bids-sr {out}/low {out}"
    print(
        f"{command}/blind participant --level full\n{command}/opened participant --level full"
        f" --truth {out}/truth"
    )


def _series(out: Path, name: str) -> Any:
    (file,) = out.glob(f"sub-*/**/func/*_res-hr_desc-{name}_bold.nii.gz")
    return np.asarray(nib.load(file).dataobj, dtype=np.float32)[..., FIRST:]  # type: ignore[attr-defined]


def true_shares(opened: Path) -> dict[str, float]:
    """Share of zero filling's squared error that each series explains, mean over components of the
    measured one.
    """
    run = without_drift("measured", "", _series(opened, "measured"))
    truth = components(run.series, run.mask)
    count = len(truth)
    inside = run.series[run.mask].astype(np.float64)
    vectors = np.linalg.eigh(inside.T @ inside)[1][:, ::-1][:, :count] / np.sqrt(
        run.series.shape[-1]
    )
    measured = inside @ vectors

    def error(name: str) -> Any:
        made = without_drift(name, "", _series(opened, name)).series[run.mask]
        return ((made.astype(np.float64) @ vectors - measured) ** 2).sum(0)

    zero = error("zerofill")
    return {name: float(np.mean(1 - error(name) / zero)) for name in SHOWN}


def _row(rows: list[MetricRow], measure: str, series: str, region: str = "") -> MetricRow | None:
    found = (
        r for r in rows if label(r) == measure and r.series == series and region in ("", r.region)
    )
    return min(found, key=lambda row: (row.fwhm_mm, row.contrast != "all"), default=None)


def _text(row: MetricRow | None) -> str:
    return "n/a" if row is None else f"{row.value:.3f} [{row.lower:.3f}, {row.upper:.3f}]"


def open_truth(arguments: list[str]) -> None:
    """Tested, predicted and true."""
    person, blind, opened = arguments[0], Path(arguments[1]), Path(arguments[2])
    said, known = (
        read_table(next(out.glob("sub-*/**/func/*_desc-evaluation_metrics.tsv")))
        for out in (blind, opened)
    )
    shares = true_shares(opened)
    people = json.loads((RESULTS / "people_tested.json").read_text())["rows"]
    others = [row for row in people if row["person"] != person]
    rows = []
    for name in (*SHOWN, "measured"):
        tested, left = _row(said, "tested_share", name), "n/a"
        if tested is not None and f"{name} true" in people[0]:
            predicted = ratio_of(others, name)[0] * tested.value
            reach = reach_of(ratio_of(people, name)[1]) * abs(tested.value)
            left = f"{predicted:.3f} [{predicted - reach:.3f}, {predicted + reach:.3f}]"
        rows.append(
            {
                "series": name,
                "tested one level down": _text(tested),
                "predicted without this person": left,
                "predicted on the page": _text(_row(said, "predicted_share", name)),
                "true share": round(shares[name], 4) if name in shares else "",
                "explained beyond Nyquist, brain": _text(_row(known, EXPLAINED, name, "brain")),
                "active voxels": _text(_row(known, EXPLAINED, name, "active40")),
            }
        )
    keep("blind", f"A run without its reference, then opened ({person} left out)", rows)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in ("make", "open"):
        sys.exit(__doc__)
    {"make": make, "open": open_truth}[sys.argv[1]](sys.argv[2:])
