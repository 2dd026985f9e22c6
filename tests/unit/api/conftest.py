import nibabel as nb
import numpy as np
import pytest
from data.short_run import make_run

from bids_sr import SuperResolver
from bids_sr.api.image_inputs import SuperResolutionWarning


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    """Folder of a short run; see `data.short_run.make_run`."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="package")
def fitted(run):
    """Estimator with sbl, which is applied to the run."""
    return SuperResolver("sbl", realigned=True).fit(run / "bold.nii", mask_img=run / "mask.nii")


@pytest.fixture(scope="package")
def unapplied():
    """Return a run of noise, and an estimator whose method was not applied to it."""
    rng = np.random.default_rng(1)
    values = (500 + rng.normal(0, 5, (30, 28, 5, 60))).astype(np.float32)
    noise = nb.Nifti1Image(values, np.diag([3, 3, 4, 1.0]))
    resolver = SuperResolver("sbl", realigned=True, dummy_scans=0)
    with pytest.warns(SuperResolutionWarning, match="sbl"):
        return noise, resolver.fit(noise, mask_img=np.ones((30, 28, 5)))
