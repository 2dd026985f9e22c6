"""Control without a prior: zero-filled signal change, weighted by its relative temporal SD.

The signal change of a voxel is multiplied by its temporal SD relative to the SD in neighboring
voxels. If a method is not better than this control, its prior or network has no benefit. The
control is implemented in `bids_sr.sr.prior_maps.add_detail.Modulation`. It is listed among the
baselines and is applied without an applicability test.
"""

from bids_sr.io.run_time import RunTime
from bids_sr.sr.method import Method
from bids_sr.sr.recipe import VarianceRecipe

METHOD = Method(
    ndim=2,
    trained_on="series",
    variance=VarianceRecipe(kind="sdmod", fwhm=(), rounds=0, least_explained=None),
    name="sdmod",
    reference="focuss",
    article="",
    summary=(
        "SD-weighted zero filling (control): the zero-filled signal change is multiplied by "
        "its temporal standard deviation relative to neighboring voxels"
    ),
    costs={"fast": RunTime(always=0.5, volumes=0.015, series=0.01)},
)
