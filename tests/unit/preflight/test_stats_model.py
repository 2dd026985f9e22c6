"""BIDS Stats Models: contrasts and confounds that are used, and all reasons for rejection."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from data.dataset import BidsMaker
from graphmaker import planned_graph
from pages import scripts

from bids_sr.bids import Findings
from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.glm.contrasts import resolve_contrasts
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.model_confounds import model_confounds
from bids_sr.io.confound_names import list_columns
from bids_sr.pipeline.nipype_workflow import make_workflow
from bids_sr.preflight import check
from bids_sr.preflight.estimability import TypesOfRun
from bids_sr.preflight.run_contrasts import resolve_run_contrasts
from bids_sr.preflight.stats_model import read_model

DOCS = Path(__file__).parents[3] / "docs"
BOLD = Path("sub-01_task-tap_bold.nii.gz")
TYPES = {BOLD: TypesOfRun.all_described(["thumb", "little"])}
COLUMNS = list_columns(60)
OPTIONS: dict[str, Any] = {"hrf": HemodynamicResponse(), "confound_columns": COLUMNS}
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]


def documented(page: str) -> dict[str, Any]:
    """Return the model shown on a page of the documentation."""
    [text] = scripts(DOCS / page, "json")
    model: dict[str, Any] = json.loads(text)
    return model


def write_model(model: object, folder: Path) -> Path:
    path = folder / "model.json"
    path.write_text(model if isinstance(model, str) else json.dumps(model))
    return path


@pytest.mark.parametrize(
    ("page", "contrasts", "confounds"),
    [
        (
            "recipes/stats_model.md",
            {
                "thumb": {"thumb": 1.0},
                "little": {"little": 1.0},
                "thumbVsLittle": {"thumb": 1.0, "little": -1.0},
            },
            ["trans_?", "rot_?", "a_comp_cor_0[0-4]"],
        ),
        (
            "downstream.md",
            {"thumbVersusLittle": {"thumb": 1.0, "little": -1.0}},
            [*MOTION, "non_steady_state_outlier*"],
        ),
    ],
)
def test_models_of_the_documentation_are_accepted(
    page: str, contrasts: dict[str, dict[str, float]], confounds: list[str], tmp_path: Path
) -> None:
    """Includes the model for fitlins."""
    findings = Findings()
    contrast_texts, confound_names = read_model(
        write_model(documented(page), tmp_path), TYPES, findings, **OPTIONS
    )
    assert not findings.problems
    assert resolve_contrasts(TYPES[BOLD].modeled, contrast_texts) == contrasts
    assert list(confound_names) == confounds


def _node(model: dict[str, Any]) -> dict[str, Any]:
    node: dict[str, Any] = model["Nodes"][0]
    return node


def _x(*names: object) -> Callable[[dict[str, Any]], None]:
    return lambda model: _node(model)["Model"].update(X=list(names))


def _instruction(**fields: object) -> Callable[[dict[str, Any]], None]:
    return lambda model: _node(model)["Transformations"]["Instructions"].append(fields)


def _contrast(**fields: object) -> Callable[[dict[str, Any]], None]:
    return lambda model: _node(model)["Contrasts"][0].update(fields)


REJECTED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another level": (
        lambda model: _node(model).update(Level="Dataset"),
        ("has the levels dataset"),
    ),
    "a second node": (
        lambda model: model["Nodes"].append(
            copy.deepcopy(_node(model)) | {"Level": "Subject", "Name": "subject"}
        ),
        "the model has the levels run, subject",
    ),
    "other runs": (
        lambda model: model.update(Input={"task": ["rest"]}),
        "Input excludes sub-01",
    ),
    "runs together": (
        lambda model: _node(model).update(GroupBy=["subject"]),
        "GroupBy combines several runs",
    ),
    "another response": (
        lambda model: _node(model)["Model"].update(HRF={"Model": "DoubleGamma"}),
        "the file contains x, type, hrf",
    ),
    "another model": (
        lambda model: _node(model)["Model"].update(Type="meta"),
        "only X and Type glm",
    ),
    "a transformation": (_instruction(Name="Scale", Input=["trans_x"]), "transformation Scale"),
    "a derivative": (
        _instruction(Name="Convolve", Input=["trial_type.*"], Derivative=True),
        "activation.hrf_model is 'spm'",
    ),
    "a convolved confound": (
        _instruction(Name="Convolve", Input=["trans_x"]),
        "transformation Convolve",
    ),
    "not convolved": (
        lambda model: _node(model)["Transformations"]["Instructions"].pop(),
        "Convolve must include all trial types, but the following are missing:"
        " trial_type.little, trial_type.thumb",
    ),
    "a trial type less": (
        _x(1, "trial_type.thumb", "trans_x"),
        ("following are missing: trial_type.little"),
    ),
    "no confound": (
        _x(1, "intercept", "trial_type.*", "trans_w", "age", "1st"),
        "neither trial types nor confounds: trans_w, age, 1st",
    ),
    "an F test": (
        _contrast(Test="F", Weights=[[1, 0], [0, 1]]),
        "thumb_vs_little is not a t-test (Test is 'F')",
    ),
    "a confound in a contrast": (
        _contrast(ConditionList=["trial_type.thumb", "trans_x"]),
        "thumb_vs_little contains 'trans_x', which is not a trial type",
    ),
    "an unknown trial type": (
        _contrast(ConditionList=["trial_type.thumb", "trial_type.index"]),
        "thumb_vs_little contains the trial type 'index', which is not modeled in any selected run"
        " (modeled trial types: little, thumb)",
    ),
    "a misspelled trial type": (
        _contrast(ConditionList=["trial_type.Thumb", "trial_type.little"]),
        "did you mean 'thumb'?",
    ),
    "a trial type without its prefix": (
        _contrast(ConditionList=["trial_type.thumb", "little"]),
        "thumb_vs_little contains 'little' without the prefix trial_type.",
    ),
    "an unknown trial type in the dummy contrasts": (
        lambda model: _node(model)["DummyContrasts"].update(Contrasts=["trial_type.foot"]),
        "contains the trial type 'foot'",
    ),
    "a misspelled trial type in X": (
        _x(1, "trial_type.thumb", "trial_type.little2"),
        "missing: trial_type.little. Unknown trial types: trial_type.little2",
    ),
    "no weight": (_contrast(Weights=[0, "0/5"]), "thumb_vs_little are zero"),
    "no number": (_contrast(Weights=[1, "1/0"]), "not a valid BIDS Stats Model"),
    "too few weights": (_contrast(Weights=[1]), "not a valid BIDS Stats Model"),
    "no GroupBy": (lambda model: _node(model).pop("GroupBy"), "not a valid BIDS Stats Model"),
    "no nodes": (lambda model: model.pop("Nodes"), "not a valid BIDS Stats Model"),
}


@pytest.mark.parametrize(
    ("hrf_model", "fields", "accepted"),
    [
        ("spm", {}, True),
        ("spm", {"Model": "glover"}, False),
        ("glover", {}, False),
        ("glover", {"Model": "glover", "Derivative": False}, True),
        ("glover + derivative", {"Model": "glover", "Derivative": True}, True),
        (
            "glover + derivative",
            {"Model": "glover", "Derivative": True, "Dispersion": True},
            False,
        ),
        ("spm + derivative", {"Model": "spm"}, False),
    ],
)
def test_the_convolution_must_have_the_response_of_the_settings(
    hrf_model: str, fields: dict[str, Any], accepted: bool, tmp_path: Path
) -> None:
    model, findings = documented("recipes/stats_model.md"), Findings()
    (convolution,) = [
        instruction
        for instruction in _node(model)["Transformations"]["Instructions"]
        if instruction["Name"] == "Convolve"
    ]
    del convolution["Model"]
    convolution.update(fields)
    hrf = HemodynamicResponse(hrf_model=hrf_model)
    read_model(write_model(model, tmp_path), TYPES, findings, hrf=hrf, confound_columns=COLUMNS)
    assert [hrf_model in problem.why for problem in findings.problems] == [True] * (not accepted)


@pytest.mark.parametrize("case", REJECTED)
def test_unsupported_models_are_rejected_with_the_reason(case: str, tmp_path: Path) -> None:
    """Neither contrasts nor confounds of such a model are used."""
    spoil, message = REJECTED[case]
    model, findings = documented("recipes/stats_model.md"), Findings()
    spoil(model)
    runs = {Path(f"sub-01_task-tap_run-{run}_bold.nii.gz"): TYPES[BOLD] for run in (1, 2)}
    path = write_model(model, tmp_path)
    assert read_model(path, runs, findings, **OPTIONS) == ([], [])
    (problem,) = findings.problems
    assert message in problem.why
    assert problem.what == f"--model {path}"
    assert "docs/recipes/stats_model.md" in problem.remedy


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_x(1, "trial_type.*", "trial_type.little2"), "X"),
        (
            lambda model: _node(model)["Transformations"]["Instructions"][1]["Input"].append(
                "trial_type.little2"
            ),
            "Convolve",
        ),
    ],
    ids=["X", "Convolve"],
)
def test_a_trial_type_that_no_run_has_is_named_and_ignored(
    change: Callable[[dict[str, Any]], None], field: str, tmp_path: Path
) -> None:
    """A model may be written for participants, although some of them lack a type."""
    model, findings = documented("recipes/stats_model.md"), Findings()
    change(model)
    contrasts, _ = read_model(write_model(model, tmp_path), TYPES, findings, **OPTIONS)
    assert not findings.problems
    assert [name for name, _ in contrasts] == ["little", "thumb", "thumbVsLittle"]
    (notice,) = findings.notices
    assert notice.level == "warning"
    assert f"{field} contains the trial type 'little2'" in notice.why
    assert "did you mean 'little'?" in notice.why


def test_a_contrast_of_a_type_that_is_not_modeled_has_its_reason(maker: BidsMaker) -> None:
    maker.subject()
    maker.events(
        "sub-01_task-tap",
        [
            (onset, 4.0, name)
            for onset, kind in ((2, "thumb"), (8, "little"), (14, "thumb"), (19, "little"))
            for name in (kind, "both")
        ],
    )
    model = documented("recipes/stats_model.md")
    _contrast(ConditionList=["trial_type.thumb", "trial_type.both"])(model)
    path = write_model(model, maker.root.parent)
    line = [str(maker.root), str(maker.root.parent / "out"), "participant"]
    line += ["--skip-bids-validation", "--model", str(path)]
    (problem,) = check(parse_settings(line).resolve(run_uuid="x")).problems
    assert problem.what == f"--model {path}"
    assert "'both', which is not modeled because it lists the events of" in problem.why


def test_a_missing_model_file_is_reported(tmp_path: Path) -> None:
    read_model(tmp_path / "model.json", {}, findings := Findings(), **OPTIONS)
    assert findings.problems[0].why == "the model file cannot be read (No such file or directory)"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"Nodes": 3}', '{"Nodes": []}'])
def test_files_that_are_not_models_are_rejected(text: str, tmp_path: Path) -> None:
    findings = Findings()
    assert read_model(write_model(text, tmp_path), TYPES, findings, **OPTIONS) == ([], [])
    (problem,) = findings.problems
    assert "not a valid BIDS Stats Model" in problem.why


def test_weights_may_be_fractions_and_run_labels_may_have_leading_zeros(tmp_path: Path) -> None:
    """Fractions follow the specification; the name of a contrast may start with a digit."""
    model = documented("recipes/stats_model.md")
    _contrast(Name="2 of 3", Weights=["2/3", -0.25])(model)
    model["Input"] = {"task": ["tap"], "run": [1, 2]}
    runs = {Path(f"sub-01_task-tap_run-{run}_bold.nii.gz"): TYPES[BOLD] for run in ("01", "02")}
    findings = Findings()
    contrast_texts, _ = read_model(write_model(model, tmp_path), runs, findings, **OPTIONS)
    assert not findings.problems
    weights = resolve_contrasts(TYPES[BOLD].modeled, contrast_texts)["2Of3"]
    assert weights == pytest.approx({"thumb": 2 / 3, "little": -0.25})


def test_weights_may_be_small_and_trial_types_repeated(tmp_path: Path) -> None:
    """Weights are never converted to text and parsed again."""
    model, findings = documented("recipes/stats_model.md"), Findings()
    terms = [f"trial_type.{name}" for name in ("thumb", "little", "thumb")]
    _contrast(ConditionList=terms, Weights=[1e-05, -1, 2])(model)
    contrast_texts, _ = read_model(write_model(model, tmp_path), TYPES, findings, **OPTIONS)
    assert not findings.problems
    weights = resolve_contrasts(TYPES[BOLD].modeled, contrast_texts)["thumbVsLittle"]
    assert weights == {"thumb": 2.00001, "little": -1.0}


def test_notices_on_contrasts_of_some_runs_name_the_model(tmp_path: Path) -> None:
    """Notices must not name an option that was not used."""
    second_bold = Path("sub-01_task-tap_run-2_bold.nii.gz")
    types = {**TYPES, second_bold: TypesOfRun.all_described(["thumb"])}
    contrast_texts, _ = read_model(
        write_model(documented("recipes/stats_model.md"), tmp_path), types, Findings(), **OPTIONS
    )
    findings = Findings()
    runs = resolve_run_contrasts(types, contrast_texts, {}, findings)
    assert list(runs[BOLD]) == ["little", "thumb", "thumbVsLittle"]
    assert [list(contrasts) for contrasts in runs.values()][1] == ["thumb"]
    assert [notice.what for notice in findings.notices] == [
        "--model, contrast little",
        "--model, contrast thumbVsLittle",
    ]


def test_contrasts_whose_names_differ_only_in_signs_get_distinct_labels(tmp_path: Path) -> None:
    """Labels consist of letters and digits: the second of `a+b` and `a-b` gets a number."""
    model = documented("recipes/stats_model.md")
    _node(model)["DummyContrasts"] = {"Contrasts": [], "Test": "t"}
    first = _node(model)["Contrasts"][0] | {"Name": "thumb-little"}
    _node(model)["Contrasts"] = [first, first | {"Name": "thumb+little", "Weights": [1, 1]}]
    contrast_texts, _ = read_model(write_model(model, tmp_path), TYPES, Findings(), **OPTIONS)
    assert resolve_contrasts(TYPES[BOLD].modeled, contrast_texts) == {
        "thumbLittle": {"thumb": 1.0, "little": -1.0},
        "thumbLittle2": {"thumb": 1.0, "little": 1.0},
    }


def test_wildcards_of_confounds_match_columns_of_the_table() -> None:
    """Columns are listed once, and no others are added."""
    table = pd.DataFrame(0.0, index=range(60), columns=[*MOTION, "csf", "a_comp_cor_00"])
    assert model_confounds(table, ["trans_*", "trans_x", "csf", "rot_[xy]", "white_matter"]) == (
        *MOTION[:3],
        "csf",
        "rot_x",
        "rot_y",
    )
    assert model_confounds(table, []) == ()
    assert len(model_confounds(table.assign(**{f"{n}_derivative1": 0.0 for n in MOTION}))) == 13


def test_a_call_combines_the_model_with_requested_contrasts(maker: BidsMaker) -> None:
    maker.subject()
    path = write_model(documented("recipes/stats_model.md"), maker.root.parent)
    out = str(maker.root.parent / "out")
    line = [str(maker.root), out, "participant", "--skip-bids-validation"]
    line += ["--model", str(path), "--contrasts", "all"]
    plan = check(parse_settings(line).resolve(run_uuid="x"))
    assert not plan.problems
    (weights,) = plan.contrasts.values()
    assert list(weights) == ["little", "thumb", "thumbVsLittle", "all"]
    assert plan.nuisance == ["trans_?", "rot_?", "a_comp_cor_0[0-4]"]


def test_nodes_receive_the_confounds_of_the_model(maker: BidsMaker) -> None:
    """Without a model, the default confounds are used."""
    maker.subject()
    folder = maker.root.parent
    path = write_model(documented("recipes/stats_model.md"), folder)
    for options, expected in ((["--model", str(path)], ["trans_?", "rot_?"]), ([], None)):
        graph = planned_graph(maker, folder, "--sr-method", "zerofill", *options)
        flow = make_workflow(graph, base_dir=folder, need_gb=lambda need: 0.1)
        node_names = [name for name in flow.list_node_names() if name.endswith(".map_series")]
        assert len(node_names) > 1
        for name in node_names:
            nuisance = flow.get_node(name).inputs.nuisance
            assert nuisance is None if expected is None else nuisance[:2] == expected


def test_a_rejected_model_exits_with_code_2(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Check that the message contains file, reason and fix."""
    maker.subject()
    model = documented("recipes/stats_model.md")
    _x(1, "trial_type.thumb")(model)
    path = write_model(model, maker.root.parent)
    out = maker.root.parent / "out"
    line = [str(maker.root), str(out), "participant", "--skip-bids-validation"]
    assert main([*line, "--model", str(path)]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert f"--model {path}" in message
    assert (
        "X must include all trial types, but the following are missing: trial_type.little"
    ) in message


def test_a_model_for_runs_without_events_is_rejected(maker: BidsMaker) -> None:
    """Otherwise, the model would be ignored silently."""
    maker.bold("sub-01_task-rest", n_volumes=90)
    path = write_model(documented("recipes/stats_model.md"), maker.root.parent)
    line = [str(maker.root), str(maker.root.parent / "out"), "participant"]
    line += ["--skip-bids-validation", "--task-id", "rest", "--model", str(path)]
    (problem,) = check(parse_settings(line).resolve(run_uuid="x")).problems
    assert problem.what == f"--model {path}"
    assert problem.why.startswith("the model requires runs with events")
