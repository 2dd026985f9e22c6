"""No input is executed or leaves the data set, and reports neither interpret nor fetch input.

Calls that run code, and imports that need a network, are banned in `ruff.toml` and `setup.cfg`.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.contrasts import resolve_contrasts
from bids_sr.io.notices import Notice, UsageError, record
from bids_sr.report.participants_page import write_participants
from bids_sr.survey.preflight.plan import Plan
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.figure_declarations import figure_declarations

EVIL = "<script>alert(1)</script>"
PROGRAMS = Path(sys.executable).parent


def argv(maker: BidsMaker, *more: str) -> list[str]:
    folders = [str(maker.root), str(maker.root.parent / "out")]
    return [*folders, "participant", "--skip-bids-validation", *more]


def plan(maker: BidsMaker, *more: str) -> Plan:
    return check(parse_settings(argv(maker, *more)).resolve(run_uuid="own"))


class Evil:
    """Object that writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.write_text, (self.target, "run"))


@pytest.fixture
def evil(tmp_path: Path) -> tuple[bytes, Path]:
    """Return a pickle, and the file that it writes when it is read."""
    target = tmp_path / "written"
    content = pickle.dumps(Evil(target))
    pickle.loads(content)
    assert target.read_text() == "run"
    target.unlink()
    return content, target


@pytest.mark.parametrize(
    ("option", "name", "code"),
    [
        ("--pretrained", "model.safetensors", 2),
        ("--pretrained", "model.pth", 2),
        ("--vgg-weights", "vgg.pth", 0),  # read when training starts: see test_image
        ("--vgg-weights", "vgg.safetensors", 0),
        ("--roi", "roi.nii.gz", 2),
    ],
)
def test_a_pickle_given_to_an_option_is_not_executed(
    option: str, name: str, code: int, maker: BidsMaker, evil: tuple[bytes, Path]
) -> None:
    path = maker.root.parent / name
    path.write_bytes(evil[0])
    path.with_suffix(".json").write_text("{}")
    assert main(argv(maker, option, str(path), "--dry-run")) == code
    assert not evil[1].exists()


def test_a_pickle_within_stored_effects_is_not_executed(
    tmp_path: Path, evil: tuple[bytes, Path]
) -> None:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
    array = np.lib.format.magic(1, 0) + len(header).to_bytes(2, "little") + header + evil[0]
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for key in ("effect", "blocks", "halves", "affine", "mask"):
            archive.writestr(f"{key}.npy", array)
    with pytest.raises((ValueError, KeyError)):
        Effects.load(tmp_path / "x.npz")
    assert not evil[1].exists()


@pytest.mark.parametrize("value", ["../../x", "..", "/etc/passwd", "$HOME", "*", "a b", "x\0"])
def test_labels_cannot_point_outside_the_dataset(value: str, maker: BidsMaker) -> None:
    Path("filter.json").write_text(json.dumps({"bold": {"session": value}}))
    # a star selects any session and is not a path
    is_refused = any(
        "filter.json" in problem.what
        for problem in plan(maker, "--bids-filter-file", "filter.json").problems
    )
    assert is_refused is (value != "*")
    paths = {"bids_dir": str(maker.root), "output_dir": "out"}
    for group, name in (
        ("selection", "participant_label"),
        ("selection", "session_label"),
        ("selection", "task_id"),
        ("preprocessing", "output_spaces"),
        ("superres", "method"),
    ):
        with pytest.raises(UsageError):
            Settings.from_mapping({"paths": paths, group: {name: [value]}})


@pytest.mark.parametrize(
    ("setting", "flag"),
    [
        ("resources.use_plugin", "--use-plugin"),
        ("selection.bids_database_dir", "--bids-database-dir"),
    ],
)
def test_a_settings_file_runs_no_commands_and_writes_nowhere_else(
    setting: str,
    flag: str,
    maker: BidsMaker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same value on the command line is used, and not recorded for other calls."""
    section, name = setting.split(".")
    value = str(tmp_path / "x")
    Path("config.toml").write_text(f'[{section}]\n{name} = "{value}"\n')
    assert main(argv(maker, "--config-file", "config.toml", "--dry-run")) == 0
    output = capsys.readouterr().out
    assert setting in output
    assert flag in output
    settings = parse_settings(argv(maker, "--config-file", "config.toml"))
    assert getattr(getattr(settings, section), name) is None
    for options in ((flag, value), ("--set", f"{setting}={value}")):
        settings = parse_settings(argv(maker, *options))
        assert getattr(getattr(settings, section), name) == Path(value)
        assert name not in settings.to_toml()


@pytest.mark.parametrize("label", ["..", "a b", "<b>", "tap-x", "$(id)", "%s", "{x}", "é", ""])
def test_files_with_invalid_names_are_rejected(label: str, maker: BidsMaker) -> None:
    for path in sorted(maker.root.rglob("*task-tap*")):
        path.rename(path.with_name(path.name.replace("task-tap", f"task-{label}")))
    problems = plan(maker).problems
    assert len([problem for problem in problems if f"task-{label}" in problem.what]) == 1


def test_a_file_of_another_participant_is_rejected(maker: BidsMaker) -> None:
    for path in sorted(maker.root.rglob("*task-tap*")):
        path.rename(path.with_name(path.name.replace("sub-01", "sub-02")))
    assert any("sub-02" in problem.what for problem in plan(maker).problems)


def test_trial_types_are_converted_to_safe_file_names() -> None:
    names = ["../../etc/passwd", EVIL, "a b/c", "..", "\u202e", "x\ny", "{sub}"]
    contrasts = resolve_contrasts(names)
    assert "etcPasswd" in contrasts
    assert all(name.isascii() and name.isalnum() for name in contrasts)


def test_paths_in_metadata_are_not_followed(maker: BidsMaker) -> None:
    keys = ("IntendedFor", "Sources", "B0FieldSource", "AssociatedEmptyRoom", "StimulusFile")
    places = ["../../../etc/passwd", "bids::../../x", "/etc/passwd", "file:///etc/passwd"]
    maker.bold(sidecar=dict.fromkeys(keys, places))
    (subject,) = plan(maker).subjects
    paths = [*subject.t1w, *(run.bold for run in subject.runs)]
    assert len(paths) == 2
    assert all(path.is_relative_to(maker.root) for path in paths)


def test_the_page_escapes_text_from_other_sources(tmp_path: Path) -> None:
    logs = tmp_path / "out" / "logs" / "run"
    logs.mkdir(parents=True)
    (tmp_path / "out" / "sub-01" / "figures").mkdir(parents=True)
    (logs / "settings.toml").write_text(f'[activation]\ncontrasts = ["{EVIL}"]\n')
    (logs / "crash-1.txt").write_text(
        f"Node: a.{EVIL}\nWorking directory: /{EVIL}\n\nTraceback (most\n  {EVIL}: {EVIL}\n"
    )
    evil = {"what": EVIL, "why": EVIL, "remedy": EVIL, "subject": "01", "code": "crashed"}
    record(logs, [Notice(**evil, file=name) for name in ("/x/crash-1.txt", f"/x/{EVIL}")])
    text = f"# Text\n\nThe data set {EVIL} [@{EVIL}], *{EVIL}*, [x](javascript:alert(1))\n"
    (logs / "CITATION.md").write_text(text)
    (page,) = write_participants(
        tmp_path / "out",
        ["01"],
        declarations=figure_declarations(),
        log_dir=logs,
        command=f"bids-sr {EVIL}",
    )
    html = page.read_text()
    assert html.lower().count("<script") == 1
    assert EVIL not in html
    # command, methods, and both notices are on the page as text
    assert html.count("&lt;script&gt;alert(1)") >= 8
    assert 'href="javascript:' not in html


def offline(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a namespace without a network."""
    unshare = [shutil.which("unshare") or "false", "-rn"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no name space of its own")
    return subprocess.run(
        [*unshare, *command],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        cwd=folder,
        env={**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}"},
    )


def test_a_dry_run_needs_no_network(maker: BidsMaker, tmp_path: Path) -> None:
    probe = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    assert "unreachable" in offline([sys.executable, "-c", probe], tmp_path).stderr
    arguments = argv(maker, "--dry-run")
    arguments.remove("--skip-bids-validation")
    process = offline(["bids-sr", *arguments], tmp_path)
    assert process.returncode == 0, process.stderr
    assert "sub-01_task-tap" in process.stdout
    assert "not validated" not in process.stdout


@pytest.mark.slow
def test_a_hostile_dataset_processed_offline_yields_a_harmless_page(tmp_path: Path) -> None:
    subprocess.run(
        [PROGRAMS / "bids-sr-phantom", tmp_path / "data", "--preset", "tiny"],
        check=True,
        capture_output=True,
    )
    description = tmp_path / "data" / "dataset_description.json"
    content = json.loads(description.read_text())
    description.write_text(
        json.dumps({**content, "Name": EVIL, "Authors": [EVIL], "License": "$\\frac{"})
    )
    names = {"thumb": EVIL, "little": "$\\frac{'\"&{x}</svg>"}
    for table in tmp_path.glob("data/sub-01/func/*_events.*"):
        text = table.read_text()
        for old, new in names.items():
            text = text.replace(old, json.dumps(new)[1:-1] if table.suffix == ".json" else new)
        table.write_text(text)
    assert EVIL in (tmp_path / "data/sub-01/func/sub-01_task-tap_events.tsv").read_text()
    options = ["--sr-method", "bspline", "--smoothing", "0", "--skip-bids-validation"]
    command = ["bids-sr", "data", "out", "participant", "-w", "work", *options]
    process = offline(command, tmp_path)
    assert process.returncode == 0, process.stderr[-3000:]
    for page in tmp_path.glob("out/**/*.html"):
        text = page.read_text().lower()
        assert "<script>alert" not in text, page
        assert "</svg></svg>" not in text
    assert "scriptAlert1Script" in (tmp_path / "out" / "sub-01.html").read_text()
    assert all(part.name.isascii() for part in (tmp_path / "out").rglob("*"))
