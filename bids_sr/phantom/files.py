"""Files and sidecars of the simulated data set; equal content gives equal bytes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from numpy.typing import DTypeLike

from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import write_json
from bids_sr.io.nifti import save_image
from bids_sr.spatial.itk_files import write_itk


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a tab-separated table with a header line.

    Floats have six significant digits, which removes rounding noise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = ([f"{x:.6g}" if isinstance(x, float) else str(x) for x in row] for row in rows)
    table_lines = ["\t".join(columns), *map("\t".join, texts)]
    path.write_text("\n".join(table_lines) + "\n", encoding="utf-8")


def write_image(
    stem: Path,
    data: Array,
    affine: Array,
    sidecar: Mapping[str, object],
    *,
    dtype: DTypeLike = None,
) -> None:
    """Write an image (``.nii.gz``) and its metadata.

    `stem` is the path without extension. The values are (X, Y, Z) or (X, Y, Z, T), and `affine` is
    the voxel-to-world matrix (4 x 4, RAS+ mm). For `dtype`, see `bids_sr.io.nifti.save_image`.
    """
    save_image(data, affine, Path(f"{stem}.nii.gz"), dtype=dtype)
    write_json(Path(f"{stem}.json"), dict(sidecar))


def write_transform(stem: str, matrix: Array, description: str, **metadata: object) -> None:
    """Write rigid transforms as ITK text with a description.

    `stem` is the path up to ``_mode-image``, and `matrix` are rigid transforms, (4, 4) or (T, 4,
    4), RAS+ mm. Description and further arguments are metadata in the sidecar.
    """
    stem_text = f"{stem}_mode-image_desc-truth_xfm"
    write_itk(Path(f"{stem_text}.txt"), matrix)
    write_json(Path(f"{stem_text}.json"), {"Description": description, **metadata})
