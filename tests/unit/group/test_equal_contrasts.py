"""Only contrasts with equal weights are combined; excluded participants are named."""

import io
import json
from pathlib import Path

import pandas as pd

from bids_sr.engine.metric_rows import COLUMNS
from bids_sr.group.equal_contrasts import unequal_contrasts, unequal_lines
from bids_sr.group.input_tables import find_tables
from bids_sr.group.values import join_tables

TWO = {"all": {"a": 0.5, "b": 0.5}, "a": {"a": 1.0}}
THREE = {"all": dict.fromkeys("abc", 1 / 3), "a": {"a": 1.0}}


def write_participant(root: Path, label: str, weights: dict[str, dict[str, float]] | None) -> None:
    """Write the metrics table of a participant with one value per contrast."""
    stem = root / f"sub-{label}" / "func" / f"sub-{label}_task-tap_desc-activation_metrics"
    stem.parent.mkdir(parents=True)
    cells = dict.fromkeys(COLUMNS, "n/a") | {"series": "acquired", "statistic": "peak_z"}
    cells |= {"fwhm_mm": "0", "value": "3", "n": "1", "unit": "1"}
    rows = [cells | {"contrast": contrast} for contrast in ("all", "a")]
    lines = ["\t".join(COLUMNS), *("\t".join(row[name] for name in COLUMNS) for row in rows)]
    stem.with_suffix(".tsv").write_text("\n".join(lines) + "\n")
    facts = {"GeneratedByVersion": "1", "SettingsDigest": "x"}
    facts |= {} if weights is None else {"ContrastWeights": weights}
    stem.with_suffix(".json").write_text(json.dumps(facts))


def joined_contrasts(tables: pd.DataFrame) -> set[tuple[str, str]]:
    stream = io.StringIO()
    join_tables(tables, stream)
    table = pd.read_csv(io.StringIO(stream.getvalue()), sep="\t")
    return set(zip(table["participant"], table["contrast"], strict=True))


def test_a_participant_without_a_trial_type_is_excluded_from_the_contrast_all(
    tmp_path: Path,
) -> None:
    for label, weights in (("01", THREE), ("02", TWO), ("03", THREE)):
        write_participant(tmp_path, label, weights)
    tables = find_tables(tmp_path)
    assert joined_contrasts(tables) == {
        ("sub-01", "all"),
        ("sub-03", "all"),
        ("sub-01", "a"),
        ("sub-02", "a"),
        ("sub-03", "a"),
    }
    ((participant, line),) = unequal_lines(tables)
    assert participant == "sub-02"
    assert line.startswith(
        "sub-02 task-tap: the contrast all was excluded from the group analysis"
    )


def test_other_weights_are_excluded_and_unrecorded_weights_are_not(tmp_path: Path) -> None:
    """A sum is not averaged with a mean; of equally many, the first participant's are kept."""
    write_participant(tmp_path, "01", TWO)
    write_participant(tmp_path, "02", {"all": {"b": 1.0, "a": 1.0}, "a": {"a": 1.0, "b": 0.0}})
    write_participant(tmp_path, "03", None)
    tables = find_tables(tmp_path)
    assert {run: [*contrasts] for run, contrasts in unequal_contrasts(tables).items()} == {
        "sub-02 task-tap": ["all"]
    }
    ((participant, line),) = unequal_lines(tables)
    assert participant == "sub-02"
    assert "0.5 a, 0.5 b; 1 of 2" in line
    assert len(joined_contrasts(tables)) == 5


def test_tables_of_combined_runs_are_not_input_tables(tmp_path: Path) -> None:
    write_participant(tmp_path, "01", TWO)
    write_participant(tmp_path, "02", TWO)
    sidecar = next(tmp_path.glob("sub-02/func/*.json"))
    weights = {"run-1": 0.5, "run-2": 0.5}
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "RunWeights": weights}))
    assert list(find_tables(tmp_path)["participant"]) == ["sub-01"]
