"""Contrasts: accepted expressions, names, signs and rejected input."""

import re

import pytest
from hypothesis import given, strategies as st

from bids_sr.glm.contrasts import (
    _MAX_LABEL_LENGTH,
    _default_contrasts,
    camel_case,
    list_modeled_types,
    order_types,
    resolve_contrasts,
)
from bids_sr.notices import UsageError

TYPES = ("thumb", "little")


def test_rows_of_rest_are_not_modeled() -> None:
    column = [
        "thumb",
        "Rest",
        "n/a",
        "little",
        "baseline",
        "FIXATION",
        None,
        float("nan"),
        "",
        "thumb",
        " little ",
    ]
    assert list_modeled_types(column) == ("thumb", "little")


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


def test_types_in_levels_come_first() -> None:
    levels = ("thumb", "rest", "little", "thumb")
    assert order_types(("z", "little", "thumb", "a"), levels) == ("thumb", "little", "a", "z")


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


def test_default_contrasts_of_two_types() -> None:
    assert _default_contrasts(TYPES) == {
        "thumb": {"thumb": 1.0},
        "little": {"little": 1.0},
        "all": {"thumb": 0.5, "little": 0.5},
        "thumbMinusLittle": {"thumb": 1.0, "little": -1.0},
    }


@pytest.mark.parametrize(
    ("n", "expected"), [(1, 1), (2, 4), (3, 7), (4, 9), (6, 13), (8, 17), (9, 10)]
)
def test_number_of_default_contrasts(n: int, expected: int) -> None:
    """Check the number of default contrasts for 1 to 9 trial types.

    A single type equals `all`. Pairs are compared up to three types, a type with the mean of the
    others up to eight.
    """
    assert len(_default_contrasts([f"type{i}" for i in range(n)])) == expected


def test_more_than_three_types_are_compared_with_the_mean_of_the_others() -> None:
    contrasts = _default_contrasts(("face", "body", "house", "tool", "Others"))
    assert contrasts["faceMinusOthers"] == {
        "face": 1.0,
        "body": -0.25,
        "house": -0.25,
        "tool": -0.25,
        "Others": -0.25,
    }
    assert sum(contrasts["OthersMinusOthers"].values()) == 0


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
    ],
)
def test_contrast_expressions_are_parsed(text: str, name: str, weights: dict[str, float]) -> None:
    assert resolve_contrasts(TYPES, [text]) == {name: weights}


def test_trial_types_with_signs_in_their_names_are_parsed() -> None:
    types = ("left-hand", "left", "right hand")
    assert resolve_contrasts(types, ["left-hand"]) == {"leftHand": {"left-hand": 1.0}}
    assert resolve_contrasts(types, ["left-hand-left"]) == {
        "leftHandMinusLeft": {"left-hand": 1.0, "left": -1.0}
    }
    assert resolve_contrasts(types, ["left-right hand"]) == {
        "leftMinusRightHand": {"left": 1.0, "right hand": -1.0}
    }


def test_types_with_the_same_short_label_get_distinct_labels() -> None:
    first, last = (
        ["aB", "aB2", "aB3", "c", "all"],
        ["aBMinusOthers", "aBMinusOthers2", "aBMinusOthers3", "cMinusOthers"],
    )
    assert list(_default_contrasts(("a-b", "a b", "aB", "c"))) == first + last


@pytest.mark.parametrize(
    ("text", "reason", "fix"),
    [
        ("thump", "'thump' is not a trial type", "Did you mean 'thumb'?"),
        ("thumb-litle", "'litle' is not a trial type", "Did you mean 'little'?"),
        (
            "thumblittle",
            "'thumblittle' is not a trial type",
            "The trial types of this run are thumb, little",
        ),
        ("thumb-", "a trial type is missing", "thumb-little"),
        ("thumb-thumb", "all weights of the contrast are zero", "thumb-little"),
        ("", "the contrast contains no trial types", "Choose one of thumb, little"),
        ("x=", "'x=' is not a trial type", "The trial types of this run"),
        ("thumb 0.5*little", "sign is missing after 'thumb'", "Join the terms"),
    ],
)
def test_error_of_an_invalid_contrast_names_reason_and_fix(
    text: str, reason: str, fix: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(fix)) as error:
        resolve_contrasts(TYPES, [text])
    assert reason in error.value.notice.why
    assert error.value.notice.what == f"contrast {text!r}"


def test_requested_order_is_kept_and_duplicates_are_dropped() -> None:
    contrasts = resolve_contrasts(TYPES, ["little-thumb", "thumb", "thumb"])
    assert list(contrasts) == ["littleMinusThumb", "thumb"]


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
    contrasts = _default_contrasts(types)
    assert all(re.fullmatch("[A-Za-z0-9]+", name) for name in contrasts)
    assert len({tuple(sorted(weights.items())) for weights in contrasts.values()}) == len(
        contrasts
    )
    assert all(len(camel_case(name)) <= _MAX_LABEL_LENGTH for name in types)
    assert all(
        resolve_contrasts(types, [name]) == {camel_case(name): {name: 1.0}} for name in types
    )
