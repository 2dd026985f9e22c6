"""``bids-sr-models vgg19``: what it keeps, from where, and what it refuses; against a server on
this machine in the place of PyTorch's.
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

from bids_sr.cli.models import vgg19 as models_vgg19
from bids_sr.cli.models.main import main
from bids_sr.cli.models.options import Vgg19Options
from bids_sr.cli.models.vgg19 import keep_vgg19
from bids_sr.config import UsageError
from bids_sr.io.atomic_files import DiskFullError
from bids_sr.sr.losses.perceptual import VGGPerceptual
from bids_sr.sr.vgg19 import vgg19_features

NAME = "vgg19-dcbb9e9d.pth"


@pytest.fixture(scope="module")
def torchvision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as torchvision stores them: the old format of torch.save, with a classifier."""
    with torch.device("meta"):
        shapes = vgg19_features().state_dict()
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
    """The first eight digits of the checksum, as names of torchvision's files have them."""
    with torchvision.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:8]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are kept, in a cache that does not exist yet."""
    monkeypatch.delenv("BIDS_SR_VGG19")
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bids-sr" / "vgg19-dcbb9e9d.safetensors"


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; below /short/ it ends after half of what it announces."""

    def copyfile(self, source, outputfile) -> None:
        if self.path.startswith("/short/"):
            outputfile.write(source.read(1000))
            return
        with suppress(ConnectionError):  # of a program that was interrupted
            super().copyfile(source, outputfile)

    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/short"))

    def log_message(self, *args: object) -> None:
        """Nothing: pytest shows what the program prints."""


@pytest.fixture(scope="module")
def server(torchvision: Path) -> Iterator[str]:
    """Address of a server that has the file."""
    handler = partial(Handler, directory=str(torchvision.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def left(folder: Path) -> list[str]:
    """Names of the files below a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_becomes_the_same_network_without_its_classifier(
    torchvision: Path, digits: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keep_vgg19(Vgg19Options(file=torchvision), digits=digits) == 0
    printed = capsys.readouterr().out
    assert str(kept) in printed
    assert str(torchvision) in printed
    net = VGGPerceptual(kept).features
    original = torch.load(torchvision, weights_only=True)
    assert all(
        torch.equal(value, original[f"features.{k}"]) for k, value in net.state_dict().items()
    )
    with safe_open(kept, "pt") as weights:
        assert not any(key.startswith("classifier") for key in weights.keys())  # noqa: SIM118
        assert weights.metadata()["source"].startswith(f"sha256:{digits}")
    assert left(kept.parents[1]) == [kept.name]


def test_a_download_is_the_same_file_and_leaves_nothing_else(
    server: str, torchvision: Path, digits: str, kept: Path
) -> None:
    assert keep_vgg19(Vgg19Options(file=torchvision), digits=digits) == 0
    by_hand = kept.read_bytes()
    kept.unlink()
    assert keep_vgg19(Vgg19Options(download=True), base=server, digits=digits) == 0
    assert kept.read_bytes() == by_hand
    assert left(kept.parents[1]) == [kept.name]


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "TORCH_HOME"])
def test_the_cache_of_torch_is_searched(
    variable: str,
    torchvision: Path,
    digits: str,
    kept: Path,
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
    assert keep_vgg19(Vgg19Options(), digits=digits) == 0
    assert kept.is_file()


def test_what_is_kept_is_not_made_again_unless_it_is_damaged(
    torchvision: Path, digits: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_vgg19(Vgg19Options(file=torchvision), digits=digits)
    capsys.readouterr()
    unreachable = "http://127.0.0.1:9"
    assert keep_vgg19(Vgg19Options(download=True), base=unreachable) == 0
    assert "already stored" in capsys.readouterr().out
    kept.write_bytes(kept.read_bytes()[:1000])
    assert keep_vgg19(Vgg19Options(download=True), base=unreachable) == 1


def test_a_variable_names_another_place(
    torchvision: Path, digits: str, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "shared" / "vgg19.safetensors"
    monkeypatch.setenv("BIDS_SR_VGG19", str(other))
    assert keep_vgg19(Vgg19Options(file=torchvision), digits=digits) == 0
    assert other.is_file()
    assert not kept.exists()


def test_another_checksum_ends_with_2_and_names_both(
    tmp_path: Path, kept: Path, capsys: pytest.CaptureFixture[str]
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
    assert left(kept.parents[1]) == []


def test_a_download_with_another_checksum_is_not_kept(server: str, kept: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"(?s)127\.0\.0\.1.*expected a checksum that starts with dcbb9e9d.*try again",
    ):
        keep_vgg19(Vgg19Options(download=True), base=server)
    assert left(kept.parents[1]) == []


def test_nothing_is_unpickled_before_the_checksum_is_right(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.write_text, (tmp_path / "written", "run"))

    file = tmp_path / NAME
    torch.save({"features.0.weight": Evil()}, file)
    with file.open("rb") as stream:
        digits = hashlib.file_digest(stream, "sha256").hexdigest()[:8]
    # even with the right checksum no code is run
    with pytest.raises(UsageError, match=r"written by torch\.save"):
        keep_vgg19(Vgg19Options(file=file), digits=digits)

    def never(*args: object, **how: object) -> None:
        raise AssertionError("deserialized")

    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(UsageError, match="SHA-256"):
        keep_vgg19(Vgg19Options(file=file), digits="00000000")
    assert not (tmp_path / "written").exists()
    assert not kept.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"features.0.weight": torch.zeros(3, 3)}, r"different shape: features\.0\.weight"),
        ([1, 2], "an object of type list"),
    ],
)
def test_another_network_is_refused_by_name(
    content: object, reason: str, tmp_path: Path, kept: Path
) -> None:
    file = tmp_path / NAME
    torch.save(content, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(UsageError, match=rf"(?s){NAME}: .*{reason}.*torchvision file {NAME}"):
        keep_vgg19(Vgg19Options(file=file), digits=digest[:8])
    assert not kept.exists()


def test_a_connection_that_ends_early_leaves_nothing_and_says_what_to_do(
    server: str, digits: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = keep_vgg19(Vgg19Options(download=True), base=f"{server}/short", digits=digits)
    assert code == 1
    error = capsys.readouterr().err
    assert f"{server}/short/{NAME}" in error
    assert "the download ended after 1000 of" in error
    assert f"run bids-sr-models vgg19 {NAME}" in error
    assert left(kept.parents[1]) == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [("", "the server could not be reached"), ("/missing", "the server responded with 404")],
)
def test_without_network_or_file_it_says_what_to_do_by_hand(
    path: str, reason: str, server: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = f"{server}{path}" if path else "http://127.0.0.1:9"
    assert keep_vgg19(Vgg19Options(download=True), base=base) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert f"{base}/{NAME}" in error
    assert "on another computer" in error
    assert left(kept.parents[1]) == []


def test_too_little_space_is_said_before_anything_is_written(
    server: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = models_vgg19.shutil.disk_usage(Path.cwd())._replace(free=100_000_000)
    monkeypatch.setattr(models_vgg19.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(DiskFullError, match=r"161 MB are required.* 100 MB are free"):
        keep_vgg19(Vgg19Options(download=True), base=server)
    assert left(kept.parents[1]) == []


def test_an_interrupted_download_leaves_nothing_and_old_parts_are_removed(
    server: str, digits: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.parent.mkdir(parents=True)
    old, young = (kept.with_name(f".{NAME}.{n}-x.part") for n in (1, 2))
    for part in (old, young):
        part.touch()
    os.utime(old, (0, 0))

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models_vgg19, "progress_line", lambda: lambda *progress: interrupted())
    with pytest.raises(KeyboardInterrupt):
        keep_vgg19(Vgg19Options(download=True), base=server, digits=digits)
    assert left(kept.parents[1]) == [young.name]


REFUSED = {
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


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_end_with_2_and_name_the_way_out(
    name: str, capsys: pytest.CaptureFixture[str], kept: Path
) -> None:
    argv, reason, fix = REFUSED[name]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert fix in error
    assert not kept.exists()


PLACES = {
    "of another kind": ("weights.pth", "must end in .safetensors"),
    "a folder": ("folder.safetensors", "the path is a directory"),
    "below a file": ("file/x.safetensors", "the directory could not be created"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_cannot_be_written_is_refused_before_the_file_is_read(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place, reason = PLACES[name]
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("BIDS_SR_VGG19", str(tmp_path / place))
    assert main(["vgg19", "absent.pth"]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert "environment variable BIDS_SR_VGG19 to" in error


def test_a_folder_without_permission_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models_vgg19.os, "access", lambda path, mode: False)
    assert main(["vgg19", "absent.pth"]) == 2
    assert "the directory is not writable" in capsys.readouterr().err
