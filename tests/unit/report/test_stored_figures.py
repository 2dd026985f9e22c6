"""Test the figures of a participant: those with content and a note, and no others."""

from pathlib import Path

from figure_helpers import noted

from bids_sr.report.stored_figures import read_figures

FOLDER = Path("sub-01", "figures")


def test_figures_with_content_and_note_are_read_in_the_order_of_the_report(
    tmp_path: Path,
) -> None:
    def draw(desc: str, text: str, **note: object) -> None:
        file = tmp_path / FOLDER / f"sub-01_task-tap_desc-{desc}_bold.svg"
        noted(file, text, desc, entities={"subject": "01", "task": "tap"}, **note)

    draw("motion", "<svg>head</svg>", alt="a curve")
    draw("carpet", "<svg>voxels</svg>")
    draw("empty", "")
    draw("zz", "<svg>first</svg>", contrast="all")
    (tmp_path / FOLDER / "sub-01_desc-unknown_bold.svg").write_text("<svg>no note</svg>")
    noted(tmp_path / "sub-02/figures/sub-02_desc-carpet_bold.svg", "<svg></svg>", "carpet")
    figures = read_figures(tmp_path, "01")
    assert [figure.figure for figure in figures] == ["zz", "carpet", "motion"]
    assert figures[2].path.read_text() == "<svg>head</svg>"
    assert (figures[2].alt, figures[2].entities["task"]) == ("a curve", "tap")
    assert read_figures(tmp_path, "03") == []
