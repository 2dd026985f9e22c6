"""`people.py phantom`: what distortion, displacement and drift between the two scans cost, where the truth is known."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _people_runs import Kept, call, value
from _people_tables import chosen, keep

PRESET = ("--preset", "tiny", "--calibration")
DIFFERENCES: dict[str, tuple[str, ...]] = {
    "same distortion": (),
    "one fine voxel more": ("--calibration-distortion", "1"),
    "two fine voxels more": ("--calibration-distortion", "2"),
    "head moved by 4 mm and 4 degrees": ("--calibration-moved", "4"),
    "signal rises by 10 percent": ("--calibration-drift", "10"),
}
MEASURES = {"r": "truth_r_beyond", "explained variance": "truth_ev_beyond"}
REGIONS = ("brain", "active")


def phantom(arguments: Sequence[str]) -> None:
    """One simulated run, blind and with calibrations that differ from it; the run itself is the same in all."""
    out = Path(arguments[0]) / "phantom"
    places = {name: out / f"data-{number}" for number, name in enumerate(DIFFERENCES)}
    for name, place in places.items():
        if not place.exists():
            program = str(Path(sys.executable).with_name("bids-sr-phantom"))
            subprocess.run([program, str(place), *PRESET, *DIFFERENCES[name]], check=True)
            shutil.rmtree(place / "sub-01" / "anat")  # neither template nor pair is needed
    low = next(iter(places.values()))
    rows = [_row("blind", call(low, "auto", out, "blind", "none"), "zerofill")]
    rows.append(_row("blind", call(low, "auto", out, "blind", "none"), "sbl"))
    for name, place in places.items():
        # events of the calibration stay beside it: its task is regressed out, as a user's would be
        (file,) = place.glob("sub-01/func/*_acq-highres_bold.nii.gz")
        rows.append(_row(name, call(low, "auto", out, place.name, file), "sbl"))
    keep("people_phantom", "Calibrations of a simulated run (bids-sr-phantom, tiny)", rows, remarks=[
        "Against the known activation, beyond the acquired Nyquist limit; truly active voxels. Moved: what the "
        "registration of the two references undid (mm, rms).",
    ])  # fmt: skip


def _row(name: str, kept: Kept, series: str) -> dict[str, Any]:
    displacement = kept.calibration.get("displacement_rms_mm")
    row: dict[str, Any] = {
        "calibration": name, "series": series, "chosen": chosen(kept) if name != "blind" else "",
        "moved, mm": "" if displacement is None else round(displacement, 2),
    }  # fmt: skip
    for measure, key in MEASURES.items():
        for region in REGIONS:
            row[f"{measure}, {region}"] = round(value(kept.rows, series, key, region).value, 3)
    return row
