"""Test the data set for other programs: mean of the primary series, tissue maps by name, and the
inverse registration.
"""

from pathlib import Path

import numpy as np
import pytest
from checking import listed

from bids_sr.engine.artifacts import Map
from bids_sr.engine.port import make_port
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.report.primary_dataset import (
    average_series,
    invert_coreg,
    label_tissues,
    mask_in_template,
)
from bids_sr.spatial.itk_files import write_itk

GRID = np.diag([1.5, 1.5, 4.0, 1.0])


def test_the_boldref_is_the_mean_of_steady_state_volumes_on_the_grid_of_the_series(
    tmp_path: Path,
) -> None:
    data = np.random.default_rng(0).normal(1e4, 10, (5, 4, 3, 7)).astype(np.float32)
    data[..., :2] *= 3
    save_image(data, GRID, tmp_path / "series.nii", tr=2.0)
    mean = average_series(SeriesReader(tmp_path / "series.nii"), n_dummy=2)
    np.testing.assert_allclose(mean.data, data[..., 2:].astype(float).mean(-1), rtol=1e-6)
    np.testing.assert_array_equal(mean.affine, GRID)


def test_a_registration_and_its_inverse_cancel() -> None:
    xfm = np.eye(4)
    xfm[:3, :3] = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]
    xfm[:3, 3] = 3, -7, 2
    np.testing.assert_allclose(invert_coreg(xfm[None])[0] @ xfm, np.eye(4), atol=1e-12)


def test_tissue_maps_have_the_names_of_their_tissues(tmp_path: Path) -> None:
    """File names also contain the label under which the maps are stored."""
    shares = {"GM": 0.1, "WM": 0.2, "CSF": 0.7}
    maps = [Volume(np.full((3, 3, 3), share, np.float32), GRID) for share in shares.values()]
    port = make_port(list[Map])
    assert port is not None
    files = listed(port.save(label_tissues(maps), tmp_path / "tissue_maps"))
    means = {
        path.name.partition(".")[0]: float(SeriesReader(path).volume(0).mean()) for path in files
    }
    assert means == pytest.approx(
        {f"label-{name}_probseg": share for name, share in shares.items()}
    )


@pytest.mark.parametrize(("resolution", "zoom"), [("", 1.5), ("2", 2.0)])
def test_the_brain_mask_in_a_template_is_on_its_grid_at_the_transformed_position(
    tmp_path: Path, resolution: str, zoom: float
) -> None:
    """Move a block by 10 mm; `res-2` is the 2 mm grid of the template, and without a resolution
    its own grid is used.
    """
    inside = np.zeros((40, 40, 40), bool)
    inside[10:30, 10:30, 10:30] = True
    mask = Volume(inside, np.diag([2.0, 2, 2, 1]))
    template = Volume(np.zeros((60, 50, 40), np.float32), np.diag([1.5, 1.5, 1.5, 1]))
    shift = np.eye(4)
    shift[0, 3] = 10  # Template points are 10 mm further to the right in the T1w image.
    write_itk(tmp_path / "there.txt", shift[None])
    template_mask = mask_in_template(
        mask,
        template,
        tmp_path / "there.txt",
        template_space="MNI152NLin2009cAsym",
        resolution=resolution,
        random_seed=0,
    )
    assert template_mask.zooms == pytest.approx(zoom)
    assert (template_mask.data.shape == template.data.shape) == (not resolution)
    voxel_mm = (
        np.argwhere(template_mask.data) @ template_mask.affine[:3, :3].T
        + template_mask.affine[:3, 3]
    )
    edge = zoom / 2
    np.testing.assert_allclose(voxel_mm.min(0) - edge, [9, 19, 19], atol=zoom)
    np.testing.assert_allclose(voxel_mm.max(0) + edge, [49, 59, 59], atol=zoom)
