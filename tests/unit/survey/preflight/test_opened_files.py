"""How often a dry run opens the files of a data set."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

from data.calls import plan_for
from data.dataset import BidsMaker


def test_a_dry_run_opens_a_table_or_sidecar_twice_at_most(maker: BidsMaker) -> None:
    """Images may be opened three times; the index of pybids and volumes are not counted."""
    opened = Counter[Path]()

    def count(event: str, values: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(values[0], (str, bytes)):
            return
        frame = sys._getframe(1)
        while frame.f_back is not None:
            if frame.f_globals.get("__name__", "").startswith("bids.layout"):
                return
            frame = frame.f_back
        path = Path(os.fsdecode(values[0]))
        if maker.root in path.parents and path.is_file():
            opened[path] += 1

    sys.addaudithook(count)  # cannot be removed; other tests have other folders
    assert plan_for(maker, "--dummy-scans", "0").problems == ()
    images = {path: number for path, number in opened.items() if ".nii" in path.name}
    texts = opened.keys() - images.keys()
    assert max(images.values()) <= 3
    assert any(path.name.endswith("_events.tsv") for path in texts)
    assert max(opened[path] for path in texts) <= 2
