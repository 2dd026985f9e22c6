"""Build the image and run it with restrictions that are common on clusters.

Needs an engine (see engines.py) and some minutes: `BIDS_SR_TEST_CONTAINER=docker pytest -m slow
tests/container`.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import VARIABLE, Engine, engine

import bids_sr

ROOT = Path(__file__).parents[2]
TAG = "bids-sr:test"
REVISION = "0123abc"
BUILT = f"bids-sr {bids_sr.RELEASE}" + f"+g{REVISION}" * (".dev" in bids_sr.RELEASE)
USER = "12345:12345"
ENTRY = "/usr/local/bin/bids-sr-entry"
STRICT = ("--user", USER, "--network", "none", "--tmpfs", "/tmp")
SITE = "/opt/bids-sr/lib/python3.11/site-packages"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def image() -> Engine:
    """Return the engine, after building the image of this checkout."""
    chosen = engine()
    if chosen is None:
        pytest.skip(f"{VARIABLE} names no container engine")
    done = chosen.build(
        TAG, "--build-arg", f"IMAGE_TAG={TAG}", "--build-arg", f"REVISION={REVISION}"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return chosen


@pytest.fixture
def writable(tmp_path) -> Path:
    """Return a folder with write permission for all users."""
    folder = tmp_path / "writable"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="module")
def data(image, tmp_path_factory) -> Path:
    """Make the phantom `tiny` with the image; all users may read it, but only its owner may
    write.
    """
    base = tmp_path_factory.mktemp("data")
    base.chmod(0o777)
    flags = (*STRICT, *image.read_only(), "--volume", f"{base}:/data", "--entrypoint", ENTRY)
    done = image.run(TAG, "bids-sr-phantom", "/data/tiny", "--preset", "tiny", flags=flags)
    assert done.returncode == 0, done.stdout + done.stderr
    return base / "tiny"


@pytest.fixture
def start_container(image) -> Iterator:
    """Return a function that starts a container in the background; it is removed at the end."""
    names = []

    def start(name: str, *args: str, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        names.append(name)
        command = image.command("run", "--rm", "--name", name, *flags, TAG, *args)
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=image.env
        )

    yield start
    for name in names:
        image.call("rm", "--force", name)


def test_the_image_has_labels_and_an_unprivileged_user(image) -> None:
    config = json.loads(image.call("image", "inspect", TAG).stdout)[0]
    labels = config["Config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == bids_sr.RELEASE
    assert labels["org.opencontainers.image.revision"] == REVISION
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0 AND GPL-1.0-or-later"
    assert config["Config"]["User"] == "1000:1000"


@pytest.mark.parametrize(("arguments", "expected"), [(["--version"], BUILT), ([], "usage:")])
def test_the_image_runs_as_any_user_without_network_or_a_writable_root(
    image, arguments, expected
) -> None:
    done = image.run(TAG, *arguments, flags=(*STRICT, *image.read_only()))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(expected)


def test_the_image_has_the_package_of_this_checkout(image) -> None:
    # the installation writes commit.txt
    listing = (
        f"cd {SITE}/bids_sr && find . -type f ! -name '*.pyc' ! -name commit.txt"
        " -exec sha256sum {} +"
    )
    checksums = set(
        image.run(TAG, "-c", listing, flags=("--entrypoint", "sh")).stdout.split("\n")
    ) - {""}
    files = [
        (path, f"./{path.relative_to(ROOT / 'bids_sr')}")
        for path in (ROOT / "bids_sr").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name != "commit.txt"
    ]
    sums = subprocess.run(
        ["sha256sum", *(str(path) for path, _ in files)],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = {
        f"{line[:64]}  {name}"
        for line, (_, name) in zip(sums.stdout.splitlines(), files, strict=True)
    }
    assert checksums == expected


def test_the_image_has_no_build_tools_or_caches(image) -> None:
    look = (
        "command -v pip gcc cc make; ls -A /var/lib/apt/lists /var/cache /root/.cache /work"
        f" 2>/dev/null | grep -v :;find / -xdev -type d -name pip; find {SITE} -type d -name"
        " tests; true"
    )
    done = image.run(TAG, "-c", look, flags=("--entrypoint", "sh", "--user", "0"))
    assert done.stdout.split() == []


def test_without_a_writable_directory_the_error_names_the_option(image) -> None:
    done = image.run(
        TAG, "--version", flags=("--user", USER, "--network", "none", *image.read_only())
    )
    assert done.returncode == 2
    assert "--tmpfs /tmp" in done.stderr


def test_shared_temporary_folder_of_apptainer(image, writable) -> None:
    """Apptainer runs the image as the caller, not as process 1, with /tmp and home of the host."""
    (writable / "bids-sr-12345").mkdir(mode=0o755)  # another user ran the program before
    flags = (
        "--user",
        USER,
        "--pid",
        "host",
        "--network",
        "none",
        *image.read_only(),
        "--volume",
        f"{writable}:/tmp",
        "--env",
        "HOME=/nowhere",
        "--entrypoint",
        ENTRY,
    )
    done = image.run(TAG, "sh", "-c", "echo $HOME; bids-sr --version", flags=flags)
    assert done.returncode == 0, done.stderr
    assert "Tini" not in done.stderr
    home, version = done.stdout.splitlines()
    assert home.startswith("/tmp/bids-sr.")
    assert version == BUILT
    assert (writable / "bids-sr-12345").stat().st_uid == 0


def test_sigterm_ends_a_program_without_a_handler(image, start_container) -> None:
    flags = (*STRICT, *image.read_only(), "--entrypoint", ENTRY)
    process = start_container(
        "bids-sr-test-sleep", "sh", "-c", "echo up; exec sleep 600", flags=flags
    )
    assert process.stdout.readline() == "up\n"
    start = time.monotonic()
    image.call("kill", "--signal", "TERM", "bids-sr-test-sleep")
    assert process.wait(30) == 143
    assert time.monotonic() - start < 2


def test_sigterm_reaches_a_run(image, start_container, data, writable) -> None:
    flags = (
        *STRICT,
        *image.read_only(),
        "--volume",
        f"{data}:/data:ro",
        "--volume",
        f"{writable}:/out",
        "--volume",
        f"{writable}:/work",
    )
    process = start_container(
        "bids-sr-test-run",
        "/data",
        "/out/run",
        "participant",
        "--set=run.sloppy=true",
        flags=flags,
    )
    nodes = writable / "work"
    deadline = time.monotonic() + 120
    while (
        not list(nodes.rglob("_node.pklz"))
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.2)
    assert process.poll() is None, process.stdout.read()
    start = time.monotonic()
    image.call("kill", "--signal", "TERM", "bids-sr-test-run")
    assert process.wait(30) == 130
    assert time.monotonic() - start < 10
    assert not list((writable / "run").glob("sub-*.html"))


@pytest.mark.parametrize("user", [USER, "0:0"])
def test_without_mounts_the_error_names_both_options(image, user: str) -> None:
    done = image.run(TAG, "/data", "/out", "participant", flags=("--user", user))
    assert done.returncode == 2
    assert "-v /path/to/bids:/data:ro" in done.stderr
    assert "-v /path/to/out:/out" in done.stderr


def test_the_dry_run_accepts_two_mounts(image, data, writable) -> None:
    flags = ("--network", "none", "--volume", f"{data}:/data:ro", "--volume", f"{writable}:/out")
    done = image.run(TAG, "/data", "/out", "participant", "--dry-run", flags=flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(writable.iterdir()) == []


def test_whole_run_as_an_unknown_user_without_network_or_a_writable_root(
    image, data, writable
) -> None:
    flags = (
        *STRICT,
        *image.read_only(),
        "--volume",
        f"{data}:/data:ro",
        "--volume",
        f"{writable}:/out",
        "--volume",
        f"{writable}:/work",
    )
    done = image.run(
        TAG,
        "/data",
        "/out/run",
        "participant",
        "--sr-method",
        "bspline",
        "--smoothing",
        "0",
        "--set",
        "run.sloppy=true",
        "--output-spaces",
        "MNI152NLin2009cAsym",
        flags=flags,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    out = writable / "run"
    assert (out / "sub-01.html").is_file()
    assert next(out.rglob("*_space-boldref_res-hr_*_bold.nii.gz")).stat().st_uid == 12345
    (generator,) = [
        entry
        for entry in json.loads((out / "dataset_description.json").read_text())["GeneratedBy"]
        if entry["Name"] == "bids-sr"
    ]
    assert generator["Container"] == {"Type": "docker", "Tag": TAG}
