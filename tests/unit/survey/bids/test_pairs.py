"""T2*-weighted pairs of a run: images that are refused, by their headers."""

from collections.abc import Mapping

import pytest
from data.calls import about, problem_of
from data.records import make_header, make_run, make_settings

from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.survey.bids.pairs import choose_pairs, refuse_without_pair
from bids_sr.survey.notices import InputError

BOLD = make_run()
WITH_PAIR = ("--sr-method", "srgan", "sbl")  # with ``auto``, the pair would be optional
HIGH, LOW = "acq-highres", "acq-lowres"
RUN_1 = '{"t2starw": {"run": 1}}'
Sizes = Mapping[str, tuple[float, float, float]]
COARSE, FINE = (6.0, 6.0, 4.0), (3.0, 3.0, 4.0)
PAIR: Sizes = {HIGH: FINE, LOW: COARSE}
FIRST_PAIR: Sizes = {f"{HIGH}_run-1": FINE, f"{LOW}_run-1": COARSE}


def image(labels: str, zooms: tuple[float, float, float], shift: float = 0.0) -> Header:
    """Return the header of an image that lies `shift` mm further to the front."""
    return make_header(f"sub-01_{labels}_T2starw.nii.gz", zooms, shift=(0, shift, 0))


def refuse(headers: list[Header], *options: str) -> tuple[Notice, ...]:
    """Return why these images have no pair of the run."""
    with pytest.raises(InputError) as refusal:
        choose_pairs(BOLD.header, headers, make_settings(*(options or WITH_PAIR)))
    return refusal.value.problems


@pytest.mark.parametrize(
    ("sizes", "file", "values"),
    [
        ({**PAIR, LOW: FINE}, HIGH, ["3×3×4", "--bids-filter-file"]),
        ({**PAIR, HIGH: COARSE}, HIGH, ["6×6×4", "--bids-filter-file"]),
        ({"acq-a": FINE, "acq-b": FINE}, "acq-a", ["sub-01_acq-b_T2starw.nii.gz", "3×3×4"]),
        ({HIGH: COARSE, LOW: FINE}, HIGH, ["6×6×4", "3×3×4", "Swap"]),
        (
            {**FIRST_PAIR, f"{HIGH}_run-2": COARSE, f"{LOW}_run-2": FINE},
            f"{HIGH}_run-2",
            ["6×6×4", "3×3×4", "Swap"],
        ),
        (
            {**FIRST_PAIR, f"{HIGH}_run-2": (2.0, 2.0, 4.0), f"{LOW}_run-2": COARSE},
            "_bold",
            ["2×2×4", "3×3×4", RUN_1],
        ),
        (
            {**PAIR, "acq-finest": (2.0, 2.0, 4.0)},
            "_bold",
            ["sub-01_acq-finest_T2starw.nii.gz", "2×2×4", RUN_1],
        ),
        (
            {**PAIR, f"{HIGH}_run-2": FINE},
            "_bold",
            [f"sub-01_{HIGH}_run-2_T2starw.nii.gz", RUN_1],
        ),
        (
            {**PAIR, f"{LOW}_run-2": COARSE},
            "_bold",
            [f"sub-01_{LOW}_run-2_T2starw.nii.gz", RUN_1],
        ),
        (
            {f"ses-{label}_{name}": mm for label in "ab" for name, mm in PAIR.items()},
            "_bold",
            ["ses-a", "ses-b", '{"t2starw": {"session": "LABEL"}}'],
        ),
        ({**PAIR, HIGH: (48 / 11, 48 / 11, 4.0)}, HIGH, ["6×6×4", "4.36×4.36×4"]),
        ({**PAIR, HIGH: (3.0, 3.0, 2.0)}, HIGH, ["6×6×4", "3×3×2", "--sr-factor 2 2 2"]),
    ],
)
def test_images_that_are_no_pair_are_refused(sizes: Sizes, file: str, values: list[str]) -> None:
    headers = [image(labels, zooms) for labels, zooms in sizes.items()]
    problem_of(refuse(headers), file, *values)


def test_thicker_slices_than_those_of_the_run_are_refused() -> None:
    headers = [image(HIGH, (3.0, 3.0, 8.0)), image(LOW, COARSE)]
    problem_of(refuse(headers, "--sr-method", "mse3d"), HIGH, f"sub-01_{LOW}_T2starw.nii.gz")


@pytest.mark.parametrize(("shift", "share"), [(200, 0), (44.5, 8)])
def test_a_pair_elsewhere_is_refused_with_the_share_that_it_covers(
    shift: float, share: int
) -> None:
    problems = refuse([image(labels, zooms, shift) for labels, zooms in PAIR.items()])
    assert len(problems) == 2
    for name in PAIR:
        assert about(problems, name, f"{share}%", "10%")


def test_methods_that_need_a_pair_are_refused_without_images() -> None:
    settings = make_settings(*WITH_PAIR)
    problems = [*refuse_without_pair("01", [BOLD.bold], settings)]
    values = ["(srgan)", "--sr-method auto", "--retrospective", "bspline"]
    problem_of(problems, "sub-01", *values)
