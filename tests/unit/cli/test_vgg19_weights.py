"""``--vgg-weights``: download, conversion, installed weights and errors.

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

from bids_sr.cli import main, vgg19_weights
from bids_sr.cli.parser import parse_settings
from bids_sr.cli.vgg19_weights import install_requested_weights, install_vgg19
from bids_sr.config.vgg19_weights import VGG19_DOWNLOAD
from bids_sr.io.atomic_files import DiskFullError
from bids_sr.io.notices import UsageError
from bids_sr.sr.networks.losses.perceptual import VGGPerceptual
from bids_sr.sr.networks.vgg19 import build_vgg19_features

NAME = "vgg19-dcbb9e9d.pth"
UNREACHABLE = "http://127.0.0.1:9"


def digits_of(file: Path) -> str:
    """Return the first digits of the checksum, which are part of torchvision's file names."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:8]


@pytest.fixture(scope="module")
def torchvision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write weights as torchvision does: in the old format, and with a classifier."""
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
    return digits_of(torchvision)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the cache folder, which does not exist yet."""
    monkeypatch.delenv("BIDS_SR_VGG19")
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bids-sr"


class Handler(SimpleHTTPRequestHandler):
    """Serve a folder; below /short/, end after part of the announced size."""

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
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_local_copy_and_a_download_give_the_same_weights_without_the_classifier(
    server: str, torchvision: Path, digits: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stored weights are replaced only if they are damaged."""
    stored = cache / "vgg19-dcbb9e9d.safetensors"
    assert install_vgg19(torchvision, digits=digits) == stored
    assert str(stored) in capsys.readouterr().out
    state = VGGPerceptual(stored).features.state_dict()
    original = torch.load(torchvision, weights_only=True)
    assert all(torch.equal(value, original[f"features.{key}"]) for key, value in state.items())
    with safe_open(stored, "pt") as weights:
        assert not any(key.startswith("classifier") for key in weights.keys())  # noqa: SIM118
        assert weights.metadata()["source"].startswith(f"sha256:{digits}")
    assert install_vgg19(VGG19_DOWNLOAD, base=UNREACHABLE) == stored
    from_file = stored.read_bytes()
    stored.write_bytes(from_file[:1000])
    assert install_vgg19(VGG19_DOWNLOAD, base=server, digits=digits) == stored
    assert stored.read_bytes() == from_file
    assert files_below(cache) == [stored.name]


def test_an_environment_variable_sets_the_location(
    torchvision: Path, digits: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_file = tmp_path / "shared" / "vgg19.safetensors"
    monkeypatch.setenv("BIDS_SR_VGG19", str(shared_file))
    assert install_vgg19(torchvision, digits=digits) == shared_file
    assert shared_file.is_file()
    assert not cache.exists()


def test_files_with_a_wrong_checksum_are_not_unpickled(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evil:
        def __reduce__(self):
            return (Path.write_text, (tmp_path / "written", "run"))

    file = tmp_path / NAME
    torch.save({"features.0.weight": Evil()}, file)
    # no code is run even if the checksum is correct
    with pytest.raises(UsageError, match=NAME):
        install_vgg19(file, digits=digits_of(file))

    def fail_if_called(*args: object, **keywords: object) -> None:
        raise AssertionError("deserialized")

    monkeypatch.setattr(torch, "load", fail_if_called)
    with pytest.raises(UsageError) as caught:
        install_vgg19(file)
    for part in (str(file), "dcbb9e9d", hashlib.sha256(file.read_bytes()).hexdigest()):
        assert part in str(caught.value)
    assert not (tmp_path / "written").exists()
    assert files_below(cache) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"features.0.weight": torch.zeros(3, 3)}, "features.0.weight"),
        ([1, 2], "list"),
    ],
)
def test_weights_of_another_network_are_rejected(
    content: object, reason: str, tmp_path: Path, cache: Path
) -> None:
    file = tmp_path / NAME
    torch.save(content, file)
    with pytest.raises(UsageError) as caught:
        install_vgg19(file, digits=digits_of(file))
    assert reason in str(caught.value)
    assert files_below(cache) == []


@pytest.mark.parametrize(
    ("path", "right_digits", "reason"),
    [
        (UNREACHABLE, True, ""),
        ("/missing", True, "404"),
        ("/short", True, "1000"),
        ("", False, "dcbb9e9d"),
    ],
)
def test_a_failed_download_leaves_no_file(
    path: str, right_digits: bool, reason: str, server: str, digits: str, cache: Path
) -> None:
    base = path if path == UNREACHABLE else f"{server}{path}"
    checksum = {"digits": digits} if right_digits else {}
    with pytest.raises(UsageError) as caught:
        install_vgg19(VGG19_DOWNLOAD, base=base, **checksum)
    assert f"{base}/{NAME}" in str(caught.value)
    assert reason in str(caught.value)
    assert files_below(cache) == []


def test_insufficient_disk_space_is_reported_before_writing(
    server: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = vgg19_weights.shutil.disk_usage(Path.cwd())._replace(free=100_000_000)
    monkeypatch.setattr(vgg19_weights.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(DiskFullError, match=r"161 MB .* 100 MB"):
        install_vgg19(VGG19_DOWNLOAD, base=server)
    assert files_below(cache) == []


def test_partial_files_of_interrupted_downloads_are_removed(
    server: str, digits: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recent file may belong to a download that is still running."""
    cache.mkdir(parents=True)
    old, recent = (cache / f".{NAME}.{n}-x.part" for n in (1, 2))
    for part in (old, recent):
        part.touch()
    os.utime(old, (0, 0))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(vgg19_weights, "progress_line", lambda: interrupt)
    with pytest.raises(KeyboardInterrupt):
        install_vgg19(VGG19_DOWNLOAD, base=server, digits=digits)
    assert files_below(cache) == [recent.name]


@pytest.mark.parametrize("place", ["weights.pth", "folder.safetensors", "file/x.safetensors"])
def test_an_unwritable_location_is_rejected_before_the_file_is_read(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("BIDS_SR_VGG19", str(tmp_path / place))
    with pytest.raises(UsageError, match="BIDS_SR_VGG19"):
        install_vgg19(Path("absent.pth"))


def test_a_directory_without_write_permission_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vgg19_weights.os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="cache"):
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


@pytest.mark.parametrize("source", ["absent.pth", "/"])
def test_an_unreadable_file_ends_a_run_with_code_2(
    source: str, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [str(tmp_path), str(tmp_path / "out"), "participant", "--vgg-weights", source]
    assert main.main(argv) == 2
    assert source in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert files_below(cache) == []
