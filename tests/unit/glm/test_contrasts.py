"""Contrasts: accepted expressions, names, signs and rejected input."""

import re

import pytest
from hypothesis import given, strategies as st

from bids_sr.glm.contrasts import (
    label_types,
    list_modeled_types,
    order_types,
    parse_over_runs,
    resolve_contrasts,
)
from bids_sr.io.notices import UsageError

TYPES = ("thumb", "little")


@pytest.mark.parametrize(
    "types",
    [
        ("little", "thumb"),
        ("body", "Face", "house", "Scene"),
        ("-10", "-2", "0", "0.25", "0.5", "2", "10", "all"),
        ("block", "block 2", "block 10", "blocks"),
        ("coherence0.25", "coherence0.5", "coherence2"),
        ("loss -10", "loss -2", "loss 2"),
        ("Thumb", "thumb"),
        ("01", "1", "2.0", "2.00", "3"),
        ("grün", "gruppe", "rot"),
        ("eau", "été", "fin"),
    ],
)
def test_types_are_in_alphabetical_order(types: tuple[str, ...]) -> None:
    assert order_types(types) == order_types(types[::-1]) == types
    assert order_types((*types, "z"), ["z", "rest"]) == ("z", *types), "levels come first"


_WORDS = st.text(st.sampled_from("aAbé-+10.9 _١²"), max_size=4)


@given(st.lists(st.text(max_size=5) | _WORDS, max_size=6), st.lists(_WORDS, max_size=3), st.data())
def test_two_types_have_the_same_order_in_all_runs(
    types: list[str], levels: list[str], data: st.DataObject
) -> None:
    """A run has some of the types, in any order."""
    order = order_types(types, levels)
    assert set(order) == set(types)
    assert len(order) == len(set(order))
    run_types = data.draw(st.lists(st.sampled_from(types))) if types else []
    assert order_types(run_types, levels) == tuple(name for name in order if name in run_types)


@pytest.mark.parametrize(
    ("types", "names"),
    [
        ("a", "a"),
        ("ab", "a b all aMinusB"),
        ("abc", "a b c all aMinusB aMinusC bMinusC"),
        ("abcd", "a b c d all aMinusOthers bMinusOthers cMinusOthers dMinusOthers"),
        ("abcdefghi", "a b c d e f g h i all"),
        (("a-b", "a b", "aB"), "aB aB2 aB3 all aBMinusAB2 aBMinusAB3 aB2MinusAB3"),
    ],
)
def test_types_are_compared_in_pairs_or_with_the_mean_of_the_others(types, names) -> None:
    """A single type equals `all`; more than eight types are not compared."""
    contrasts = resolve_contrasts(types)
    assert " ".join(contrasts) == names
    for name, weights in contrasts.items():
        total = 0.0 if "Minus" in name else 1.0
        assert sum(weights.values()) == pytest.approx(total)
        assert sum(w for w in weights.values() if w > 0) == pytest.approx(1)
    if len(types) == 4:
        assert contrasts["aMinusOthers"] == {"a": 1} | dict.fromkeys("bcd", pytest.approx(-1 / 3))


@pytest.mark.parametrize(
    ("text", "name", "weights"),
    [
        ("thumb", "thumb", {"thumb": 1.0}),
        ("thumb-little", "thumbMinusLittle", {"thumb": 1.0, "little": -1.0}),
        ("little - thumb", "littleMinusThumb", {"little": 1.0, "thumb": -1.0}),
        ("thumb+little", "thumbPlusLittle", {"thumb": 1.0, "little": 1.0}),
        ("both=0.5*thumb+.5*little", "both", {"thumb": 0.5, "little": 0.5}),
        ("d = 0.5*thumb - 0.5*little", "d", {"thumb": 0.5, "little": -0.5}),
        ("-thumb", "minusThumb", {"thumb": -1.0}),
        ("2*thumb-little-little", "thumbMinusLittleMinusLittle", {"thumb": 2.0, "little": -2.0}),
        ("all", "all", {"thumb": 0.5, "little": 0.5}),
        ("all - thumb", "allMinusThumb", {"thumb": -0.5, "little": 0.5}),
    ],
)
def test_contrast_expressions_are_parsed(text: str, name: str, weights: dict[str, float]) -> None:
    assert resolve_contrasts(TYPES, [text]) == {name: weights}
    requested = resolve_contrasts(TYPES, [text, "thumb", text])
    assert list(requested) == list(dict.fromkeys([name, "thumb"])), "in the requested order, once"


def test_trial_types_with_signs_in_their_names_are_parsed() -> None:
    types = ("left-hand", "left", "right hand")
    assert resolve_contrasts(types, ["left-hand"]) == {"leftHand": {"left-hand": 1.0}}
    assert resolve_contrasts(types, ["left-hand-left"]) == {
        "leftHandMinusLeft": {"left-hand": 1.0, "left": -1.0}
    }
    assert resolve_contrasts(types, ["left-right hand"]) == {
        "leftMinusRightHand": {"left": 1.0, "right hand": -1.0}
    }


@pytest.mark.parametrize(
    ("text", "wrong", "fix"),
    [
        ("thump", "'thump'", "'thumb'"),
        ("thumb-litle", "'litle'", "'little'"),
        ("thumblittle", "'thumblittle'", "thumb, little"),
        ("thumb-", "missing", "thumb-little"),
        ("thumb-thumb", "zero", "thumb-little"),
        ("", "no trial types", "thumb, little"),
        ("x=", "'x='", "thumb, little"),
        ("thumb 0.5*little", "'thumb'", "terms"),
    ],
)
def test_error_of_an_invalid_contrast_names_what_is_wrong_and_a_fix(text, wrong, fix) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(text))) as error:
        resolve_contrasts(TYPES, [text])
    notice = error.value.notice
    assert notice.what == f"contrast {text!r}"
    assert wrong in notice.why
    assert fix in notice.remedy


@given(
    st.lists(
        st.text(min_size=1, max_size=12).filter(str.strip),
        min_size=1,
        max_size=7,
        unique_by=str.strip,
    )
)
def test_default_names_are_valid_labels_and_weights_are_distinct(names: list[str]) -> None:
    types = list_modeled_types(names)
    contrasts = resolve_contrasts(types)
    assert all(re.fullmatch("[A-Za-z0-9]+", name) for name in contrasts)
    assert len({tuple(sorted(weights.items())) for weights in contrasts.values()}) == len(
        contrasts
    )
    labels = label_types(types)
    assert len({label.lower() for label in labels.values()}) == len(types)
    for name in types:
        weights = {name: 1.0} if name != "all" else dict.fromkeys(types, 1 / len(types))
        assert [*resolve_contrasts(types, [name]).values()] == [weights]
        assert labels[name] in contrasts


@pytest.mark.parametrize(
    ("types", "text", "name", "weights"),
    [
        (["RT=high", "RT=low"], "RT=high-RT=low", "RTHighMinusRTLow", [1, -1]),
        (["RT=high", "RT=low"], "fast=RT=high - RT=low", "fast", [1, -1]),
        (["RT=high", "RT=low"], "RT=0.5*RT=low-RT=high", "RT", [-1, 0.5]),
        (["high", "RT=high"], "RT=high", "RTHigh", [0, 1]),
        (["-1", "1"], "-1-1", "minus1Minus1", [1, -1]),
        (["2*x", "x"], "2*x-x", "2XMinusX", [1, -1]),
        (["-", "."], "'-'-'.'", "minusSignMinusDot", [1, -1]),
        (["-", "x"], "--x", "minusSignMinusX", [1, -1]),
        (["+", "x y"], "'x y' + '+'", "xYPlusPlusSign", [1, 1]),
    ],
)
def test_types_are_recognized_before_names_weights_and_signs(
    types: list[str], text: str, name: str, weights: list[float]
) -> None:
    expected = {
        trial_type: weight for trial_type, weight in zip(types, weights, strict=True) if weight
    }
    assert resolve_contrasts(types, [text]) == {name: expected}


def test_labels_of_all_runs_are_used_in_each_run() -> None:
    """A label of a type is neither the label of another type nor of a comparison."""
    labels = label_types(["go!", "go", "go2", "aMinusB", "stop", "a", "b"])
    assert labels["go"] == "go3"
    assert list(resolve_contrasts(["go"], labels=labels)) == ["go3"]
    assert list(resolve_contrasts(["go2"], labels=labels)) == ["go2"]
    assert list(resolve_contrasts(["a", "b"], labels=labels)) == ["a", "b", "all", "aMinusB2"]
    model = [("go", {"go": 1.0}), ("mine", {"go": 1.0, "stop": -1.0})]
    assert list(resolve_contrasts(["go", "stop"], model, labels=labels)) == ["go3", "mine"]
    assert list(resolve_contrasts(["go", "stop"], ["go-stop"], labels=labels)) == ["go3MinusStop"]


@pytest.mark.parametrize(
    ("text", "terms", "name"),
    [
        (
            "a@ses-2_run-1 - .5*b@ses-1",
            [("a", 1, "ses-2_run-1"), ("b", -0.5, "ses-1")],
            "aSes2Run1MinusBSes1",
        ),
        ("a@run-1-b@run-2", [("a", 1, "run-1"), ("b", -1, "run-2")], "aRun1MinusBRun2"),
        ("d = all@ses-x + a", [("all", 1, "ses-x"), ("a", 1, "")], "d"),
        # the longest trial type wins, which may contain the sign
        ("a@run-1@ses-2 - a", [("a@run-1", 1, "ses-2"), ("a", -1, "")], "aRun1Ses2MinusA"),
    ],
)
def test_terms_name_the_runs_that_they_are_from(text, terms, name):
    types = ["a", "b"] if "@run-1@" not in text else ["a", "a@run-1"]
    contrast = parse_over_runs(text, types, label_types(types))
    assert [(term.trial_type, term.weight, term.runs) for term in contrast.terms] == terms
    assert contrast.name == name
