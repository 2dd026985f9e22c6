"""Regions of interest by name, and what the names of tasks tell."""

import pytest

from bids_sr.config import UsageError
from bids_sr.config.groups import Activation
from bids_sr.region_names import GROUPS, atlas_labels, region_labels, region_of_tasks


def test_every_group_is_of_labels_that_there_are() -> None:
    for group, labels in GROUPS.items():
        assert set(region_labels(group)) == {f"{label}_{side}" for label in labels for side in "LR"}
    assert {atlas_labels()[name] for name in region_labels("motor")} == {2001, 2002, 2401, 2402, 6001, 6002}


@pytest.mark.parametrize(
    ("roi", "labels"),
    [
        ("precentral", ("Precentral_L", "Precentral_R")),
        ("Precentral_L, heschl r", ("Precentral_L", "Heschl_R")),
        ("Vermis_3", ("Vermis_3",)),
        ("brain", ()),
        ("auto", ()),
        ("./masks/motor.nii.gz", ()),
    ],
)
def test_labels(roi: str, labels: tuple[str, ...]) -> None:
    assert region_labels(roi) == labels


def test_an_unknown_region_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="precentrla") as caught:
        Activation(roi="visual,precentrla")
    assert "Precentral" in caught.value.fix


@pytest.mark.parametrize(
    ("tasks", "region"),
    [
        (["tap"], "motor"),
        (["objectviewing"], "visual"),
        (["auditoryoddball"], "auditory"),
        (["tap", "objectviewing"], "brain"),
        (["nback"], "brain"),
        ([], "brain"),
    ],
)
def test_the_region_follows_the_task_where_its_name_says_so(tasks: list[str], region: str) -> None:
    assert region_of_tasks(tasks) == region
