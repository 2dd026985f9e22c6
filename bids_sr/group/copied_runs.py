"""Check that no two runs of the group level contain the same series under different names."""

import pandas as pd

from bids_sr.io.atomic_files import read_json
from bids_sr.io.notices import UsageError
from bids_sr.preproc.copied_series import NoiseRecord, find_copies

_RUN = ["participant", "session", "task", "run"]  # columns that identify an acquisition


def require_different_runs(tables: pd.DataFrame) -> list[str]:
    """Raise `UsageError` if two participants have a series with the same noise.

    `tables` are from `find_tables`. Variants of one acquisition are not compared. Returns
    sentences on participants with the same series in two runs, and on runs that cannot be compared
    because they have no noise record.
    """
    rows, records, unrecorded = [], [], []
    for row in tables.drop_duplicates("stem").to_dict("records"):
        path = row["path"].with_name(f"{row['stem']}_desc-noise_metrics.json")
        try:
            record = NoiseRecord.from_json(read_json(path))
        except (OSError, ValueError, KeyError, IndexError):
            unrecorded.append(row["name"])
        else:
            records.append(record)
            rows.append(row)
    refused, sentences = [], []
    for first, second, correlation in find_copies(records):
        run, other = rows[first], rows[second]
        if [run[key] for key in _RUN] == [other[key] for key in _RUN]:
            continue
        pair = f"{run['name']} and {other['name']} (correlation of noise {correlation:.2f})"
        if run["participant"] == other["participant"]:
            sentences.append(
                f"The same series is in {pair}: find out which run it belongs to, and exclude the"
                " other run"
            )
        else:
            refused.append(pair)
    if refused:
        raise UsageError(
            "\n  ".join(["some runs are copies of other runs", *refused]),
            "the thermal noise of two measured series is not correlated, so these runs contain the"
            " same series and are not independent",
            "find out which participant the series belongs to, replace the other file and rerun"
            " its participant level, or select participants with --participant-label",
        )
    if unrecorded:
        sentences.append(
            f"Runs without a record of their noise: {len(unrecorded)} (for example"
            f" {unrecorded[0]}), so a series with two names would not be found. Rerun their"
            " participant level to record it"
        )
    return sentences
