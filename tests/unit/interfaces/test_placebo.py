"""Placebos as interfaces: files in, files out."""

from pathlib import Path

import numpy as np
import pytest

from bids_sr.interfaces.evaluation.placebos import NullShuffles
from bids_sr.interfaces.steps import MergeEvaluation
from bids_sr.io.nifti import SeriesWriter, save_image
from bids_sr.metrics.long_tables import read_table

FACTOR = (2.0, 2.0, 1.0)
AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])


NULL_MEASURES = tuple(f"null_{name}" for name in ("rate", "nominal", "fwe", "threshold", "peak", "active"))


@pytest.fixture
def series(tmp_path):
    rng = np.random.default_rng(0)
    with SeriesWriter(tmp_path / "series.nii", (8, 8, 2, 60), AFFINE, 2.0) as writer:
        for t in range(60):
            writer.append((500 + 5 * rng.standard_normal((8, 8, 2)) + (1000 if t < 2 else 0)).astype(np.float32))
    save_image(np.ones((8, 8, 2), dtype=np.uint8), AFFINE, tmp_path / "mask.nii.gz")
    rows = "".join(f"{8 + 28 * k}\t14\t{'ab'[k % 2]}\n" for k in range(4))
    (tmp_path / "events.tsv").write_text("onset\tduration\ttrial_type\n0\t8\trest\n" + rows)
    motion = rng.standard_normal((60, 2))
    (tmp_path / "confounds.tsv").write_text("trans_x\ttrans_y\n" + "".join(f"{a:.4f}\t{b:.4f}\n" for a, b in motion))
    return tmp_path


def test_shuffles_are_written_row_by_row_and_merged(series):
    common = {"in_file": str(series / "series.nii"), "mask": str(series / "mask.nii.gz"), "tr": 2.0, "high_pass": 0.008,
              "events_file": str(series / "events.tsv"), "n_dummy": 2, "n_shuffles": 6, "seed": 3}  # fmt: skip
    files = []
    for name, more in {
        "bspline": {"confounds_tsv": str(series / "confounds.tsv"), "confound_names": ["trans_x", "trans_y"]},
        "raw": {},
    }.items():
        (series / name).mkdir()
        out = NullShuffles(**common, **more, series=name).run(cwd=str(series / name)).outputs
        files.append(out.out_file)
        lines = Path(out.shuffles_file).read_text().splitlines()
        assert lines[0] == "rate\tany_corrected"
        assert len(lines) == 7
        measured = [float(line.split("\t")[0]) for line in lines[1:]]
        assert read_table(out.out_file)[0].value == pytest.approx(np.mean(measured), rel=1e-4)
    merged = read_table(MergeEvaluation(in_files=files).run(cwd=str(series)).outputs.out_file)
    assert [(row.series, row.measure) for row in merged] == [
        (name, measure) for name in ("bspline", "raw") for measure in NULL_MEASURES
    ]
