"""Test ``bids-sr-models vgg19``: sources, stored weights and errors.

A server on this machine replaces the PyTorch server.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from bids_sr.config import UsageError
from bids_sr.io.atomic_files import DiskFullError
from bids_sr.model_commands.cli import vgg19 as models_vgg19
from bids_sr.model_commands.cli.main import main
from bids_sr.model_commands.cli.options import Vgg19Options
from bids_sr.model_commands.cli.vgg19 import install_vgg19
from bids_sr.networks.losses.perceptual import VGGPerceptual
from bids_sr.networks.vgg19 import build_vgg19_features

NAME = "vgg19-dcbb9e9d.pth"


@pytest.fixture(scope="module")
def torchvision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write weights in the format of torchvision: the old format of torch.save, with a
    classifier.
    """
    with torch.device("meta"):
        shapes = build_vgg19_features().state_dict()
    state = {
        f"features.{key}": torch.full(value.shape, float(number))
        for number, (key, value) in enumerate(shapes.items())
    }
    state["classifier.0.weight"] = torch.zeros(8, 8)
    file = tmp_path_factory.mktemp("served") / NAME
    torch.save(state, file, _use_new_zipfile_serialization=False)
    return file


@pytest.fixture(scope="module")
def digits(torchvision: Path) -> str:
    """Return the first eight digits of the checksum, which are part of torchvision's file
    names.
    """
    with torchvision.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:8]


@pytest.fixture(autouse=True)
def weights_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the stored weights, in a cache that does not exist yet."""
    monkeypatch.delenv("BIDS_SR_VGG19")
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bids-sr" / "vgg19-dcbb9e9d.safetensors"


class Handler(SimpleHTTPRequestHandler):
    """Serve a folder; below /short/, end after half of the announced size."""

    def copyfile(self, source, outputfile) -> None:
        if self.path.startswith("/short/"):
            outputfile.write(source.read(1000))
            return
        with suppress(ConnectionError):  # the client was interrupted
            super().copyfile(source, outputfile)

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/short"))

    def log_message(self, *args: object) -> None:
        """Nothing: pytest shows what the program prints."""


@pytest.fixture(scope="module")
def server(torchvision: Path) -> Iterator[str]:
    """Yield the address of a server that has the file."""
    handler = partial(Handler, directory=str(torchvision.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def files_below(folder: Path) -> list[str]:
    """Return the names of files below a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_weights_are_stored_without_the_classifier(
    torchvision: Path, digits: str, weights_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install_vgg19(Vgg19Options(file=torchvision), digits=digits) == 0
    printed = capsys.readouterr().out
    assert str(weights_file) in printed
    assert str(torchvision) in printed
    net = VGGPerceptual(weights_file).features
    original = torch.load(torchvision, weights_only=True)
    assert all(
        torch.equal(value, original[f"features.{k}"]) for k, value in net.state_dict().items()
    )
    with safe_open(weights_file, "pt") as weights:
        assert not any(key.startswith("classifier") for key in weights.keys())  # noqa: SIM118
        assert weights.metadata()["source"].startswith(f"sha256:{digits}")
    assert files_below(weights_file.parents[1]) == [weights_file.name]


def test_a_download_gives_the_same_file_as_a_local_copy(
    server: str, torchvision: Path, digits: str, weights_file: Path
) -> None:
    assert install_vgg19(Vgg19Options(file=torchvision), digits=digits) == 0
    from_file = weights_file.read_bytes()
    weights_file.unlink()
    assert install_vgg19(Vgg19Options(download=True), base=server, digits=digits) == 0
    assert weights_file.read_bytes() == from_file
    assert files_below(weights_file.parents[1]) == [weights_file.name]


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "TORCH_HOME"])
def test_the_cache_of_torch_is_searched(
    variable: str,
    torchvision: Path,
    digits: str,
    weights_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "cache" / "torch"
    if variable == "TORCH_HOME":
        home = tmp_path / "home"
        monkeypatch.setenv("TORCH_HOME", str(home))
    checkpoints = home / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / NAME).symlink_to(torchvision)
    assert install_vgg19(Vgg19Options(), digits=digits) == 0
    assert weights_file.is_file()


def test_stored_weights_are_replaced_only_if_damaged(
    torchvision: Path, digits: str, weights_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install_vgg19(Vgg19Options(file=torchvision), digits=digits)
    capsys.readouterr()
    unreachable = "http://127.0.0.1:9"
    assert install_vgg19(Vgg19Options(download=True), base=unreachable) == 0
    assert "already stored" in capsys.readouterr().out
    weights_file.write_bytes(weights_file.read_bytes()[:1000])
    assert install_vgg19(Vgg19Options(download=True), base=unreachable) == 1


def test_an_environment_variable_sets_the_location(
    torchvision: Path,
    digits: str,
    weights_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared_file = tmp_path / "shared" / "vgg19.safetensors"
    monkeypatch.setenv("BIDS_SR_VGG19", str(shared_file))
    assert install_vgg19(Vgg19Options(file=torchvision), digits=digits) == 0
    assert shared_file.is_file()
    assert not weights_file.exists()


def test_a_wrong_checksum_exits_with_code_2_and_names_both(
    tmp_path: Path, weights_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / NAME
    file.write_bytes(b"an answer of a proxy")
    assert main(["vgg19", str(file)]) == 2
    error = capsys.readouterr().err
    for part in (
        str(file),
        "dcbb9e9d",
        hashlib.sha256(file.read_bytes()).hexdigest(),
        "--download",
    ):
        assert part in error
    assert files_below(weights_file.parents[1]) == []


def test_a_download_with_another_checksum_is_not_kept(server: str, weights_file: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"(?s)127\.0\.0\.1.*expected a checksum that starts with dcbb9e9d.*try again",
    ):
        install_vgg19(Vgg19Options(download=True), base=server)
    assert files_below(weights_file.parents[1]) == []


def test_files_with_a_wrong_checksum_are_not_unpickled(
    tmp_path: Path, weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.write_text, (tmp_path / "written", "run"))

    file = tmp_path / NAME
    torch.save({"features.0.weight": Evil()}, file)
    with file.open("rb") as stream:
        digits = hashlib.file_digest(stream, "sha256").hexdigest()[:8]
    # no code is run even if the checksum is correct
    with pytest.raises(UsageError, match=r"written by torch\.save"):
        install_vgg19(Vgg19Options(file=file), digits=digits)

    def fail_if_called(*args: object, **keywords: object) -> None:
        raise AssertionError("deserialized")

    monkeypatch.setattr(torch, "load", fail_if_called)
    with pytest.raises(UsageError, match="SHA-256"):
        install_vgg19(Vgg19Options(file=file), digits="00000000")
    assert not (tmp_path / "written").exists()
    assert not weights_file.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"features.0.weight": torch.zeros(3, 3)}, r"different shape: features\.0\.weight"),
        ([1, 2], "an object of type list"),
    ],
)
def test_weights_of_another_network_are_rejected(
    content: object, reason: str, tmp_path: Path, weights_file: Path
) -> None:
    file = tmp_path / NAME
    torch.save(content, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(UsageError, match=rf"(?s){NAME}: .*{reason}.*torchvision file {NAME}"):
        install_vgg19(Vgg19Options(file=file), digits=digest[:8])
    assert not weights_file.exists()


def test_an_incomplete_download_is_removed_and_the_remedy_printed(
    server: str, digits: str, weights_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = install_vgg19(Vgg19Options(download=True), base=f"{server}/short", digits=digits)
    assert code == 1
    error = capsys.readouterr().err
    assert f"{server}/short/{NAME}" in error
    assert "the download ended after 1000 of" in error
    assert f"run bids-sr-models vgg19 {NAME}" in error
    assert files_below(weights_file.parents[1]) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [("", "the server could not be reached"), ("/missing", "the server responded with 404")],
)
def test_without_network_the_manual_steps_are_printed(
    path: str, reason: str, server: str, weights_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = f"{server}{path}" if path else "http://127.0.0.1:9"
    assert install_vgg19(Vgg19Options(download=True), base=base) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert f"{base}/{NAME}" in error
    assert "on another computer" in error
    assert files_below(weights_file.parents[1]) == []


def test_insufficient_disk_space_is_reported_before_writing(
    server: str, weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = models_vgg19.shutil.disk_usage(Path.cwd())._replace(free=100_000_000)
    monkeypatch.setattr(models_vgg19.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(DiskFullError, match=r"161 MB are required.* 100 MB are free"):
        install_vgg19(Vgg19Options(download=True), base=server)
    assert files_below(weights_file.parents[1]) == []


def test_partial_files_of_interrupted_downloads_are_removed(
    server: str, digits: str, weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights_file.parent.mkdir(parents=True)
    old, recent = (weights_file.with_name(f".{NAME}.{n}-x.part") for n in (1, 2))
    for part in (old, recent):
        part.touch()
    os.utime(old, (0, 0))

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models_vgg19, "progress_line", lambda: lambda *progress: interrupted())
    with pytest.raises(KeyboardInterrupt):
        install_vgg19(Vgg19Options(download=True), base=server, digits=digits)
    assert files_below(weights_file.parents[1]) == [recent.name]


INVALID = {
    "nothing there": (
        ["vgg19"],
        f"hub/checkpoints/{NAME}\n  why: the weights file was not found in the torch cache",
        "--download",
    ),
    "missing": (
        ["vgg19", "absent.pth"],
        "absent.pth\n  why: the file does not exist",
        "check the path",
    ),
    "folder": (
        ["vgg19", "/"],
        "/\n  why: the file could not be read (Is a directory)",
        "specify a readable file",
    ),
    "converted": (
        ["vgg19", "x.safetensors"],
        "already been converted to a .safetensors file",
        "--vgg-weights",
    ),
    "both": (
        ["vgg19", "x.pth", "--download"],
        "x.pth was specified",
        "omit the file or --download",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_options_exit_with_code_2_and_name_the_fix(
    name: str, capsys: pytest.CaptureFixture[str], weights_file: Path
) -> None:
    argv, reason, fix = INVALID[name]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert fix in error
    assert not weights_file.exists()


UNWRITABLE = {
    "of another kind": ("weights.pth", "must end in .safetensors"),
    "a folder": ("folder.safetensors", "the path is a directory"),
    "below a file": ("file/x.safetensors", "the directory could not be created"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_an_unwritable_location_is_rejected_before_the_file_is_read(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, reason = UNWRITABLE[name]
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("BIDS_SR_VGG19", str(tmp_path / place))
    assert main(["vgg19", "absent.pth"]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert "environment variable BIDS_SR_VGG19 to" in error


def test_a_directory_without_write_permission_is_rejected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models_vgg19.os, "access", lambda path, mode: False)
    assert main(["vgg19", "absent.pth"]) == 2
    assert "the directory is not writable" in capsys.readouterr().err
