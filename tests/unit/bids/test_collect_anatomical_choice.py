"""Prefer a T1w image of the whole head to a slab."""

from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker

from bids_sr.bids import survey
from bids_sr.config import Paths, Settings


@pytest.mark.parametrize(("slices", "chosen"), [(2, "acq-mprage"), (12, "acq-inplane")])
def test_a_whole_head_t1w_image_is_preferred_to_a_slab(
    tmp_path: Path, slices: int, chosen: str
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    maker.path("sub-01_T1w.nii.gz", "anat").unlink()
    rng = np.random.default_rng(0)
    for name, depth in (("acq-inplane", slices), ("acq-mprage", 12)):
        data = rng.integers(50, 1000, (24, 24, depth)).astype("i2")
        maker.image(f"sub-01_{name}_T1w.nii.gz", "anat", (2.0, 2.0, 2.0), data=data)
    settings = Settings(paths=Paths(bids_dir=maker.root, output_dir=tmp_path / "out"))
    (subject,) = survey(settings).subjects
    assert chosen in subject.t1w[0].name
