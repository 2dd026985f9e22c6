"""A sample of odd inputs and groups gives correct maps; `benchmarks/tests` has all kinds."""

from pathlib import Path

import _odd_inputs_kinds as inputs
import _odd_inputs_run as runs
import numpy as np
import pytest
from data.group_maps import Study, mean_value, read_sidecar

from bids_sr.io.nifti import load_image


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
    """One participant covers too little of the brain."""
    study = Study(tmp_path, ["01", "02", "03", "04", "05"])
    for number, participant in enumerate(study.participants, 1):
        study.write_run(
            participant,
            {"thumbMinusLittle": number},
            weights={"thumbMinusLittle": {"thumb": 1, "little": -1}},
            slices=slice(40, 44) if participant == "sub-05" else slice(40, 50),
        )
    assert study.call() == 0
    (effect,) = study.out.glob("group/*_contrast-thumbMinusLittle_stat-effect_*.nii.gz")
    assert mean_value(effect) == pytest.approx(2.5)
    sidecar = read_sidecar(effect)
    assert sidecar["Participants"] == ["sub-01", "sub-02", "sub-03", "sub-04"]
    assert list(sidecar["Excluded"]) == ["sub-05"]
    values, _ = load_image(next(study.out.glob("group/*_stat-t_*.nii.gz")))
    assert values[values != 0] == pytest.approx(2.5 / (np.std([1, 2, 3, 4], ddof=1) / 2))
