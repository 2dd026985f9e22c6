"""Test ``--vgg-weights``: download, conversion, installed weights and errors.

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

from bids_sr.cli import main as bids_sr_main, vgg19_weights
from bids_sr.cli.parser import parse_settings
from bids_sr.cli.vgg19_weights import install_requested_weights, install_vgg19
from bids_sr.config import UsageError
from bids_sr.config.vgg19_weights import VGG19_DOWNLOAD
from bids_sr.io.atomic_files import DiskFullError
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
    assert install_vgg19(torchvision, digits=digits) == weights_file
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
    assert install_vgg19(torchvision, digits=digits) == weights_file
    from_file = weights_file.read_bytes()
    weights_file.unlink()
    assert install_vgg19(VGG19_DOWNLOAD, base=server, digits=digits) == weights_file
    assert weights_file.read_bytes() == from_file
    assert files_below(weights_file.parents[1]) == [weights_file.name]


def test_stored_weights_are_replaced_only_if_damaged(
    torchvision: Path, digits: str, weights_file: Path
) -> None:
    install_vgg19(torchvision, digits=digits)
    unreachable = "http://127.0.0.1:9"
    assert install_vgg19(VGG19_DOWNLOAD, base=unreachable) == weights_file
    weights_file.write_bytes(weights_file.read_bytes()[:1000])
    with pytest.raises(UsageError, match="could not be reached"):
        install_vgg19(VGG19_DOWNLOAD, base=unreachable)


def test_an_environment_variable_sets_the_location(
    torchvision: Path,
    digits: str,
    weights_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared_file = tmp_path / "shared" / "vgg19.safetensors"
    monkeypatch.setenv("BIDS_SR_VGG19", str(shared_file))
    assert install_vgg19(torchvision, digits=digits) == shared_file
    assert shared_file.is_file()
    assert not weights_file.exists()


def test_a_wrong_checksum_is_rejected_and_both_are_named(
    tmp_path: Path, weights_file: Path
) -> None:
    file = tmp_path / NAME
    file.write_bytes(b"an answer of a proxy")
    with pytest.raises(UsageError) as caught:
        install_vgg19(file)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    for part in (str(file), "dcbb9e9d", checksum, "--vgg-weights download"):
        assert part in str(caught.value)
    assert files_below(weights_file.parents[1]) == []


def test_a_download_with_another_checksum_is_not_kept(server: str, weights_file: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"(?s)127\.0\.0\.1.*expected a checksum that starts with dcbb9e9d.*try again",
    ):
        install_vgg19(VGG19_DOWNLOAD, base=server)
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
        install_vgg19(file, digits=digits)

    def fail_if_called(*args: object, **keywords: object) -> None:
        raise AssertionError("deserialized")

    monkeypatch.setattr(torch, "load", fail_if_called)
    with pytest.raises(UsageError, match="SHA-256"):
        install_vgg19(file, digits="00000000")
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
        install_vgg19(file, digits=digest[:8])
    assert not weights_file.exists()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "the server could not be reached"),
        ("/missing", "the server responded with 404"),
        ("/short", "the download ended after 1000 of"),
    ],
)
def test_a_failed_download_leaves_no_file_and_the_manual_steps_are_named(
    path: str, reason: str, server: str, digits: str, weights_file: Path
) -> None:
    base = f"{server}{path}" if path else "http://127.0.0.1:9"
    with pytest.raises(UsageError) as caught:
        install_vgg19(VGG19_DOWNLOAD, base=base, digits=digits)
    for part in (
        reason,
        f"{base}/{NAME}",
        "on another computer and specify it with --vgg-weights",
    ):
        assert part in str(caught.value)
    assert files_below(weights_file.parents[1]) == []


def test_insufficient_disk_space_is_reported_before_writing(
    server: str, weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = vgg19_weights.shutil.disk_usage(Path.cwd())._replace(free=100_000_000)
    monkeypatch.setattr(vgg19_weights.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(DiskFullError, match=r"161 MB are required.* 100 MB are free"):
        install_vgg19(VGG19_DOWNLOAD, base=server)
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

    monkeypatch.setattr(vgg19_weights, "progress_line", lambda: lambda *progress: interrupted())
    with pytest.raises(KeyboardInterrupt):
        install_vgg19(VGG19_DOWNLOAD, base=server, digits=digits)
    assert files_below(weights_file.parents[1]) == [recent.name]


@pytest.mark.parametrize(
    ("source", "reason", "fix"),
    [
        ("absent.pth", "absent.pth\n  why: the file does not exist", "check the path"),
        ("/", "the file could not be read (Is a directory)", "specify a readable file"),
    ],
)
def test_an_unreadable_file_is_rejected(
    source: str, reason: str, fix: str, weights_file: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        install_vgg19(Path(source))
    assert reason in str(caught.value)
    assert fix in str(caught.value)
    assert not weights_file.exists()


UNWRITABLE = {
    "of another kind": ("weights.pth", "must end in .safetensors"),
    "a folder": ("folder.safetensors", "the path is a directory"),
    "below a file": ("file/x.safetensors", "the directory could not be created"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
def test_an_unwritable_location_is_rejected_before_the_file_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, reason = UNWRITABLE[name]
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("BIDS_SR_VGG19", str(tmp_path / place))
    with pytest.raises(UsageError) as caught:
        install_vgg19(Path("absent.pth"))
    assert reason in str(caught.value)
    assert "environment variable BIDS_SR_VGG19 to" in str(caught.value)


def test_a_directory_without_write_permission_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vgg19_weights.os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="the directory is not writable"):
        install_vgg19(Path("absent.pth"))


def test_weights_are_installed_only_if_requested_at_the_participant_level(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sources = []
    monkeypatch.setattr(
        vgg19_weights, "install_vgg19", lambda source: sources.append(source) or Path("installed")
    )
    for level, option, expected in (
        ("participant", ["--vgg-weights", "download"], Path("installed")),
        ("participant", [], None),
        ("group", ["--vgg-weights", "download"], Path("download")),
    ):
        settings = install_requested_weights(parse_settings(["DATA", "OUT", level, *option]))
        assert settings.superres.vgg_weights == expected
    assert sources == [VGG19_DOWNLOAD]


def test_a_failed_installation_ends_a_run_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(tmp_path), str(tmp_path / "out"), "participant", "--vgg-weights", "absent.pth"]
    assert bids_sr_main.main(argv) == 2
    assert "absent.pth\n  why: the file does not exist" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
