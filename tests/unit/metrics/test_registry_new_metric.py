"""A new metric needs only its registry entry and its function, as in docs/extending.md.

Table, sidecar, report and group level follow.
"""

from pathlib import Path

from recipes import chapter_of, copy_with, files_of, told_by

TITLE = "Add a metric"
SCRIPT = """
from pathlib import Path

import numpy as np

from bids_sr.metrics.rows import columns_json, metric_rows, read_frame, table_text
from bids_sr.metrics.registry import statistic
from bids_sr.structural.image_quality import edge_sharpness, quality_rows
from bids_sr.report.metric_tables import QUALITY, SCANS, render_tables

ramp = np.repeat(np.arange(4.0), 16).reshape(4, 4, 4)
mask = np.ones(ramp.shape, bool)
assert edge_sharpness(ramp, (2.0, 1.0, 1.0), mask) == 1 / 3 / 2  # per mm
mask[2:] = False
assert edge_sharpness(ramp, (2.0, 1.0, 1.0), mask) == 1 / 2

wave = np.sin(np.indices((8, 8, 4)).sum(0)) + 2
scans = {"bspline": wave, "attunet": wave**3}
rows = list(quality_rows("T1w", scans, np.ones(wave.shape, bool), {}, (1.0, 1.0, 1.0)))
Path("table.tsv").write_text(table_text(rows))
table = read_frame(Path("table.tsv")).set_index(["statistic", "series"])
assert table.unit["edge_sharpness", "attunet"] == "1/mm"
about = "mean slope along the first axis over the range of the brain"
levels = columns_json(row.statistic for row in rows)["statistic"]["Levels"]
assert levels["edge_sharpness"] == f"{about} (1/mm)"
[html] = [html for declared in SCANS for _, html in render_tables(declared, rows)]
assert "sharpness, whole brain<br><small>1/mm</small>" in html
assert statistic("edge_sharpness").better == "higher"
in_run = metric_rows("sbl", {"edge_sharpness": 1.0}, region="brain")
assert render_tables(QUALITY, in_run) == []  # until its table lists it
"""


def test_the_metric_of_the_documentation_appears_in_table_sidecar_and_report(
    tmp_path: Path,
) -> None:
    assert files_of(TITLE) == {
        "boilerplate/statistics.json",
        "bids_sr/structural/image_quality.py",
    }
    assert "`bids_sr/report/metric_tables.py`" in chapter_of(TITLE)
    told_by(copy_with(TITLE, tmp_path), SCRIPT)
