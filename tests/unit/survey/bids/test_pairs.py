"""Choice of the pair of a run by voxel sizes, and why images are no pair."""

from collections.abc import Mapping

import pytest
from data.calls import about, problem_of
from data.records import make_header, make_run, make_settings

from bids_sr.config import SuperRes
from bids_sr.survey.bids.inputs import Pair
from bids_sr.survey.bids.pairs import (
    choose_pairs,
    measure_overlap,
    nearest_simple_ratio,
    needs_pair,
    refuse_without_pair,
)
from bids_sr.survey.notices import InputError

BOLD = make_run()
WITH_PAIR = ("--sr-method", "srgan", "sbl")  # with ``auto``, the pair would be optional
HIGH, LOW = "acq-highres", "acq-lowres"
RUN_1 = '{"t2starw": {"run": 1}}'
Sizes = Mapping[str, tuple[float, float, float]]
COARSE, FINE = (6.0, 6.0, 4.0), (3.0, 3.0, 4.0)
PAIR: Sizes = {HIGH: FINE, LOW: COARSE}
FIRST_PAIR: Sizes = {f"{HIGH}_run-1": FINE, f"{LOW}_run-1": COARSE}


def image(labels, zooms, shift=0.0):
    """Return the header of an image that lies `shift` mm further to the front."""
    return make_header(f"sub-01_{labels}_T2starw.nii.gz", zooms, shift=(0, shift, 0))


HIGHRES, LOWRES = (image(labels, zooms) for labels, zooms in PAIR.items())
THIN = ("--sr-factor", "2", "2", "2")
FORCED = ("--set", "superres.force=true")
MSE3D = ("--sr-method", "mse3d", "--recipe", "paper")


def refuse(headers, *options):
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
def test_images_that_are_no_pair_are_refused(sizes, file, values):
    headers = [image(labels, zooms) for labels, zooms in sizes.items()]
    problem_of(refuse(headers), file, *values)


def test_thicker_slices_than_those_of_the_run_are_refused():
    headers = [image(HIGH, (3.0, 3.0, 8.0)), image(LOW, COARSE)]
    problem_of(refuse(headers, "--sr-method", "mse3d"), HIGH, f"sub-01_{LOW}_T2starw.nii.gz")


def pairs_of(*options, images=(HIGHRES, LOWRES)):
    return choose_pairs(BOLD.header, images, make_settings(*options))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--sr-factor", "2"], (2.0, 2.0, 1.0)),
        (["--sr-factor", "2", "2", "1"], (2.0, 2.0, 1.0)),
        # a pair with the slice thickness of the run is not used, with a note
        ([*THIN], None),
        # the factor of a retrospective run applies to its downsampled copy
        ([*THIN, "--retrospective", "--sr-method", "tv"], (2.0, 2.0, 1.0)),
        (["--sr-factor", "1.5", *FORCED], None),
    ],
)
def test_a_factor_applies_in_plane_or_along_each_axis(options, expected):
    choice = pairs_of(*options)
    pair = choice.value.pair
    assert (pair and pair.factor) == expected
    assert bool(about(choice.notices, HIGH, "--sr-factor")) is (expected is None)


def test_a_pair_with_thinner_slices_is_used_by_3d_methods():
    high = image(HIGH, (3.0, 3.0, 2.0))
    for extra in (THIN, ()):
        assert pairs_of(*extra, *MSE3D, images=[high, LOWRES]).value.pair.factor == (2.0, 2.0, 2.0)
    choice = pairs_of(images=[high, LOWRES])
    assert choice.value.pair is None, "for slice-wise methods"
    assert about(choice.notices, HIGH, "3×3×2", "6×6×4")
    choice = pairs_of(*THIN, *MSE3D, images=[high])
    assert choice.value.pair.factor == (2.0, 2.0, 2.0)
    assert about(choice.notices, HIGH, "2×2×2")
    choice = pairs_of(*MSE3D, images=[high])
    assert choice.value.pair.factor == (2.0, 2.0, 1.0), "no thinner slices were requested"


@pytest.mark.parametrize("method", ["auto", "sbl", "bspline"])
def test_a_factor_that_contradicts_the_pair_is_refused(method):
    faults = refuse([HIGHRES, LOWRES], "--sr-factor", "1.5", "--sr-method", method)
    problem_of(faults, HIGH, "2×2", "1.5×1.5", "--set superres.force=true")


def test_an_image_of_much_higher_resolution_is_not_used_as_pair_by_default():
    """Example: a susceptibility-weighted image of 0.8 mm for a run of 6 mm."""
    images = [image(HIGH, (0.8, 0.8, 4.0))]
    for options in ((), ("--sr-factor", "2", *FORCED)):
        choice = pairs_of(*options, images=images)
        assert choice.value.pair is None
    assert about(pairs_of(images=images).notices, HIGH, "7.5", "4", "--sr-factor 7.5")
    assert pairs_of("--sr-factor", "7.5", images=images).value.pair.factor == (7.5, 7.5, 1.0)
    assert about(refuse(images), HIGH, "7.5", "--sr-factor 7.5")
    images = [image(HIGH, (1.5, 1.5, 4.0))]
    assert pairs_of(images=images).value.pair.factor == (4.0, 4.0, 1.0)


# ---- several images


def test_a_complete_pair_of_the_same_session_is_preferred():
    def session_of_pair(*images):
        run = make_run("sub-01_ses-b_task-tap")
        pair = choose_pairs(run.header, images, make_settings()).value.pair
        return None if pair is None else pair.highres.name[11]

    of_a, of_b, of_c = (
        [image(f"ses-{label}_{name}", mm) for name, mm in PAIR.items()] for label in "abc"
    )
    assert session_of_pair(*of_a) == "a"
    assert session_of_pair(*of_a, of_b[0]) == "a"
    assert session_of_pair(*of_a, *of_b) == "b"
    assert session_of_pair(*of_a, *of_c) is None


@pytest.mark.parametrize(("zoom", "factor"), [(3.0, 2.0), (3.2, 2.0), (4.0, 1.5), (4.8, 1.25)])
def test_a_high_resolution_image_without_its_low_resolution_image_is_downsampled(zoom, factor):
    """The ratio 6 / 3.2 is not simple, but a copy downsampled by 2 has 6.4 mm voxels, similar
    to the BOLD voxels (6 mm).
    """
    choice = pairs_of(images=[image(HIGH, (zoom, zoom, 4.0))])
    pair = choice.value.pair
    assert (pair.lowres, pair.factor) == (None, (factor, factor, 1.0))
    assert about(choice.notices, HIGH, f"{factor:g}")


def test_unlabeled_images_are_a_pair_by_their_resolution():
    images = [image("acq-a", COARSE), image("acq-b", FINE)]
    pair = pairs_of(images=images).value.pair
    assert pair == Pair(highres=images[1].path, lowres=images[0].path, factor=(2.0, 2.0, 1.0))


@pytest.mark.parametrize(
    ("number", "options", "is_held_out"),
    [("2", (), True), ("10", (), True), ("2", ("--sr-method", "sbl"), False)],
)
def test_a_second_pair_is_held_out_from_training(number, options, is_held_out):
    sizes = {**FIRST_PAIR, f"{HIGH}_run-{number}": FINE, f"{LOW}_run-{number}": COARSE}
    images = [image(labels, zooms) for labels, zooms in sizes.items()]
    choice = pairs_of(*options, images=images)
    assert choice.value.pair.images == (images[0].path, images[1].path)
    assert (choice.value.holdout is not None) is is_held_out
    names = [header.path.name for header in images[2:]] if is_held_out else []
    assert about(choice.notices, "bold", "2", *names)


@pytest.mark.parametrize(
    ("shift", "share", "is_used"), [(12.0, 75, True), (24.0, 50, True), (44.5, 8, False)]
)
def test_images_must_cover_the_run(shift, share, is_used):
    images = [image(labels, zooms, shift) for labels, zooms in PAIR.items()]
    choice = pairs_of(images=images)
    assert (choice.value.pair is not None) is is_used
    named = [file for file in (HIGH, LOW) if about(choice.notices, file, f"{share}%")]
    assert named == ([HIGH, LOW] if share < 60 else [])
    if not is_used:
        assert [fault.what for fault in refuse(images)] == [str(one.path) for one in images]


def test_overlap_is_a_fraction_of_the_first_field_of_view():
    target = image(HIGH, COARSE)
    shares = [measure_overlap(target, image(LOW, FINE, shift)) for shift in (0, 12.0, 48.1)]
    assert shares == pytest.approx([1.0, 0.75, 0.0])


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        (("bspline", "inject"), ("inject",)),
        (("zerofill",), ()),
        (("srgan", "sbl"), ("srgan",)),
        (("auto",), ()),
    ],
)
def test_methods_that_require_a_pair(methods, expected):
    assert needs_pair(SuperRes(method=methods)) == expected
    faults = list(refuse_without_pair("01", [BOLD.bold], make_settings("--sr-method", *methods)))
    if not expected:
        assert faults == []
    else:
        values = (f"({expected[0]})", "--sr-method auto", "--retrospective", "bspline")
        problem_of(faults, "sub-01", *values)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (2.0, 2.0),
        (2.03, 2.0),
        (1.94, None),
        (1.5, 1.5),
        (1.34, 4 / 3),
        (1.76, 1.75),
        (3.0, 3.0),
        (1.1, None),
    ],
)
def test_voxel_size_ratios_are_rounded_to_simple_ratios(ratio, expected):
    assert nearest_simple_ratio(ratio) == (None if expected is None else pytest.approx(expected))
