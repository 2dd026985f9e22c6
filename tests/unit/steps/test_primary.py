"""What other programs are given beside the primary series: its mean, tissue maps by name, the inverse registration."""

from pathlib import Path

import numpy as np
import pytest

from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Map
from bids_sr.pipeline.port import port_of
from bids_sr.steps.primary import average_series, invert_coreg, label_tissues

GRID = np.diag([1.5, 1.5, 4.0, 1.0])


def test_the_reference_is_the_mean_of_steady_volumes_on_the_grid_of_the_series(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(1e4, 10, (5, 4, 3, 7)).astype(np.float32)
    data[..., :2] *= 3
    save_image(data, GRID, tmp_path / "series.nii", tr=2.0)
    mean = average_series(SeriesReader(tmp_path / "series.nii"), n_dummy=2)
    np.testing.assert_allclose(mean.data, data[..., 2:].astype(float).mean(-1), rtol=1e-6)
    np.testing.assert_array_equal(mean.affine, GRID)


def test_registration_there_and_back_is_nothing() -> None:
    xfm = np.eye(4)
    xfm[:3, :3] = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]
    xfm[:3, 3] = 3, -7, 2
    np.testing.assert_allclose(invert_coreg(xfm[None])[0] @ xfm, np.eye(4), atol=1e-12)


def test_tissue_maps_bear_the_names_of_their_tissues(tmp_path: Path) -> None:
    """As files, too: the names tell what they are stored as."""
    shares = {"GM": 0.1, "WM": 0.2, "CSF": 0.7}
    maps = [Volume(np.full((3, 3, 3), share, np.float32), GRID) for share in shares.values()]
    port = port_of(list[Map])
    assert port is not None
    files = map(Path, port.save(label_tissues(maps), tmp_path / "tissue_maps"))
    found = {path.name: float(SeriesReader(path).volume(0).mean()) for path in files}
    assert found == pytest.approx({f"label-{name}_probseg.nii.gz": share for name, share in shares.items()})


def test_a_tissue_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        label_tissues([Volume(np.zeros((2, 2, 2)), GRID)] * 2)
