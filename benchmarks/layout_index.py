"""Processor time of pybids for the index of a data set: names only, with metadata, with events.

python benchmarks/layout_index.py [--participants 50 100 200]

Each participant has a T1w image and two runs with sidecars, all empty files. `bids_sr.bids.layout`
indexes names only; this script measures why.
"""

import argparse
import tempfile
import time
from pathlib import Path

from _table import keep
from bids.layout import BIDSLayout, BIDSLayoutIndexer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--participants", type=int, nargs="+", default=[50, 100, 200])
    rows = []
    for count in parser.parse_args().participants:
        row: dict[str, object] = {"participants": count}
        for with_events in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                make_data(Path(folder), count, with_events=with_events)
                for with_metadata in (False, True):
                    indexer = BIDSLayoutIndexer(validate=False, index_metadata=with_metadata)
                    start = time.process_time()
                    BIDSLayout(folder, validate=False, indexer=indexer)
                    name = "metadata" if with_metadata else "names"
                    column = f"{name}{' and events' if with_events else ''} (s)"
                    row[column] = round(time.process_time() - start, 1)
        rows.append(row)
        print(row, flush=True)
    keep("layout_index", "Processor time of the index of pybids", rows)


def make_data(root: Path, count: int, *, with_events: bool) -> None:
    """Write empty images, sidecars, and a short events table per run."""
    (root / "dataset_description.json").write_text('{"Name": "index", "BIDSVersion": "1.8.0"}')
    for number in range(count):
        name = f"sub-{number:04d}"
        for datatype in ("anat", "func"):
            (root / name / datatype).mkdir(parents=True)
        (root / name / "anat" / f"{name}_T1w.nii.gz").touch()
        for run in (1, 2):
            stem = root / name / "func" / f"{name}_task-tap_run-{run}"
            stem.with_name(f"{stem.name}_bold.nii.gz").touch()
            stem.with_name(f"{stem.name}_bold.json").write_text('{"RepetitionTime": 2}')
            if with_events:
                stem.with_name(f"{stem.name}_events.tsv").write_text("onset\tduration\n0\t16\n")


if __name__ == "__main__":
    main()
