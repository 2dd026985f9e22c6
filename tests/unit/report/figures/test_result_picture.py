"""Picture of the first screen: the square, the crosses and the scale."""

import numpy as np
import pytest
from data.page import Page

from bids_sr.io.volume import Volume
from bids_sr.report.figures.result_picture import (
    CAP_PERCENT,
    PanelGroup,
    PicturePanel,
    choose_square,
    find_wrong_signs,
    render_picture,
    scale_end,
)

FINE, COARSE = np.diag([3.0, 3, 3, 1]), np.diag([6.0, 6, 3, 1])
SHAPE = (48, 48, 20)
BRAIN = np.ones(SHAPE, dtype=bool)


def effect_at(*blocks: tuple[int, int, int, float]) -> Volume:
    """Return an effect with blocks of 4 × 4 voxels that begin at (x, y, z)."""
    data = np.zeros(SHAPE)
    for x, y, z, value in blocks:
        data[x : x + 4, y : y + 4, z] = value
    return Volume(data, FINE)


def test_the_square_has_most_activation_and_a_large_vein_does_not_decide() -> None:
    area = [(30, 30 + 5 * k, 10, 2.5) for k in range(3)]
    vein = (2, 2, 5, 50.0)
    square = choose_square(effect_at(*area, vein), BRAIN)
    assert square.z == 10
    assert square.x <= 30 <= square.x + square.side - 4
    assert choose_square(effect_at(*area, vein), BRAIN, cap=np.inf).z == 5


def test_only_active_voxels_of_inner_slices_count() -> None:
    first, second, outer = (4, 4, 8, 2.0), (30, 30, 12, 3.0), (30, 30, 0, 4.0)
    active = BRAIN.copy()
    active[:, :, 12] = False
    assert choose_square(effect_at(first, second, outer), active).z == 8
    assert choose_square(effect_at(first, second, outer), BRAIN).z == 12


@pytest.mark.parametrize(("value", "expected"), [(0.8, 0.8), (2.6, 3.0), (9.0, CAP_PERCENT)])
def test_the_scale_ends_at_a_round_value_up_to_the_cap(value: float, expected: float) -> None:
    effect = Volume(np.full(SHAPE, value), FINE)
    assert scale_end(effect, choose_square(effect, BRAIN)) == expected


def test_strong_added_detail_with_another_sign_is_marked() -> None:
    added, true = np.zeros((2, 24, 24, 20))
    true[:] = 1.0
    added[3, 4, 5], added[6, 7, 8], added[9, 9, 9] = -1.5, -0.5, 1.5
    brain = np.ones(added.shape, dtype=bool)
    points = find_wrong_signs(Volume(added, COARSE), Volume(true, COARSE), brain, limit=4.0)
    assert points.tolist() == [[18.0, 24.0, 15.0]]
    brain[3, 4, 5] = False
    assert not len(find_wrong_signs(Volume(added, COARSE), Volume(true, COARSE), brain, 4.0))


def test_panels_have_titles_a_scale_and_crosses_inside_the_square() -> None:
    effect = effect_at((20, 20, 10, 3.0))
    square = choose_square(effect, BRAIN)
    inside = np.array([[3.0 * (square.x + 2), 3.0 * (square.y + 3), 30.0]])
    points = np.vstack([inside, [[0.0, 0.0, 0.0]]])
    outline = effect.data > 0
    panels = [
        PicturePanel(title="acquired", note="6 mm", image=effect, brain=BRAIN),
        PicturePanel(
            title="sbl", note="3 mm", image=effect, brain=BRAIN, outline=outline, crosses=points
        ),
    ]
    html = render_picture(
        [PanelGroup("Effect of all", "alike", panels)],
        square,
        effect,
        limit=4.0,
        unit="% of signal",
        subject="effect of all",
    )
    page = Page(html)
    assert [caption.text for caption in page.all("figcaption")] == ["acquired 6 mm", "sbl 3 mm"]
    for part in ("Effect of all", "alike", "% of signal", "−4"):
        assert part in page.text
    marks = [path for path in page.all("path") if path.attributes["class"] == "mark"]
    outline_path, crosses = (path.attributes["d"] for path in marks)
    assert outline_path.count("M") == 16, "edges of 4 × 4 voxels"
    left, top = (float(part) for part in crosses.split("l")[0].strip("M").split())
    assert crosses.count("M") == 1
    assert (left, top) == (2.25, square.side - 3 - 0.75)
    assert page.all("svg")[1].attributes["aria-label"] == "effect of all: acquired 6 mm"


def test_left_is_left_and_anterior_is_on_top_in_any_orientation() -> None:
    effect = effect_at((40, 40, 10, 3.0))
    square = choose_square(effect, BRAIN)
    flipped = Volume(effect.data[::-1], np.array([[-3, 0, 0, 141], *FINE[1:].tolist()]))
    assert choose_square(flipped, BRAIN) == square
    cut = square.cut(effect.data)
    rows, columns = np.nonzero(cut)
    assert rows.max() < square.side / 2
    assert columns.min() > square.side / 2
