"""The recipe of the image agrees with the package; no engine is needed."""

import configparser
import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = (
    "requirements.lock",
    "docker/torch-cpu.lock",
    "docker/torch-cuda.lock",
    "docker/build.lock",
)
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def locked_versions(name: str) -> dict[str, str]:
    """Return the versions in a lock file; every line has to be a pinned requirement with
    hashes.
    """
    text = "\n".join(
        line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")
    )
    versions = {}
    for entry in text.replace("\\\n", " ").strip().splitlines():
        match = re.fullmatch(
            r"([A-Za-z0-9._-]+)==([^\s;]+)((?:\s+--hash=sha256:[0-9a-f]{64})+)", entry.rstrip()
        )
        assert match, f"{name}: {entry}"
        versions[canonicalize_name(match[1])] = match[2]
    return versions


def required() -> list[Requirement]:
    """Return the requirements of the package and of the extra that the image installs."""
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    lists = (
        setup["options"]["install_requires"],
        setup["options.extras_require"]["multi-echo"],
    )
    return [Requirement(line) for text in lists for line in text.strip().splitlines()]


def test_every_requirement_is_locked_with_a_hash_at_an_allowed_version() -> None:
    """Both builds of torch have the same version, and packages of their own."""
    common, cpu, cuda = (locked_versions(name) for name in LOCKS[:3])
    for versions in (common | cpu, common | cuda):
        for needed in required():
            version = versions[canonicalize_name(needed.name)].partition("+")[0]
            assert needed.specifier.contains(version), needed
    assert cpu == {"torch": f"{cuda['torch']}+cpu"}
    assert not {*cuda} & {*common}
    project = (ROOT / "pyproject.toml").read_text()
    needed = Requirement(re.search(r'requires = \["(.+)"\]', project)[1])
    versions = locked_versions(LOCKS[3])
    assert needed.specifier.contains(versions[needed.name])
    assert {*versions} == {"pip", "setuptools"}


def is_in_context(path: str, patterns: list[str]) -> bool:
    """Return whether a file is in the build context: the last matching pattern of .dockerignore
    decides.
    """
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    ignored = False
    for pattern in patterns:
        name = pattern.removeprefix("!")
        loose = name.removeprefix("**/")
        if any(
            fnmatchcase(a, name) or (loose != name and fnmatchcase(a.rpartition("/")[2], loose))
            for a in above
        ):
            ignored = not pattern.startswith("!")
    return not ignored


def test_the_build_context_has_the_package_and_no_private_files() -> None:
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    needed = [path for top in ("bids_sr", "docker") for path in (ROOT / top).rglob("*")]
    needed = [
        path
        for path in needed
        if path.is_file() and "__pycache__" not in path.parts and path.name != "commit.txt"
    ]
    needed = [path.relative_to(ROOT).as_posix() for path in needed]
    needed += ["setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE", *LOCKS]
    assert [path for path in needed if not is_in_context(path, patterns)] == []
    private = [
        ".git/config",
        "build/x",
        "demo/sub-01/anat/x.nii.gz",
        "tests/engines.py",
        "bids_sr/__pycache__/x.pyc",
        "bids_sr/commit.txt",  # regenerated with the commit of the image
        ".env",
    ]
    assert [path for path in private if is_in_context(path, patterns)] == []


def argument(name: str) -> str:
    """Return the default of a build argument, from its first declaration."""
    return re.search(rf"^ARG {name}=(.*)$", DOCKERFILE, re.MULTILINE)[1]


@pytest.fixture
def entry(tmp_path):
    """Return a function that runs the entry point with a minimal tini."""
    tini = tmp_path / "bin" / "tini"
    tini.parent.mkdir()
    tini.write_text('#!/bin/sh\n[ "$1 $2" = "-s --" ] || exit 9\nshift 2\nexec "$@"\n')
    tini.chmod(0o755)

    def run(temporary: Path) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": f"{tini.parent}:{os.environ['PATH']}",
            "TMPDIR": str(temporary),
            "HOME": "/nowhere",
        }
        show = 'echo "$HOME"; echo "$MPLCONFIGDIR"; echo "$XDG_CACHE_HOME"; exit 7'
        return subprocess.run(
            ["sh", str(ROOT / "docker/entry.sh"), "sh", "-c", show],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_entry_point_makes_a_private_home_and_passes_the_exit_code_on(entry, tmp_path) -> None:
    home = tmp_path / f"bids-sr-{os.getuid()}"
    for _ in range(2):  # the directory already exists the second time
        done = entry(tmp_path)
        assert done.returncode == 7
        assert done.stdout.split() == [str(home), f"{home}/matplotlib", f"{home}/cache"]
        assert home.stat().st_mode & 0o777 == 0o700


def test_entry_point_does_not_follow_a_link_of_another_user(entry, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"bids-sr-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    home = Path(entry(tmp_path).stdout.split()[0])
    assert home.name.startswith("bids-sr.")
    assert home.stat().st_mode & 0o777 == 0o700


def test_entry_point_names_the_option_without_a_writable_directory(entry) -> None:
    done = entry(Path("/dev/null"))
    assert done.returncode == 2
    assert "--tmpfs /tmp" in done.stderr


@pytest.fixture
def templates(tmp_path):
    """Return a function that runs the step that fetches templates with a stand-in for
    TemplateFlow.
    """

    def run(get: str, *spaces: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        client = tmp_path / "client" / "templateflow"
        client.mkdir(parents=True)
        (client / "__init__.py").write_text("")
        (client / "api.py").write_text(
            "import os\nfrom pathlib import Path\nhome = Path(os.environ['TEMPLATEFLOW_HOME'])\n"
            f"def get(space, *, resolution, extension, **kw):\n    {get}\n"
        )
        home = tmp_path / "home"
        (home / "tpl-Skeleton").mkdir(parents=True)
        (home / "tpl-Skeleton" / "template_description.json").write_text("{}")
        (home / "tpl-A").mkdir()
        (home / "tpl-A" / "not-asked-for.nii.gz").touch()
        env = os.environ | {"TEMPLATEFLOW_HOME": str(home), "PYTHONPATH": str(client.parent)}
        command = [sys.executable, str(ROOT / "docker/templates.py"), *spaces]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False), home

    return run


def test_unavailable_templates_are_reported_and_left_out(templates) -> None:
    done, home = templates("raise ConnectionError('refused')", "A", "B")
    assert done.returncode == 0
    assert "A is left out" in done.stderr
    assert "B is left out" in done.stderr
    assert list(home.rglob("*")) == []


def test_available_templates_are_kept_with_all_files(templates) -> None:
    get = (
        "path = home / f'tpl-{space}' / (kw['suffix'] + kw.get('label', '')); "
        "path.parent.mkdir(exist_ok=True); path.write_text('x'); return [path]"
    )
    done, home = templates(get, "A")
    assert done.returncode == 0, done.stderr
    assert "A is in the image" in done.stderr
    assert {path.name for path in home.rglob("*")} == {
        "tpl-A",
        "T1w",
        "mask",
        "probsegGM",
        "probsegWM",
    }
