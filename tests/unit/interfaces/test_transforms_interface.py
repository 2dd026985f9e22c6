"""Transforms inverted on disk."""

import numpy as np

from bids_sr.interfaces.itk_files import InvertTransform
from bids_sr.spatial.transforms import read_itk, rigid_matrix, write_itk


def test_a_point_comes_back(tmp_path):
    there = rigid_matrix(np.array([1.0, -2.0, 3.0, 0.1, -0.2, 0.3]), np.array([4.0, 5.0, 6.0]))
    write_itk(tmp_path / "there.txt", there)
    back = InvertTransform(in_file=str(tmp_path / "there.txt")).run(cwd=str(tmp_path)).outputs.out_file
    point = np.array([10.0, 20.0, 30.0, 1.0])
    assert not np.allclose(there @ point, point)
    np.testing.assert_allclose(read_itk(back)[0] @ there @ point, point, atol=1e-6)
