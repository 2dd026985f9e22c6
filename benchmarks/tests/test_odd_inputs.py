"""Test that odd inputs give correct maps, an error that names the reason, or a notice.

Wrong maps must be detected by `judge`. benchmarks/odd_inputs.py tries hundreds of combinations of
the kinds.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import odd_inputs
import pytest
from _odd_inputs_kinds import KINDS, Right
from _odd_inputs_run import Outcome, judge, kinds_of, run_case, unaltered, warm_up
from data.simulated_run import EFFECTS, Scene, response

MODEL = [name for name, kind in KINDS.items() if not kind.fault and "model" in kind.depths]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    warm_up(folder)
    return folder


@pytest.mark.parametrize("name", MODEL)
def test_an_odd_input_gives_correct_maps_or_an_error(name: str, folder: Path) -> None:
    outcome = run_case(MODEL.index(name), 11, "model", folder, (KINDS[name],))
    assert outcome.wrong == ""


@pytest.mark.parametrize("name", ["sparse_blocks", "closed_streams", "names_of_columns"])
def test_an_odd_input_gives_correct_final_outputs(name: str, folder: Path) -> None:
    assert run_case(3, 11, "end", folder, (KINDS[name],)).wrong == ""


@pytest.mark.slow
@pytest.mark.parametrize("number", range(60))
def test_combined_alterations_give_correct_maps_or_an_error(number: int, folder: Path) -> None:
    kinds = kinds_of(number, 12, "model")
    if any(kind.fault for kind in kinds):
        pytest.skip("a kind with a known fault")
    assert run_case(number, 12, "model", folder, kinds).wrong == ""


def test_messages_do_not_contain_local_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = f"{tmp_path}/case/bids: crashed"
    monkeypatch.setattr("_odd_inputs_run.model_depth", lambda *_: (70, log, {}))
    monkeypatch.setattr("_odd_inputs_run.unaltered", lambda *_: {})
    message = run_case(0, 0, "model", tmp_path, (KINDS["repeated_rows"],)).wrong
    assert "FOLDER/case/bids: crashed" in message
    assert str(tmp_path) not in message


def scene_and_maps(tmp_path: Path) -> tuple[Scene, dict[str, np.ndarray]]:
    scene = Scene(tmp_path)
    maps = {f"map {name}": scene.truth(name) for name in EFFECTS}
    maps |= {"map mask": scene.head, "map boldref": scene.mean}
    return scene, {**maps, "labels": np.array(json.dumps({name: name for name in EFFECTS}))}


def test_the_judge_accepts_the_known_effects(tmp_path: Path) -> None:
    scene, maps = scene_and_maps(tmp_path)
    assert judge(0, "", maps, scene, Right(exact=False), {}) == ("known effects", "")
    assert judge(0, "", maps, scene, Right(), maps) == ("equal", "")


@pytest.mark.parametrize(
    ("name", "gain", "words"),
    [("thumb", 1.1, "effect of thumb"), ("little", 0.9, "effect of little"), ("mask", 0, "mask")],
)
def test_the_judge_rejects_a_wrong_map(tmp_path: Path, name: str, gain: float, words: str) -> None:
    scene, maps = scene_and_maps(tmp_path)
    maps[f"map {name}"] = maps[f"map {name}"] * gain
    assert words in judge(0, "", maps, scene, Right(exact=False), {})[1]


def test_the_judge_rejects_small_differences_from_the_unaltered_maps(tmp_path: Path) -> None:
    scene, maps = scene_and_maps(tmp_path)
    altered = {**maps, "map thumb": maps["map thumb"] * 1.02}
    assert "differs by" in judge(0, "", altered, scene, Right(), maps)[1]
    assert judge(0, "", altered, scene, Right(gain=1.02, types=("thumb",)), maps) == ("equal", "")


@pytest.mark.parametrize(
    ("code", "text", "right", "words"),
    [
        (0, "", Right(refused=["phase"]), "has to be refused"),
        (2, "file: too short", Right(refused=["phase"]), "the message has none of"),
        (2, "file: too short", Right(), "and is sound"),
        (1, "", Right(), "exit code 1"),
        (0, "Traceback (most recent call last)", Right(), "exit code 0"),
        (0, "", Right(notices=["listed twice"]), "no notice has"),
        (0, "analyzed as resting state", Right(absent=["as resting"]), "a notice has"),
        (0, "WRONG: a slab", Right(), "a slab"),
    ],
)
def test_the_judge_rejects_wrong_exit_codes_and_messages(
    tmp_path: Path, code: int, text: str, right: Right, words: str
) -> None:
    assert words in judge(code, text, {}, Scene(tmp_path), right, {})[1]


def test_the_judge_accepts_a_wrapped_message(tmp_path: Path) -> None:
    right = Right(refused=["a phase image"])
    assert judge(2, "found: a\n  phase image", {}, Scene(tmp_path), right, {}) == ("refused", "")


def test_the_judge_requires_a_message_only_if_stderr_is_open(tmp_path: Path) -> None:
    closed = Right(refused=["phase image"], shell="{} 2>&-")
    assert judge(2, "", {}, Scene(tmp_path), closed, {}) == ("refused", "")
    open_ = Right(refused=["phase image"], shell="{} >&-")
    assert "the message has none of" in judge(2, "", {}, Scene(tmp_path), open_, {})[1]


def test_cases_are_reproducible_and_alter_no_part_twice() -> None:
    for number in range(60):
        kinds = kinds_of(number, 0, "model")
        assert kinds == kinds_of(number, 0, "model")
        parts = [part for kind in kinds for part in kind.touches]
        assert len(parts) == len(set(parts))
    first = {kinds_of(number, 0, "model")[0].name for number in range(len(KINDS))}
    assert first == {name for name, kind in KINDS.items() if "model" in kind.depths}


def test_a_stopped_series_of_cases_resumes(tmp_path: Path) -> None:
    record = tmp_path / "cases.jsonl"
    lines = []
    for number, wrong in ((0, ""), (1, "no map"), (1, "")):
        case = Outcome(number, ("offset",), "model", "equal", wrong, 1.0, "abc")
        lines.append(json.dumps({"seed": 5, **json.loads(case.line())}))
    record.write_text("\n".join(lines) + "\n" + lines[0][:40])
    done = odd_inputs.recorded(record, 5)
    assert sorted(done) == [("model", 0), ("model", 1)]
    assert done["model", 1].wrong == ""
    assert odd_inputs.recorded(record, 6) == {}


def test_the_response_equals_the_spm_response_of_nilearn() -> None:
    from nilearn.glm.first_level import compute_regressor

    times = np.arange(0, 90, 1.5)
    events = [(4.0, 12.0, "a"), (40.0, 3.0, "a")]
    condition = np.array([(onset, length, 1.0) for onset, length, _ in events]).T
    (nilearn_response,), _ = compute_regressor(condition, "spm", times, oversampling=50)[0].T, None
    assert np.abs(response(times, events) - nilearn_response).max() < 0.02


def test_the_unaltered_maps_have_the_known_effects(folder: Path) -> None:
    scene = Scene(folder / "unused")
    assert judge(0, "", unaltered("model", folder), scene, Right(exact=False), {})[1] == ""
