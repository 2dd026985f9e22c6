"""Labels of trial types, and task labels that mean rest."""

import pytest

from bids_sr.glm.contrasts import camel_case, resolve_contrasts
from bids_sr.survey.preflight.run_set_checks import is_rest


def test_all_is_the_mean_of_all_types_even_if_a_type_has_this_name() -> None:
    contrasts = resolve_contrasts(["all", "none"])
    assert contrasts["all"] == {"all": 0.5, "none": 0.5}
    assert contrasts["typeAll"] == {"all": 1.0}
    assert resolve_contrasts(["all", "none"], ["all"]) == {"all": {"all": 0.5, "none": 0.5}}
    assert resolve_contrasts(["all", "none"], ["typeAll"]) == {"typeAll": {"all": 1.0}}
    assert resolve_contrasts(["all"]) == {"all": {"all": 1.0}}


def test_long_names_are_shortened_to_distinct_labels() -> None:
    long = (
        "Valid cue of the other category: stimulus of the same size as before, shown at the left"
    )
    names = [long, long.replace("left", "right"), "fixate"]
    contrasts = resolve_contrasts(names)
    assert len(contrasts) == 7
    assert max(map(len, contrasts)) <= 80
    assert all(label.isalnum() for label in contrasts)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        *((task, True) for task in ("Rest", "resting", "RestState", "rest2", "restAP")),
        *((task, False) for task in ("interest", "arrest", "tap")),
    ],
)
def test_task_labels_of_rest(task: str, *, expected: bool) -> None:
    assert is_rest(task) is expected


def test_a_decimal_point_stays_in_the_label() -> None:
    names = list(resolve_contrasts(["1.5", "15", "1.0"]))
    assert names[:3] == ["1dot5", "15", "1dot0"]
    assert camel_case("v1.final") == "v1Final"
