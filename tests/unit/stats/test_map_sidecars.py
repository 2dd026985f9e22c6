"""What the sidecars of maps say of the error of the reconstruction."""

import pytest

from bids_sr.glm.activation_regions import common_sidecar


@pytest.mark.parametrize(
    ("series", "said"),
    [
        ("sbl", "in stat-sd"),
        ("bspline", "maps of bspline carry no error of reconstruction: in runs of three people"),
        ("srgan", "maps of srgan carry no error of reconstruction"),
        ("raw", None),
        ("measured", None),
    ],
)
def test_a_map_says_whether_it_carries_the_error_of_its_reconstruction(series, said):
    about = common_sidecar(series=series, fwhm_mm=0, zooms=(3, 3, 3)).get("ErrorOfReconstruction")
    assert about is None if said is None else str(about).startswith(said)
