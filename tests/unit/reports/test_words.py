"""Words of the report are those of the field: phrases that were replaced do not come back."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PARTS = (
    "bids_sr/reports",
    "bids_sr/steps/figures",
    "boilerplate",
    "bids_sr/stats/evaluation",
    "bids_sr/stats/controls",
    "bids_sr/sr/methods",
    "bids_sr/cli",
)
REPLACED = (
    "cannot be told apart",
    "The figures that the verdict rests on",
    "What the verdict rests on",
    "What this cannot say",
    "No placebo was run",
    "is owed to this subject",
    "which detail that a method makes",
    "by the paper's rules are",
    "by its header alone",
    "that was learned from",
    "Agreement of a series with itself",
    "Is the finer map true",
    "claim, taken apart",
    "claim taken apart",
    '"Guards"',
    "Looked for and not found",
    "Share of what the series shows locally",
    "ask who ran the session",
    "nothing can be said about",
    "own less placebo",
    "Own less placebo",
    "shows more true BOLD detail",
    "which is weaker",
    "none of it for sure",
    "decide nothing",
    "not yet neuronal",
    "Reliability is not truth",
    "likeness of",
    "the lines are",
    "no merit",
    "What the series are",
    "plainest",
    "to look at",
    "taught with",
    "goes on from here",
)


@pytest.mark.parametrize("phrase", REPLACED)
def test_a_phrase_that_was_replaced_does_not_come_back(phrase):
    files = [
        path
        for part in PARTS
        for path in (ROOT / part).rglob("*")
        if path.suffix in (".py", ".tpl", ".yml", ".js")
    ]
    assert len(files) > 40
    assert [
        str(path.relative_to(ROOT)) for path in files if phrase in path.read_text(encoding="utf-8")
    ] == []
