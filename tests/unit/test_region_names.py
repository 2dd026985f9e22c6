"""Regions of interest by name, and what the names of tasks tell."""

from dataclasses import replace
from pathlib import Path

import pytest

from bids_sr.config.sections.activation import Activation
from bids_sr.io.notices import UsageError
from bids_sr.io.region_names import (
    GROUPS,
    atlas_labels,
    atlas_title,
    find_atlas,
    region_labels,
    region_of_tasks,
)


def test_every_group_is_of_labels_that_there_are() -> None:
    for group, labels in GROUPS.items():
        assert set(region_labels(group)) == {
            f"{label}_{side}" for label in labels for side in "LR"
        }
    motor = {atlas_labels()[name] for name in region_labels("motor")}
    assert motor == {2001, 2002, 2401, 2402, 6001, 6002}


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
def test_labels_follow_from_the_name_of_a_region(roi: str, labels: tuple[str, ...]) -> None:
    assert region_labels(roi) == labels


def test_an_unknown_region_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="precentrla") as caught:
        Activation(roi="visual,precentrla")
    assert "Precentral" in caught.value.notice.remedy


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


SPACE = "MNI152NLin2009cAsym"
FLOW = f"tpl-{SPACE}/tpl-{SPACE}_"


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of TemplateFlow with one atlas that was fetched, and the names of others."""
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    find_atlas.cache_clear()
    (tmp_path / f"tpl-{SPACE}").mkdir()
    for name in ("100Parcels7Networks", "400Parcels7Networks"):
        (tmp_path / f"{FLOW}res-01_atlas-Schaefer2018_desc-{name}_dseg.nii.gz").touch()
        (tmp_path / f"{FLOW}atlas-Schaefer2018_desc-{name}_dseg.tsv").write_text(
            "index\tname\tcolor\n1\tLH_Vis_1\t#1\n"
        )
    (
        tmp_path / f"{FLOW}res-02_atlas-Schaefer2018_desc-400Parcels7Networks_dseg.nii.gz"
    ).write_bytes(bytes(400))
    yield tmp_path
    find_atlas.cache_clear()


def test_an_atlas_of_templateflow_is_the_one_that_was_fetched(flow: Path) -> None:
    found = find_atlas("schaefer2018:400parcels7networks", "MNI152NLin6Asym")
    assert (found.name, found.desc, found.license) == (
        "Schaefer2018",
        "400Parcels7Networks",
        "MIT",
    )
    assert found.image.name.startswith(f"tpl-{SPACE}_res-02_")
    assert dict(found.labels) == {"LH_Vis_1": 1}
    assert region_labels("LH Vis 1", "Schaefer2018:400Parcels7Networks") == ("LH_Vis_1",)


@pytest.mark.parametrize(
    ("named", "fix"),
    [
        ("Schaefer2018:100Parcels7Networks", "desc='100Parcels7Networks'"),
        ("Schaefer2018", "Schaefer2018:100Parcels7Networks, Schae"),
        ("Gordon", "atlas='Gordon'"),
    ],
)
def test_an_atlas_that_is_not_there_is_refused_with_the_way_to_one(
    flow: Path, named: str, fix: str
) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        find_atlas(named)
    assert fix in caught.value.notice.remedy


@pytest.mark.parametrize(
    "named", ["Harvard-Oxford", "HOCPA:th25", "AICHA", "brainnetome", "BN246"]
)
def test_what_forbids_commercial_use_is_refused_by_name_and_a_file_is_the_users_own(
    named: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="commercial") as caught:
        find_atlas(named)
    assert "--set activation.atlas=FILE" in caught.value.notice.remedy
    (tmp_path / "HarvardOxford.nii.gz").write_bytes(b"x")
    (tmp_path / "HarvardOxford.tsv").write_text("index\tname\n1\tPole\n")
    assert find_atlas(str(tmp_path / "HarvardOxford.nii.gz")).name == "HarvardOxford"


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        (None, "mine_dseg.tsv"),
        (b"", "empty"),
        (b"index\tname\n", "labels"),
        (b"number\tname\n1\ta\n", "index"),
        (b"index,name\n1,a\n", "index"),
        (b"index\tname\nx\ta\n", "line 2"),
        (b"index\tname\n1.5\ta\n", "line 2"),
        (b"index\tname\n1\t\n", "line 2"),
        (b"index\tname\n1\ta\n2\ta\n", "line 3"),
        (b"\xff\xfe\x00", "read"),
    ],
)
def test_a_table_of_labels_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, table: bytes | None, wrong: str
) -> None:
    (tmp_path / "mine_dseg.nii.gz").write_bytes(b"x")
    if table is not None:
        (tmp_path / "mine_dseg.tsv").write_bytes(table)
    with pytest.raises(UsageError, match=r"mine_dseg\.nii\.gz") as caught:
        Activation(atlas=str(tmp_path / "mine_dseg.nii.gz"))
    assert wrong in caught.value.notice.why
    assert "index" in caught.value.notice.remedy


def test_a_table_may_serve_all_resolutions_and_the_background_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "atlas-Own_res-2_dseg.nii").write_bytes(b"x")
    (tmp_path / "atlas-Own_dseg.tsv").write_text(
        "\ufeffindex\tname\tabbreviation\n0\tBackground\tb\n3\tV1\tv\n"
    )
    found = find_atlas(str(tmp_path / "atlas-Own_res-2_dseg.nii"))
    assert (found.name, dict(found.labels), found.license) == ("Own", {"V1": 3}, "")


def test_regions_and_seeds_are_those_of_the_atlas_and_groups_are_those_of_aal2(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.nii.gz").write_bytes(b"x")
    (tmp_path / "mine.tsv").write_text("index\tname\n1\tHand_L\n2\tHand_R\n")
    own = str(tmp_path / "mine.nii.gz")
    assert Activation(atlas=own, roi="hand", seeds=("here=Hand_L", "motor")).atlas == own
    assert region_labels("hand", own) == ("Hand_L", "Hand_R")
    for wrong, options in (
        ("motor", {"roi": "motor"}),
        ("Precentral_L", {"roi": "Precentral_L"}),
        ("Precentral_L", {"seeds": ("Precentral_L",)}),
    ):
        with pytest.raises(UsageError, match=wrong):
            Activation(atlas=own, **options)
    with pytest.raises(UsageError, match="none"):
        Activation(atlas=str(tmp_path / "none.nii.gz"))


def test_an_atlas_is_cited_by_what_it_is() -> None:
    assert atlas_title("aal2") == "AAL2 atlas [@aal2]"
    found = find_atlas()
    assert found.license.startswith("GNU General Public License")
    assert found.description["License"] != replace(found, name="Own").description["License"]
