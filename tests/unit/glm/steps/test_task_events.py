"""Events in steps: the stored table has the text of the input, and the model all its digits."""

from pathlib import Path

import pandas as pd
import pytest

from bids_sr.engine.flow import Eager
from bids_sr.glm.regressors import read_events
from bids_sr.glm.steps.task_events import copy_events, select_events

TABLE = (
    "onset\tduration\ttrial_type\tstim_file\tresponse\tnote\r\n"
    '0.10\t2\tthumb\timages/a.png\t01\tsaid "yes"\r\n'
    "12.50\t1e1\trest\tn/a\tn/a\t\r\n"
    "30\tn/a\tlittle\timages/b.png\r\n"
)


def test_cells_keep_their_text_and_paths_of_stimuli_are_omitted(tmp_path: Path) -> None:
    (table := tmp_path / "events.tsv").write_bytes(b"\xef\xbb\xbf" + TABLE.encode())
    (tmp_path / "steps").mkdir()
    with Eager(tmp_path / "steps"):
        copy_events(table)
    (stored,) = (tmp_path / "steps").rglob("*.tsv")
    read = pd.read_csv(stored, sep="\t", dtype=str, keep_default_na=False)
    assert list(read) == ["onset", "duration", "trial_type", "response", "note"]
    assert read.to_numpy().tolist() == [
        ["0.10", "2", "thumb", "01", 'said "yes"'],
        ["12.50", "1e1", "rest", "n/a", ""],
        ["30", "n/a", "little", "n/a", "n/a"],
    ]
    assert read_events(stored).trials() == read_events(table).trials()


@pytest.mark.parametrize("header", ["strength", "modulation"])
def test_modeled_events_are_the_same_in_steps(tmp_path: Path, header: str) -> None:
    """A step receives the modeled events from a file, with types that Levels list."""
    lines = [
        f"onset\tduration\ttrial_type\t{header}",
        "0.1\t1e1\tNA\t1",
        "12.5\t2\tNULL\t2",
        "20\t0\tNA\t0.3333333333333333",
        '30\t4\t"left ""hand"\t1',
        "40\tn/a\tNA\t1",
        "50\t4\trest\t1",
    ]
    (table := tmp_path / "sub-01_events.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "steps").mkdir()
    with Eager(tmp_path / "steps"):
        events = select_events(table, levels=("NA",))
    assert events.trials() == read_events(table, ("NA",)).trials()
    assert events.conditions == ['left "hand', "NA"]
    assert len(events.trials()) == 3
    assert events.source == table.name
