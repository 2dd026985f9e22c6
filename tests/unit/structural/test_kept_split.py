"""Test that nobody moves in a split that was drawn, and which networks are trained again."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker
from graphmaker import nodes_of

from bids_sr.cli.parser import parse_settings
from bids_sr.cli.stages import trains_network
from bids_sr.config import Settings
from bids_sr.structural.kept_split import keep_split, list_files
from bids_sr.survey.preflight.plan import Plan
from bids_sr.version import __version__
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.participant import make_graph


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    return BidsMaker(tmp_path / "bids")


def scans(maker: BidsMaker, number: int) -> None:
    """Write a pair of T1w images with values of their own."""
    for name, mm, size in (("fine", 6.0, 8), ("coarse", 12.0, 4)):
        values = np.random.default_rng(number).integers(50, 1000, (size, size, 4), "int16")
        maker.image(f"sub-{number:02d}_acq-{name}_T1w.nii.gz", "anat", (mm, mm, 6.0), data=values)


def rename(maker: BidsMaker, label: str, new_label: str) -> None:
    folder = maker.root / f"sub-{label}"
    for file in folder.rglob("*.nii.gz"):
        file.rename(file.with_name(file.name.replace(f"sub-{label}", f"sub-{new_label}")))
    folder.rename(maker.root / f"sub-{new_label}")


def settings_for(maker: BidsMaker, *options: str, place: str = "") -> Settings:
    """Return settings with output and working directory below `place`."""
    root = maker.root.parent / place
    argv = [str(maker.root), str(root / "out"), "participant", "-w", str(root / "work")]
    argv += ["--sr-target", "anat", "--sr-method", "unet", "--skip-bids-validation"]
    argv += ["--set", "anat.split=40,11,10"]
    return parse_settings([*argv, *options]).resolve(run_uuid="x")


def sets_of(plan: Plan) -> dict[str, str]:
    assert plan.problems == ()
    return {subject.label: subject.split_set for subject in plan.split_subjects}


def save_network(settings: Settings, plan: Plan) -> Path:
    """Write the card of a network of the current split as if its training had ended."""
    assert settings.paths.version_file is not None
    folder = settings.paths.version_file.parent / "shared_networks_wf/unet/train_on_scans"
    folder.mkdir(parents=True, exist_ok=True)
    settings.paths.version_file.write_text(__version__)
    sets = sets_of(plan)
    card = {
        "card_version": 1,
        "method": "unet",
        "recipe": "fast",
        "factor": [1.0, 1.0, 1.0],
        "contrast": "T1w",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [6.0, 6.0, 6.0]},
        "weights_sha256": 64 * "0",
        "seed": 0,
        "anat_align": "rigid",
        "split": {
            name: [label for label in sets if sets[label] == name]
            for name in ("training", "validation")
        },
    }
    (folder / "unet.json").write_text(json.dumps(card))
    (folder / "unet.safetensors").touch()
    return folder / "unet.safetensors"


def test_one_of_61_joins_one_goes_and_two_are_renamed(maker: BidsMaker) -> None:
    """Nobody moves, the network stays, and outputs with other working directories agree."""
    for number in range(1, 62):
        scans(maker, number)
    settings, other = settings_for(maker), settings_for(maker, place="other")
    plan = check(settings)
    drawn = sets_of(plan)
    assert Counter(drawn.values()) == {"training": 40, "validation": 11, "test": 10}
    for each in (settings, other):
        keep_split(each, plan.split_subjects)
    tables = [file.read_bytes() for file in list_files(settings)]
    weights = save_network(settings, plan)
    assert check(settings).kept_networks == {}

    trained = [label for label in drawn if drawn[label] == "training"]
    tested = [label for label in drawn if drawn[label] == "test"]
    shutil.rmtree(maker.root / f"sub-{trained[0]}")
    rename(maker, trained[1], "A")
    rename(maker, tested[0], "B")
    scans(maker, 62)
    later = check(settings)
    sets = sets_of(later)
    moved = {label for label in sets if drawn.get(label) != sets[label]}
    assert (moved, sets["A"], sets["B"]) == ({"A", "B", "62"}, "training", "test")
    assert sets_of(check(other)) == sets
    assert [file.read_bytes() for file in list_files(settings)] == tables
    assert (later.kept_networks, later.training_subjects) == ({"unet": weights}, ())
    (warning,) = (item for item in later.warnings if item.what == str(weights))
    joined = [] if sets["62"] == "test" else ["sub-62 is new"]
    for text in (*joined, f"(sub-{trained[0]} is missing", str(weights)):
        assert text in warning.why
    graph = make_graph(settings, later, __version__)
    assert not any(trains_network(node) for node in graph.nodes)
    trainings = nodes_of(graph, "train_on_scans")
    assert {graph.settings[node]["pretrained"] for node in trainings} == {weights}

    keep_split(settings, later.split_subjects)
    scans(maker, int(trained[0]))  # is back
    assert sets_of(check(settings))[trained[0]] == "training"
    weights.unlink()
    weights.with_suffix(".json").unlink()
    retrained = check(settings)
    assert retrained.kept_networks == {}
    assert len(retrained.training_subjects) == 51 + len(joined)
