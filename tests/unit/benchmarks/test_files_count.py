"""What benchmarks/files_count.py counts: files of an output by kind, and bytes once for all links
to a file.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def test_files_are_counted_by_kind_and_a_link_takes_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from files_count import counted

    series = tmp_path / "sub-01" / "func" / "sub-01_task-tap_res-hr_desc-sbl_bold.nii.gz"
    linked = (
        tmp_path
        / "derivatives"
        / "bids-sr-sbl"
        / "sub-01"
        / "func"
        / "sub-01_task-tap_desc-preproc_bold.nii.gz"
    )
    others = (
        "README.md",
        "sub-01/figures/sub-01_figures.zip",
        "sub-01/sub-01_contrast-all_statmap.json",
    )
    for path in (series, linked, *(tmp_path / name for name in others)):
        path.parent.mkdir(parents=True, exist_ok=True)
    series.write_bytes(b"0" * 1000)
    os.link(series, linked)
    for name in others:
        (tmp_path / name).write_bytes(b"0" * 10)
    files, size, own, own_size = counted(tmp_path)
    assert files == {"series": 2, "others": 1, "figures": 1, "sidecars": 1}
    assert size == 1030
    assert own == {"series": 2, "figures": 1, "sidecars": 1}, "without what all participants share"
    assert own_size == 1020
