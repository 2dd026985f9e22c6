"""Code that decides whether an earlier model is still valid."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from data.tiny_training import a_method, recipe

from bids_sr.io.code_digests import PACKAGE, digest_files, digest_program
from bids_sr.sr import method
from bids_sr.sr.models import request
from bids_sr.sr.models.request import ModelRequest

NETWORK = ModelRequest(method="dcnet")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a copy of the program's methods, networks and models."""
    folder = tmp_path / "bids_sr"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE / "sr", folder / "sr", ignore=ignored)
    monkeypatch.setattr(request, "PACKAGE", folder)
    monkeypatch.setattr(
        request, "find_method_file", lambda name: folder / "sr" / "methods" / f"{name}.py"
    )
    return folder


def _digest(model: ModelRequest) -> str:
    """Return the digest that another process computes."""
    digest_files.cache_clear()
    return model.code_sha256


@pytest.mark.parametrize(
    ("file", "is_trained_again"),
    [
        ("sr/networks/training/update_steps.py", True),
        ("sr/models/model.py", True),
        ("sr/methods/dcnet.py", True),
        ("sr/methods/srgan.py", False),
        ("sr/operators.py", False),
    ],
)
def test_a_network_depends_on_networks_models_and_its_method(
    program: Path, file: str, is_trained_again: bool
) -> None:
    before = _digest(NETWORK)
    with (program / file).open("a") as stream:
        stream.write("# a comment\n")
    assert (_digest(NETWORK) != before) == is_trained_again


def test_prior_maps_depend_on_the_whole_program() -> None:
    assert ModelRequest(method="sbl").code_sha256 == digest_program()


def test_a_network_from_outside_depends_on_the_file_that_defines_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(
        NETWORK, method="tiny", unregistered_method=a_method(), replacement_recipe=recipe()
    )
    monkeypatch.setattr(request, "find_outside_file", lambda _: tmp_path / "own.py")
    digests = []
    for text in ("1", "2"):
        (tmp_path / "own.py").write_text(text)
        digests.append(_digest(own))
    assert digests[0] != digests[1]
    assert method.find_method_file("dcnet") == PACKAGE / "sr" / "methods" / "dcnet.py"
