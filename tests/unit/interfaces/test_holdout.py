"""The shell that scores a model on a second pair."""

from pathlib import Path

import numpy as np
import pytest

from bids_sr.interfaces.learning.method_steps import ScorePair, TrainModel
from bids_sr.io.nifti import save_image
from bids_sr.metrics.long_tables import MetricRow, read_table
from bids_sr.sr.resolution.matrices import kspace_crop

FACTOR = (2.0, 2.0, 1.0)


def write_pair(folder: Path, seed: int, gain: float = 1.0) -> dict[str, str]:
    """A pair of blobs; the fine image in another intensity."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    x, y, _ = np.indices((24, 24, 6)) / 11.5 - 1
    head = x**2 + y**2 < 0.8
    highres = (head * (500 + 500 * rng.random((24, 24, 6)))).astype(np.float32)
    fine = np.diag([-1.5, 1.5, 4, 1.0])
    lowres, affine = kspace_crop(highres, fine, factor=FACTOR)
    save_image(gain * highres, fine, folder / "highres.nii")
    save_image(lowres, affine, folder / "lowres.nii")
    save_image(head[::2, ::2].astype(np.uint8), affine, folder / "mask.nii", dtype=np.uint8)
    return {name: str(folder / f"{name}.nii") for name in ("highres", "lowres", "mask")}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("trained")
    pair = write_pair(folder / "pair", 0)
    (folder / "node").mkdir()
    made = TrainModel(method="srgan", factor=FACTOR, sloppy=True, **pair).run(cwd=str(folder / "node"))
    return str(made.outputs.model_file)


def score(model_file: str, pair: dict[str, str], folder: Path) -> dict[tuple[str, str, str], MetricRow]:
    folder.mkdir(exist_ok=True)
    done = ScorePair(model_file=model_file, factor=FACTOR, series="srgan", **pair).run(cwd=str(folder))
    assert Path(done.outputs.out_file).parent == folder
    return {(row.series, row.measure, row.against): row for row in read_table(done.outputs.out_file)}


def test_rows_of_every_series(model_file: str, tmp_path: Path) -> None:
    rows = score(model_file, write_pair(tmp_path / "other", 1), tmp_path / "node")
    assert {series for series, _, _ in rows} == {"srgan", "bspline", "zerofill"}
    for against in ("bspline", "zerofill"):
        gain = rows["srgan", "pair_gain_psnr", against]
        apart = rows["srgan", "pair_psnr", "n/a"].value - rows[against, "pair_psnr", "n/a"].value
        assert gain.value == pytest.approx(apart, abs=1e-3)
        assert gain.lower <= gain.value <= gain.upper
        assert gain.n == 6
    assert rows["zerofill", "pair_psnr", "n/a"].value > 5
    assert 0 < rows["zerofill", "pair_ssim", "n/a"].value < 1


def test_the_unit_of_the_fine_image_does_not_matter(model_file: str, tmp_path: Path) -> None:
    one = score(model_file, write_pair(tmp_path / "one", 1), tmp_path / "node_one")
    two = score(model_file, write_pair(tmp_path / "two", 1, gain=7.0), tmp_path / "node_two")
    for key, row in one.items():
        assert two[key].value == pytest.approx(row.value, rel=1e-3, abs=1e-3)
