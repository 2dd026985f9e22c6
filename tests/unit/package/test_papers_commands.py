"""Each command of the papers' page plans a run, or begins a training, as it is printed."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from data.dataset import BidsMaker
from pages import ROOT

from bids_sr.cli.main import main as run_main
from bids_sr.cli.models.commands import train
from bids_sr.cli.models.commands.main import main as models_main
from bids_sr.cli.models.commands.recipe_settings import settings_text
from bids_sr.cli.parser import parse_settings
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.survey.preflight import directories

PAGE = (ROOT / "docs/papers/index.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
SCANS = ("T1w", "T2w", "FLAIR")
ISOTROPIC = (4.0, 4.0, 4.0)


class TrainingBegan(Exception):
    """All checks before the training were passed."""


@pytest.fixture(scope="module")
def functional(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set with a run, its pair, and scans of 64 voxels, the size of a patch."""
    maker = BidsMaker(tmp_path_factory.mktemp("functional") / "DATA")
    maker.bold(n_volumes=120, zooms=(1.5, 1.5, 3.0))
    blocks = [(62.0 + 12 * k, 6.0, ("thumb", "little")[k % 2]) for k in range(4)]
    maker.events(rows=blocks)
    maker.star("sub-01_acq-highres", (0.75, 0.75, 3.0))
    maker.star("sub-01_acq-lowres", (1.5, 1.5, 3.0))
    maker.t1w(zooms=(0.75, 0.75, 0.75))
    maker.image("sub-01_T2w.nii.gz", "anat", (0.75, 0.75, 0.75))
    return maker.root


@pytest.fixture(scope="module")
def structural(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set with scans of 61 participants, as in Li et al. 2022."""
    maker = BidsMaker(tmp_path_factory.mktemp("structural") / "DATA")
    for number in range(61):
        for contrast in SCANS:
            for name, zooms in (("fine", ISOTROPIC), ("coarse", (8.0, 8.0, 4.0))):
                maker.image(f"sub-{number:02d}_acq-{name}_{contrast}.nii.gz", "anat", zooms)
    return maker.root


def expand(words: list[str], folder: Path) -> Iterator[str]:
    """Yield words as the shell passes them."""
    for word in words:
        yield from map(str, sorted(folder.glob(word)) if "*" in word else [word])


def test_the_page_has_a_command_for_each_network_of_the_papers() -> None:
    trained = {line.split()[2] for line in COMMANDS if line.startswith("bids-sr-models train")}
    networks = {"tv", "dip", "mse3d", "li", "li-agnostic", "cpce", "circle"}
    assert trained == networks | {"resnet3d", "ccnn3d", "gan3d", "resnet2d"}
    presets = set(re.findall(r"--config-file (\S+)", PAGE))
    assert presets == {"ota2022", "perezbueno2025", "li2022"}


def test_list_names_the_sources_of_the_settings_of_each_network() -> None:
    assert "gan-cpce-circle" in settings_text("circle")
    assert "squared_tv=.07" in settings_text("tv")
    assert "tv-self-sr" in settings_text("li-agnostic")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs_as_printed(
    command: str,
    functional: Path,
    structural: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program, *words = shlex.split(command)
    disk = SimpleNamespace(free=10**12)  # studies of 61 participants need more than a test has
    monkeypatch.setattr(directories.shutil, "disk_usage", lambda _path: disk)
    if program == "bids-sr":
        assert words[:2] == ["DATA", "OUT"]
        if words[2] == "group":  # requires the outputs of participants
            assert parse_settings(words).selection.analysis_level == "group"
            return
        data_set = structural if {"li2022", "anat"} & {*words} else functional
        words = [str(data_set), str(tmp_path / "OUT"), *words[2:], "--skip-bids-validation"]
        work = ["-w", str(tmp_path / "work"), "--dry-run"]
        assert run_main([*words, *work]) == 0, capsys.readouterr().err
        assert "series: " in capsys.readouterr().out
        return
    requests: list[ModelRequest] = []

    def begin(training: ModelRequest, *_: object) -> None:
        requests.append(training)
        raise TrainingBegan

    monkeypatch.setattr(train, "train_network", begin)
    monkeypatch.chdir(tmp_path)
    if "--from" in words:
        network = get_method("resnet3d").recipes["paper"].build_generator(1, (2.0, 2.0, 2.0))
        card = {
            "method": "resnet3d",
            "recipe": "paper",
            "factor": [2.0, 2.0, 2.0],
            "channels": 1,
            "contrast": "T2w",
            "orientation": "I-S",
            "resolution": {"lowres_mm": [1.5, 1.5, 1.5]},
        }
        save_model(tmp_path / "mouse", network.state_dict(), card)
    models_main([*expand(words, functional)])
    assert requests, capsys.readouterr().err
    (request,) = requests
    assert (request.method, request.recipe) == (words[1], "paper")
