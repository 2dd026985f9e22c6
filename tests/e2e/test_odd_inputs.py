"""A sample of odd inputs and groups gives correct maps; `benchmarks/tests` has all kinds."""

from pathlib import Path

import _odd_groups_kinds as groups
import _odd_inputs_kinds as inputs
import _odd_inputs_run as runs
import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    runs.warm_up(folder)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "brief_events",
        "corrected_already",  # slice timing, to StartTime
        "modulated_events",
        "slices_first",  # along another axis of the file
        "volumes_with_a_pause",  # VolumeTiming
    ],
)
def test_an_odd_input_gives_the_known_effects(name: str, folder: Path) -> None:
    assert runs.run_case(3, 11, "model", folder, (inputs.KINDS[name],)).wrong == ""


def test_maps_of_an_odd_group_have_the_known_participants_and_values(tmp_path: Path) -> None:
    kinds = [groups.KINDS[name] for name in ("slab_of_some", "opposite_names")]
    groups.warm_up(tmp_path)
    assert groups.run_case(0, 28, tmp_path, kinds).wrong == ""
