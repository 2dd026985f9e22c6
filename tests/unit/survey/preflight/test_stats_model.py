"""BIDS Stats Models: contrasts and confounds that are used, and all reasons for rejection."""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from data.calls import about, arguments, plan_for, problem_of
from data.dataset import EVENTS, BidsMaker
from graphmaker import nodes_of, planned_graph
from pages import scripts

from bids_sr.cli.main import main
from bids_sr.glm.contrasts import label_types, resolve_contrasts
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.io.confound_names import list_columns
from bids_sr.preproc.model_confounds import model_confounds
from bids_sr.survey.notices import InputError
from bids_sr.survey.preflight.estimability import TypesOfRun
from bids_sr.survey.preflight.run_contrasts import resolve_run_contrasts
from bids_sr.survey.preflight.stats_model import StatsModel, ignored_parts, read_model

DOCS = Path(__file__).parents[4] / "docs"
MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
TYPES = ("thumb", "little")
Model = dict[str, Any]
Change = Callable[[Model], Any]


def documented() -> Model:
    """Return the model of the documentation, which bids-sr and fitlins read."""
    [text] = scripts(DOCS / "downstream.md", "json")
    return json.loads(text)


def with_patterns() -> Model:
    """Return the documented model with the patterns and contrasts that the page describes."""
    model = documented()
    [node] = model["Nodes"]
    node["Transformations"]["Instructions"][-1]["Input"] = ["trial_type.*"]
    node["Model"]["X"] = [1, "trial_type.*", "trans_?", "rot_?", "a_comp_cor_0[0-4]"]
    node["DummyContrasts"] = {"Test": "t"}
    node["Contrasts"][0]["Name"] = "thumb_vs_little"
    return model


def changed(*changes: Change) -> Model:
    """Return the model with patterns after changes."""
    model = with_patterns()
    for change in changes:
        change(model)
    return model


def write_model(model: object, folder: Path) -> Path:
    path = folder / "model.json"
    path.write_text(model if isinstance(model, str) else json.dumps(model))
    return path


def read(
    model: object,
    folder: Path,
    types: Sequence[Sequence[str]] = (TYPES,),
    hrf_model: str = "spm",
) -> StatsModel:
    """Read a model for runs 1, 2 … with these trial types."""
    return read_model(
        write_model(model, folder),
        {
            path_of(number): TypesOfRun.all_described(names)
            for number, names in enumerate(types, 1)
        },
        hrf=HemodynamicResponse(hrf_model=hrf_model),
        confound_columns=list_columns(60),
    )


def path_of(number: int) -> Path:
    """Return the file of a run."""
    return Path(f"sub-01_task-tap_run-{number:02d}_bold.nii.gz")


def weights(model: object, folder: Path) -> dict[str, dict[str, float]]:
    """Return the contrasts of a run with the types thumb and little."""
    contrasts = resolve_contrasts(TYPES, read(model, folder).contrasts)
    return {name: dict(of) for name, of in contrasts.items()}


@pytest.mark.parametrize(
    ("model", "contrasts", "confounds"),
    [
        (
            with_patterns(),
            {
                "thumb": {"thumb": 1.0},
                "little": {"little": 1.0},
                "thumbVsLittle": {"thumb": 1.0, "little": -1.0},
            },
            ["trans_?", "rot_?", "a_comp_cor_0[0-4]"],
        ),
        (
            documented(),
            {"thumbVersusLittle": {"thumb": 1.0, "little": -1.0}},
            [*MOTION, "non_steady_state_outlier*"],
        ),
    ],
)
def test_models_of_the_documentation_are_accepted(
    model: Model, contrasts: dict[str, dict[str, float]], confounds: list[str], tmp_path: Path
) -> None:
    """Includes the patterns that only the text of the page describes."""
    assert weights(model, tmp_path) == contrasts
    assert read(model, tmp_path).confounds == confounds


def _node(model: Model) -> Model:
    return model["Nodes"][0]


def _instructions(model: Model) -> list[Model]:
    return _node(model)["Transformations"]["Instructions"]


def _x(*names: object) -> Change:
    return lambda model: _node(model)["Model"].update(X=list(names))


def _instruction(**fields: object) -> Change:
    return lambda model: _instructions(model).append(fields)


def _contrast(**fields: object) -> Change:
    return lambda model: _node(model)["Contrasts"][0].update(fields)


def _second_node(model: Model) -> None:
    node = copy.deepcopy(_node(model)) | {"Level": "Subject", "Name": "subject"}
    model["Nodes"].append(node)


REJECTED: list[tuple[Change, list[str]]] = [
    (lambda model: _node(model).update(Level="Dataset"), ["dataset"]),
    (_second_node, ["run, subject"]),
    (lambda model: model.update(Input={"task": ["rest"]}), ["sub-01_task-tap_run-01_bold.nii.gz"]),
    (lambda model: _node(model).update(GroupBy=["subject"]), ["GroupBy"]),
    (lambda model: _node(model)["Model"].update(HRF={"Model": "DoubleGamma"}), ["hrf"]),
    (lambda model: _node(model)["Model"].update(Type="meta"), ["glm"]),
    (_instruction(Name="Scale", Input=["trans_x"]), ["Scale"]),
    (
        _instruction(Name="Convolve", Input=["trial_type.*"], Derivative=True),
        ["activation.hrf_model", "'spm'"],
    ),
    (_instruction(Name="Convolve", Input=["trans_x"]), ["Convolve"]),
    (
        lambda model: _instructions(model).pop(),
        ["Convolve", "trial_type.little, trial_type.thumb"],
    ),
    (_x(1, "trial_type.thumb", "trans_x"), ["X", "trial_type.little"]),
    (_x(1, "intercept", "trial_type.*", "trans_w", "age", "1st"), ["trans_w, age, 1st"]),
    (_contrast(Test="F", Weights=[[1, 0], [0, 1]]), ["thumb_vs_little", "'F'"]),
    (
        _contrast(ConditionList=["trial_type.thumb", "trans_x"]),
        ["thumb_vs_little", "'trans_x'"],
    ),
    (
        _contrast(ConditionList=["trial_type.thumb", "trial_type.index"]),
        ["thumb_vs_little", "'index'", "little, thumb"],
    ),
    (_contrast(ConditionList=["trial_type.Thumb", "trial_type.little"]), ["'Thumb'", "'thumb'"]),
    (_contrast(ConditionList=["trial_type.thumb", "little"]), ["'little'", "trial_type."]),
    (
        lambda model: _node(model)["DummyContrasts"].update(Contrasts=["trial_type.foot"]),
        ["'foot'"],
    ),
    (
        _x(1, "trial_type.thumb", "trial_type.little2"),
        ["trial_type.little", "trial_type.little2"],
    ),
    (_contrast(Weights=[0, "0/5"]), ["thumb_vs_little"]),
    (_contrast(Weights=[1, "1/0"]), ["BIDS"]),
    (_contrast(Weights=[1]), ["BIDS"]),
    (lambda model: _node(model).pop("GroupBy"), ["BIDS"]),
    (lambda model: model.pop("Nodes"), ["BIDS"]),
]


@pytest.mark.parametrize(("change", "values"), REJECTED)
def test_unsupported_models_are_refused_with_their_values(
    change: Change, values: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refusal:
        read(changed(change), tmp_path, (TYPES, TYPES))
    file = f"--model {tmp_path / 'model.json'}"
    problems = refusal.value.problems
    problem_of(problems, file, *values, "docs/downstream.md", code="option")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"Nodes": 3}', '{"Nodes": []}', None])
def test_files_that_are_not_models_are_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    if text is not None:
        path.write_text(text)
    options: dict[str, Any] = {"hrf": HemodynamicResponse(), "confound_columns": []}
    with pytest.raises(InputError) as refusal:
        read_model(path, {}, **options)
    problem_of(refusal.value.problems, f"--model {path}", code="option")


@pytest.mark.parametrize(
    ("hrf_model", "fields", "is_accepted"),
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
    hrf_model: str, fields: Model, is_accepted: bool, tmp_path: Path
) -> None:
    def convolve(model: Model) -> None:
        (convolution,) = [step for step in _instructions(model) if step["Name"] == "Convolve"]
        del convolution["Model"]
        convolution.update(fields)

    model = changed(convolve)
    if is_accepted:
        assert read(model, tmp_path, hrf_model=hrf_model).contrasts
        return
    with pytest.raises(InputError) as refusal:
        read(model, tmp_path, hrf_model=hrf_model)
    problem_of(refusal.value.problems, "--model", f"'{hrf_model}'", code="option")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_x(1, "trial_type.*", "trial_type.little2"), "X"),
        (
            lambda model: _instructions(model)[1]["Input"].append("trial_type.little2"),
            "Convolve",
        ),
    ],
)
def test_a_trial_type_that_no_run_has_is_named_and_ignored(
    change: Change, field: str, tmp_path: Path
) -> None:
    """A model may be written for participants, although some of them lack a type."""
    model = read(changed(change), tmp_path)
    assert [name for name, _ in model.contrasts] == ["little", "thumb", "thumbVsLittle"]
    (notice,) = ignored_parts(model)
    assert notice.level == "warning"
    assert about([notice], "--model", field, "'little2'", "'little'")


# ---- weights


def test_weights_may_be_fractions_and_run_labels_may_have_leading_zeros(tmp_path: Path) -> None:
    """Fractions follow the specification; the name of a contrast may start with a digit."""
    model = changed(_contrast(Name="2 of 3", Weights=["2/3", -0.25]))
    model["Input"] = {"task": ["tap"], "run": [1, 2]}
    found = weights(model, tmp_path)["2Of3"]
    assert found == pytest.approx({"thumb": 2 / 3, "little": -0.25})


def test_contrasts_whose_names_differ_only_in_signs_get_distinct_labels(tmp_path: Path) -> None:
    """Labels consist of letters and digits: the second of `a+b` and `a-b` gets a number."""
    model = with_patterns()
    _node(model)["DummyContrasts"] = {"Contrasts": [], "Test": "t"}
    first = _node(model)["Contrasts"][0] | {"Name": "thumb-little"}
    _node(model)["Contrasts"] = [first, first | {"Name": "thumb+little", "Weights": [1, 1]}]
    assert weights(model, tmp_path) == {
        "thumbLittle": {"thumb": 1.0, "little": -1.0},
        "thumbLittle2": {"thumb": 1.0, "little": 1.0},
    }


def test_notices_on_contrasts_of_some_runs_name_the_model(tmp_path: Path) -> None:
    """Notices must not name an option that was not used."""
    model = read(with_patterns(), tmp_path, (TYPES, ("thumb",)))
    types = {
        path_of(1): TypesOfRun.all_described(TYPES),
        path_of(2): TypesOfRun.all_described(["thumb"]),
    }
    labels = {bold: label_types(run.modeled) for bold, run in types.items()}
    choice = resolve_run_contrasts(types, model.contrasts, labels)
    runs = choice.value.by_run
    assert list(runs[path_of(1)]) == ["little", "thumb", "thumbVsLittle"]
    assert list(runs[path_of(2)]) == ["thumb"]
    assert [notice.what for notice in choice.notices] == [
        "--model, contrast little",
        "--model, contrast thumbVsLittle",
    ]


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


# ---- calls with a model


def test_a_call_combines_the_model_with_requested_contrasts(maker: BidsMaker) -> None:
    """Steps receive the confounds of the model, or the default without one."""
    folder = maker.root.parent
    options = ("--model", str(write_model(with_patterns(), folder)), "--contrasts", "all")
    plan = plan_for(maker, *options)
    assert plan.problems == ()
    (contrasts,) = plan.contrasts.values()
    assert list(contrasts) == ["little", "thumb", "thumbVsLittle", "all"]
    expected = ["trans_?", "rot_?", "a_comp_cor_0[0-4]"]
    assert plan.nuisance == expected
    for call, nuisance in ((options, expected), ((), None)):
        graph = planned_graph(maker, folder, "--sr-method", "zerofill", *call)
        nodes = nodes_of(graph, "map_series")
        assert len(nodes) > 1
        assert [graph.settings[node]["nuisance"] for node in nodes] == [nuisance] * len(nodes)


def test_a_contrast_of_a_type_that_is_not_modeled_is_refused(maker: BidsMaker) -> None:
    """The type repeats the events of two others."""
    rows = [(onset, 4.0, name) for onset, _, kind in EVENTS for name in (kind, "both")]
    maker.events(rows=rows)
    model = changed(_contrast(ConditionList=["trial_type.thumb", "trial_type.both"]))
    path = write_model(model, maker.root.parent)
    problems = plan_for(maker, "--model", str(path)).problems
    problem_of(problems, f"--model {path}", "'both'", code="option")


def test_a_model_that_does_not_fit_ends_the_call_with_code_2(
    maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_model(changed(_x(1, "trial_type.thumb")), maker.root.parent)
    assert main(arguments(maker, "--model", str(path))) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert f"--model {path}" in message
    assert "trial_type.little" in message
    # without events, the model would be ignored silently
    maker.bold("sub-01_task-rest", n_volumes=90)
    write_model(with_patterns(), maker.root.parent)
    problems = plan_for(maker, "--task-id", "rest", "--model", str(path)).problems
    problem_of(problems, f"--model {path}", code="option")
