"""Runs that are excluded from maps of all runs because of phase encoding, echo time or field."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import only_run, plan_for
from data.dataset import EVENTS, BidsMaker
from data.records import make_run, make_settings
from graphmaker import planned_call

from bids_sr.io.dataset_description import write_dataset
from bids_sr.survey.bids.acquisitions import (
    find_unusual_acquisitions,
    list_acquisition_fields,
    read_acquisition,
)
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.bids.precomputed import DerivativeFolder, PrecomputedField, PrecomputedRun
from bids_sr.survey.preflight.checks import judge_combination
from bids_sr.survey.preflight.combined_runs import group_runs
from bids_sr.survey.preflight.plan import Plan
from bids_sr.version import __version__
from bids_sr.workflows.participant import make_graph

J, K = {"PhaseEncodingDirection": "j"}, {"PhaseEncodingDirection": "j-"}
RUN = make_run()


def compare(*runs: BoldRun) -> dict[str, str]:
    """Return the reasons of runs that differ from most runs, by number from 0."""
    return find_unusual_acquisitions(
        {
            str(number): read_acquisition(list_acquisition_fields(run), run.affine)
            for number, run in enumerate(runs)
        }
    )


@pytest.mark.parametrize(
    ("key", "values", "different"),
    [
        ("PhaseEncodingDirection", ("j-", "j", "j-"), ["1"]),
        ("PhaseEncodingDirection", ("i", "j", "j"), ["0"]),
        ("PhaseEncodingDirection", ("j", "j-"), ["1"]),
        ("PhaseEncodingDirection", ("j", None, "j", "AP"), []),
        ("EchoTime", (0.03, 0.0315, 0.03), []),
        ("EchoTime", (0.03, 0.0316, 0.03), ["1"]),
        ("EchoTime", (0.03, 0.02, 0.02, None), ["0"]),
        ("EchoTime", (0.03, 30, 0.03), []),  # without a valid value
        ("MagneticFieldStrength", (3, 2.89, 3.0), []),
        ("MagneticFieldStrength", (3, 2.7, 3), ["1"]),
        ("MagneticFieldStrength", (1.5, 1.494, 3), ["2"]),
        ("MagneticFieldStrength", (7, None, "3", True), []),
    ],
)
def test_runs_that_differ_from_most_runs_are_found(
    key: str, values: tuple[object, ...], different: list[str]
) -> None:
    sidecars = [{} if value is None else {key: value} for value in values]
    reasons = compare(*(make_run(sidecar=sidecar) for sidecar in sidecars))
    assert list(reasons) == different
    assert all(key in reason for reason in reasons.values())


def test_directions_are_compared_in_the_head_whatever_the_storage_order() -> None:
    affine = RUN.affine @ np.diag([1.0, -1.0, 1.0, 1.0])
    flipped = replace(RUN, header=replace(RUN.header, affine=affine))
    assert compare(replace(RUN, sidecar=J), replace(flipped, sidecar=K)) == {}
    assert list(compare(replace(RUN, sidecar=J), replace(flipped, sidecar=J))) == ["1"]


def test_directions_of_runs_with_corrected_distortion_are_not_compared() -> None:
    file = Path("file")
    field = PrecomputedField(name="a", fieldmap=file, xfm=file, phase_encoding="j", readout=0.03)
    origin = DerivativeFolder(root=file, name="a", program="fMRIPrep", version="23.2")
    corrected = PrecomputedRun(origin=origin, hmc=None, field=field)
    assert compare(make_run(sidecar=J), make_run(sidecar=K, precomputed=corrected)) == {}


def test_the_mean_echo_time_of_combined_echoes_is_compared() -> None:
    times = ((12, 28, 44), (13, 29, 45), (12, 28))
    runs = [make_run(echoes=tuple((RUN.bold, te_ms) for te_ms in echoes)) for echoes in times]
    assert list(compare(*runs)) == ["2"]


@pytest.mark.parametrize("combine_all", [False, True])
@pytest.mark.parametrize("label", ["run", "ses"])
def test_the_run_is_left_out_or_combined_with_a_warning(label: str, *, combine_all: bool) -> None:
    numbers = ("1", "2", "3")
    stem = "sub-01_ses-{}_task-tap" if label == "ses" else "sub-01_task-tap_run-{}"
    runs = tuple(
        make_run(stem.format(number), sidecar=sidecar)
        for number, sidecar in zip(numbers, (K, J, K), strict=True)
    )
    plan = Plan(
        subjects=(Subject(label="01", t1w=(), runs=runs),),
        contrasts={run.bold: {"thumb": {"thumb": 1.0}} for run in runs},
        combines_all_runs=combine_all,
    )
    (group,) = group_runs(runs, plan)
    names = [f"{label}-{number}" for number in numbers]
    assert list(group.runs) == (names if combine_all else [names[0], names[2]])
    assert list(group.unusual if combine_all else group.left_out) == [names[1]]
    (warning,) = judge_combination(plan, make_settings())
    assert f"{label}-2" in warning.what
    assert "PhaseEncodingDirection" in warning.why
    assert ("activation.combine_all_runs=true" in warning.why) is not combine_all


def test_choices_for_several_runs_reach_the_plan(tmp_path: Path) -> None:
    """The fourth run was processed in another call, and the third has a single block per type."""
    maker = BidsMaker(tmp_path / "bids")
    for number, sidecar in enumerate((K, J, K, K), 1):
        stem = f"sub-01_ses-{number}_task-tap"
        maker.bold(stem, sidecar=sidecar)
        maker.events(stem, EVENTS[: 2 if number == 3 else 4])
    maps = tmp_path / "out/sub-01/ses-4/func"
    maps.mkdir(parents=True)
    write_dataset(tmp_path / "out", bids_dir=maker.root, version=__version__)
    (maps / f"{stem}_contrast-thumb_stat-effect_desc-acquired_statmap.nii.gz").touch()
    options = ["--session-label", "1", "2", "3", "--set", "activation.combine_all_runs=true"]
    plan = plan_for(maker, "--sr-method", "bspline", *options)
    assert plan.problems == ()
    assert plan.combines_all_runs
    assert {path.name[:12] for path in plan.unsplit} == {"sub-01_ses-3"}
    warnings = [notice.why for notice in plan.warnings if notice.level == "warning"]
    assert len([text for text in warnings if "PhaseEncodingDirection" in text]) == 1
    assert len([text for text in warnings if "maps of ses-4" in text]) == 1


def test_the_sidecar_of_the_boldref_names_the_axes_of_the_file(tmp_path: Path) -> None:
    """The group level compares runs by this sidecar."""
    maker = BidsMaker(tmp_path / "bids")
    sidecar = {
        "SliceEncodingDirection": "i",
        "PhaseEncodingDirection": "j-",
        "EchoTime": 0.03,
        "MagneticFieldStrength": 3,
    }
    file = maker.bold(sidecar=sidecar)
    maker.events()
    image = nb.load(file)
    turned = nb.Nifti1Image(
        np.asarray(image.dataobj).transpose(2, 0, 1, 3), image.affine[:, [2, 0, 1, 3]]
    )
    turned.header.set_zooms((4, 6, 6, 1))
    nb.save(turned, file)
    settings, plan = planned_call(maker, tmp_path, "--sr-method", "bspline", "--sr-factor", "2")
    assert only_run(plan).axis_order == (1, 2, 0)
    stored = [
        node.settings["own_sidecar"]
        for node in make_graph(settings, plan, "01").nodes
        if node.settings.get("own_entities") == {"desc": "hmc", "suffix": "boldref"}
    ]
    fields = {key: sidecar[key] for key in list(sidecar)[1:]}
    assert [{key: own[key] for key in fields} for own in stored] == [fields]
