"""Time, memory and disk space of a study of 30 participants, from the plan.

python benchmarks/study_plan.py FOLDER

The images are empty, because the plan only reads headers. Each participant has a T1w image of
1 mm and a run of two trial types, without a T2*w pair.
"""

import argparse
import json
import shutil
from collections import namedtuple
from pathlib import Path

import _crowd
import nibabel as nib
import numpy as np
from _table import keep

from bids_sr.cli.parser import parse_settings
from bids_sr.cli.stages import estimate_with_time
from bids_sr.workflows.call_checks import check

PARTICIPANTS, PROCESSES = 30, 4
SERIES = {
    (64, 64, 36, 300): (3.0, 3.0, 3.5),
    (84, 84, 56, 300): (2.5, 2.5, 2.5),
    (104, 104, 72, 600): (2.0, 2.0, 2.0),
}
"""Voxel size (mm) by shape of a run."""
_Usage = namedtuple("_Usage", "total used free")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rows = []
    for shape, zooms in SERIES.items():
        data = folder / "x".join(map(str, shape))
        if not data.exists():
            make_participant(folder / f"{data.name}-one", shape, zooms)
            _crowd.make_data(folder / f"{data.name}-one", data, PARTICIPANTS)
        both = [plan(data, *options) for options in ((), ("--set", "run.store_series=false"))]
        cost = both[0]
        rows.append(
            {
                "voxels (mm)": " × ".join(f"{zoom:g}" for zoom in zooms),
                "matrix and volumes": " × ".join(map(str, shape)),
                "processor hours": round(sum(row.minutes for row in cost.rows) / 60, 1),
                f"hours with {PROCESSES} processes": round(cost.minutes / 60, 1),
                "memory (GB)": round(cost.memory_gb, 1),
                "work (GB)": round(cost.work_gb),
                "results (GB)": round(cost.output_gb, 1),
                "results without series (GB)": round(both[1].output_gb, 1),
            }
        )
    keep("study_plan", f"Plan of {PARTICIPANTS} participants with one run, without a pair", rows)


def make_participant(root: Path, shape: tuple[int, ...], zooms: tuple[float, ...]) -> None:
    """Write a data set of one participant with empty images."""
    for kind, size, mm in (
        ("anat/sub-01_T1w", (176, 256, 256), (1.0,) * 3),
        ("func/sub-01_task-tap_bold", shape, (*zooms, 2.0)),
    ):
        path = root / "sub-01" / f"{kind}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(np.zeros(size, np.int16), np.diag([*mm[:3], 1.0]))
        image.header.set_zooms(mm)
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, path)
    events = "".join(f"{40 * k}\t16\t{'ab'[k % 2]}\n" for k in range(14))
    func = root / "sub-01" / "func"
    (func / "sub-01_task-tap_events.tsv").write_text(f"onset\tduration\ttrial_type\n{events}")
    sidecar = {"RepetitionTime": 2.0, "TaskName": "tap"}
    (func / "sub-01_task-tap_bold.json").write_text(json.dumps(sidecar))
    description = {"Name": "study", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(description))


def plan(data: Path, *options: str):
    """Return the estimate of a call."""
    paths = [str(data), str(data.parent / "out"), "participant", "-w", str(data.parent / "work")]
    line = [*paths, "--skip-bids-validation", "--nprocs", str(PROCESSES), "--omp-nthreads", "1"]
    shutil.disk_usage = lambda _: _Usage(10**18, 0, 10**18)  # the plan refuses a full disk
    settings = parse_settings([*line, *options]).resolve(run_uuid="x")
    planned = check(settings)
    assert not planned.problems, planned.problems
    return estimate_with_time(planned, settings)


if __name__ == "__main__":
    main()
