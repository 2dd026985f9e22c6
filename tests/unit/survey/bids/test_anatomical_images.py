"""Which T1w image of several is used."""

from pathlib import Path

import pytest
from data.calls import settings_for
from data.dataset import BidsMaker, affine_for

from bids_sr.io.image_header import Header
from bids_sr.survey.bids.anatomical_images import judge_t1w, sort_t1w

FOV = (96.0, 96.0, 96.0)  # mm


def make_header(label: str, zoom: float, thickness: float = 96.0) -> Header:
    """Return the header of a T1w image with isotropic voxels."""
    shape = tuple(round(size / zoom) for size in (*FOV[:2], thickness))
    return Header(
        path=Path(f"sub-01_{label}_T1w.nii.gz"),
        shape=shape,
        zooms=(zoom, zoom, zoom),
        tr=None,
        affine=affine_for((zoom, zoom, zoom), FOV),
        slice_axis=None,
        complex=False,
    )


@pytest.mark.parametrize(
    ("other", "best", "zooms"),
    [
        ("acq-localizer", "acq-mprage", (8.0, 2.0)),
        ("run-1", "run-2", (4.0, 2.0)),
        ("acq-b", "acq-a", (2.2, 2.0)),  # alike: first by name
        ("ce-gadolinium", "run-1", (1.0, 1.0)),
        ("acq-Gd", "acq-pre", (1.0, 1.0)),
        ("inv-1", "run-1", (1.0, 1.0)),
        ("rec-defaced", "run-1", (1.0, 1.0)),
        ("acq-scout", "acq-t1", (1.0, 1.0)),
    ],
)
def test_the_t1w_image_is_chosen_by_voxel_size_and_label(
    other: str, best: str, zooms: tuple[float, float]
) -> None:
    headers = [make_header(name, zoom) for name, zoom in zip((other, best), zooms, strict=True)]
    images = {header.path: header for header in sorted(headers, key=lambda item: item.path.name)}
    assert sort_t1w(images) == [headers[1].path, headers[0].path]


@pytest.mark.parametrize(("slab", "chosen"), [(16.0, "acq-mprage"), (96.0, "acq-inplane")])
def test_a_whole_head_t1w_image_is_preferred_to_a_slab(slab: float, chosen: str) -> None:
    headers = make_header("acq-inplane", 2.0, slab), make_header("acq-mprage", 2.0)
    assert chosen in sort_t1w({header.path: header for header in headers})[0].name


def test_the_selected_session_is_preferred_to_an_image_that_cannot_be_read() -> None:
    header = make_header("ses-b_acq-scout", 2.0)
    images = {Path("sub-01_ses-a_T1w.nii.gz"): None, header.path: header}
    assert sort_t1w(images) == [*images]
    assert sort_t1w(images, ["b"])[0] == header.path


def test_the_choice_among_several_images_or_their_lack_is_noted(maker: BidsMaker) -> None:
    settings = settings_for(maker)
    image = maker.path("sub-01_T1w.nii.gz", "anat")
    assert [*judge_t1w([image], "01", settings)] == []
    (choice,) = judge_t1w([image, image.with_name("sub-01_run-2_T1w.nii.gz")], "01", settings)
    (lack,) = judge_t1w([], "01", settings)
    assert (choice.level, choice.what) == ("note", str(image))
    assert (lack.level, lack.what) == ("note", "sub-01")
