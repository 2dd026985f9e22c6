"""No input is executed or leaves the dataset, and reports neither interpret nor fetch input."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings, UsageError
from bids_sr.glm.contrasts import camel_case, resolve_contrasts
from bids_sr.notices import Notice, record
from bids_sr.preflight import check

ROOT = Path(__file__).parents[3]
SOURCES = [
    p
    for name in ("bids_sr", "workflows", "boilerplate")
    for p in sorted((ROOT / name).rglob("*.py"))
]
PICKLES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "pandas.read_pickle",
}
# Reads a single file of torch.save, after its checksum, with the unpickler that runs no code.
CHECKSUM_VERIFIED = "bids_sr/networks/vgg19.py"
# The only module that downloads, and only with --vgg-weights download.
DOWNLOADS_ON_REQUEST = "bids_sr/cli/vgg19_weights.py"
# Reads a step that nipype stored in the work directory, in the job on a node of a cluster.
LOADS_WORK_DIRECTORY = {"bids_sr/execution/node_job.py"}
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def nodes() -> list[tuple[str, ast.AST]]:
    """Return all calls and imports of the sources with their file, parsed once."""
    return [
        (str(path.relative_to(ROOT)), node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call | ast.Import | ast.ImportFrom)
    ]


@pytest.fixture(scope="module")
def calls(nodes: list[tuple[str, ast.AST]]) -> list[tuple[str, int, str, ast.Call]]:
    """Return all calls in the sources: file, line, dotted name, node."""
    return [
        (name, node.lineno, ast.unparse(node.func), node)
        for name, node in nodes
        if isinstance(node, ast.Call)
    ]


def imported(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def keyword(call: ast.Call, name: str) -> str | None:
    return next(
        (ast.unparse(argument.value) for argument in call.keywords if argument.arg == name), None
    )


def test_sources_are_found(calls: list[tuple[str, int, str, ast.Call]]) -> None:
    assert len(SOURCES) > 150
    assert len(calls) > 5000


def test_only_steps_of_the_work_directory_are_unpickled(
    nodes: list[tuple[str, ast.AST]], calls: list[tuple[str, int, str, ast.Call]]
) -> None:
    violations = [
        f"{name}: {module}"
        for name, node in nodes
        for module in imported(node)
        if module.split(".")[0] in PICKLES
    ]
    for name, line, function, call in calls:
        last = function.rpartition(".")[2]
        if function.endswith(
            ("torch.load", "read_pickle", "jit.load", "yaml.load", "yaml.unsafe_load")
        ):
            safe = keyword(call, "weights_only") == "True"
            if not (name == CHECKSUM_VERIFIED and function == "torch.load" and safe):
                violations.append(f"{name}:{line} {function}")
        if last in ("loadpkl", "load_resultfile") and name not in LOADS_WORK_DIRECTORY:
            violations.append(f"{name}:{line} {function}")
        if function in ("np.load", "numpy.load") and keyword(call, "allow_pickle") != "False":
            violations.append(f"{name}:{line} {function}")
    assert violations == []


def test_no_shell_and_no_text_is_executed(calls: list[tuple[str, int, str, ast.Call]]) -> None:
    violations = [
        f"{name}:{line} {function}"
        for name, line, function, call in calls
        if keyword(call, "shell") not in (None, "False")
        or function
        in (
            "eval",
            "exec",
            "os.system",
            "os.popen",
            "subprocess.getoutput",
            "subprocess.getstatusoutput",
        )
        or function.rpartition(".")[2] in ("extractall", "unpack_archive", "mktemp")
        or function.startswith(("os.exec", "os.spawn", "pty."))
        # restarts the same Python with the same arguments, in UTF-8 mode
        if not (name.endswith("cli/standard_streams.py") and function == "os.execve")
    ]
    assert violations == []


def test_only_the_download_command_imports_a_network_library(
    nodes: list[tuple[str, ast.AST]],
) -> None:
    network = {
        "requests",
        "urllib",
        "http",
        "ftplib",
        "smtplib",
        "aiohttp",
        "httpx",
        "boto3",
        "telnetlib",
        "xmlrpc",
    }
    importers = {
        name
        for name, node in nodes
        for module in imported(node)
        if module.split(".")[0] in network and module != "urllib.parse"
    }
    assert importers == {DOWNLOADS_ON_REQUEST}


def test_the_module_that_downloads_is_imported_only_by_commands_with_the_option(
    nodes: list[tuple[str, ast.AST]],
) -> None:
    module = DOWNLOADS_ON_REQUEST.removesuffix(".py").replace("/", ".")
    package, _, last = module.rpartition(".")
    importers = {
        name
        for name, node in nodes
        if module in imported(node)
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == package
            and last in {alias.name for alias in node.names}
        )
    }
    assert importers == {
        "bids_sr/cli/main.py",
        "bids_sr/model_commands/cli/train.py",
        "bids_sr/slurm/cli/main.py",
    }


class Evil:
    """Object that writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.write_text, (self.target, "run"))


def argv(maker: BidsMaker, *more: str) -> list[str]:
    return [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
        *more,
    ]


def test_unpickling_the_evil_object_writes_a_file(tmp_path: Path) -> None:
    """Otherwise, the next test would prove nothing."""
    pickle.loads(pickle.dumps(Evil(tmp_path / "written")))
    assert (tmp_path / "written").read_text() == "run"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.pth", "vgg.safetensors", "vgg.pth", "roi.nii.gz", "x.npz"]
)
def test_a_pickle_with_another_extension_is_not_executed(
    name: str, maker: BidsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Evil(tmp_path / "written")))
    if name == "x.npz":
        from bids_sr.glm import block_effects

        with zipfile.ZipFile(path, "w") as archive:
            content = np.lib.format.magic(1, 0)
            header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
            header += b" " * (118 - len(header) - 1) + b"\n"
            body = (
                content
                + len(header).to_bytes(2, "little")
                + header
                + pickle.dumps(Evil(tmp_path / "written"))
            )
            for key in ("effect", "blocks", "halves", "affine", "mask"):
                archive.writestr(f"{key}.npy", body)
        readers = [
            getattr(block_effects, name_of_reader)
            for name_of_reader in dir(block_effects)
            if name_of_reader.startswith(("read", "load"))
        ]
        assert readers
        for reader in readers:
            with pytest.raises((ValueError, KeyError, TypeError)):
                reader(path)
    else:
        path.with_suffix(".json").write_text("{}")
        option = {"m": "--pretrained", "v": "--vgg-weights", "r": "--roi"}[name[0]]
        code = main(argv(maker, option, str(path), "--dry-run"))
        # VGG weights are read when training starts: see test_losses
        assert code == 2 or name == "vgg.safetensors"
        assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    "value", ["../../x", "..", "/etc/passwd", "a/b", "~", "$HOME", "*", "a b", "\n", "x\0"]
)
def test_labels_cannot_point_outside_the_dataset(
    value: str, maker: BidsMaker, tmp_path: Path
) -> None:
    (tmp_path / "filter.json").write_text(json.dumps({"bold": {"session": value}}))
    problems = check(
        parse_settings(argv(maker, "--bids-filter-file", "filter.json")).resolve(run_uuid="x")
    ).problems
    # a star selects any session and is not a path
    assert any("not a valid BIDS label" in problem.why for problem in problems) is (value != "*")
    paths = {"bids_dir": str(maker.root), "output_dir": str(tmp_path / "out")}
    for group, name in (
        ("selection", "participant_label"),
        ("selection", "session_label"),
        ("selection", "task_id"),
        ("preprocessing", "output_spaces"),
        ("superres", "method"),
    ):
        with pytest.raises(UsageError):
            Settings.from_mapping({"paths": paths, group: {name: [value]}})


@pytest.mark.parametrize("value", ["../../x", "/etc", "a/b"])
def test_a_settings_file_sets_neither_run_uuid_nor_paths(value: str, maker: BidsMaker) -> None:
    (maker.root.parent / "config.toml").write_text(
        f'[run]\nrun_uuid = "{value}"\n[paths]\nbids_dir = "{value}"\noutput_dir = "{value}"\n'
    )
    settings = parse_settings(argv(maker, "--config-file", "config.toml")).resolve(run_uuid="own")
    assert settings.run.run_uuid == "own"
    assert settings.paths.output_dir == maker.root.parent / "out"
    assert settings.paths.bids_dir == maker.root


@pytest.mark.parametrize(
    "label", ["..", "a b", "<b>", "tap-x", "$(id)", "'", "%s", "{x}", "é", ""]
)
def test_files_with_invalid_names_are_rejected(label: str, maker: BidsMaker) -> None:
    for path in sorted(maker.root.rglob("*task-tap*")):
        path.rename(path.with_name(path.name.replace("task-tap", f"task-{label}")))
    problems = check(parse_settings(argv(maker)).resolve(run_uuid="x")).problems
    (problem,) = [problem for problem in problems if f"task-{label}" in problem.what]
    assert "Rename" in problem.remedy


def test_a_file_of_another_participant_is_rejected(maker: BidsMaker) -> None:
    for path in sorted(maker.root.rglob("*task-tap*")):
        path.rename(path.with_name(path.name.replace("sub-01", "sub-02")))
    problems = check(parse_settings(argv(maker)).resolve(run_uuid="x")).problems
    assert any(
        "the file name contains sub-02, but the directories are named sub-01" in problem.why
        for problem in problems
    )


def test_trial_types_are_converted_to_safe_file_names() -> None:
    names = ["../../etc/passwd", EVIL, "a b/c", "..", "\u202e", "x\ny", "{sub}"]
    for contrasts in (resolve_contrasts(names[:3]), resolve_contrasts(names)):
        assert all(name.isascii() and name.isalnum() for name in contrasts)
    assert camel_case("../../etc/passwd") == "etcPasswd"


def test_paths_in_metadata_are_not_followed(maker: BidsMaker) -> None:
    for key in ("IntendedFor", "Sources", "B0FieldSource", "AssociatedEmptyRoom", "StimulusFile"):
        maker.bold(
            sidecar={
                key: ["../../../etc/passwd", "bids::../../x", "/etc/passwd", "file:///etc/passwd"]
            }
        )
        plan = check(parse_settings(argv(maker)).resolve(run_uuid="x"))
        assert plan.problems == ()
        paths = [
            path
            for subject in plan.subjects
            for path in (*subject.t1w, *(run.bold for run in subject.runs))
        ]
        assert all(path.is_relative_to(maker.root) for path in paths)


def test_configuration_files_of_pybids_in_the_dataset_are_ignored(maker: BidsMaker) -> None:
    """Such a file could contain a regular expression that never ends."""
    bomb = {"name": "x", "entities": [{"name": "subject", "pattern": "((a+)+)+$"}]}
    for folder in (maker.root, maker.root / "sub-01", maker.root / "sub-01" / "func"):
        (folder / "layout_config.json").write_text(json.dumps(bomb))
    plan = check(parse_settings(argv(maker)).resolve(run_uuid="x"))
    assert [subject.label for subject in plan.subjects] == ["01"]


def test_the_page_escapes_text_from_other_sources(tmp_path: Path) -> None:
    from bids_sr.report.participants_page import _build_report
    from bids_sr.steps.figures import figure_declarations

    logs = tmp_path / "out" / "logs" / "run"
    logs.mkdir(parents=True)
    (tmp_path / "out" / "sub-01" / "figures").mkdir(parents=True)
    (logs / "settings.toml").write_text(f'[activation]\ncontrasts = ["{EVIL}"]\n')
    (logs / "crash-1.txt").write_text(
        f"Node: a.{EVIL}\nWorking directory: /{EVIL}\n\nTraceback (most\n  {EVIL}: {EVIL}\n"
    )
    evil = Notice(
        what=EVIL, why=EVIL, remedy=EVIL, subject="01", code="crashed", file="/x/crash-1.txt"
    )
    record(logs, [evil, replace(evil, file=f"/x/{EVIL}")])
    text = f"# Text\n\nThe data set {EVIL} [@{EVIL}], *{EVIL}*, [x](javascript:alert(1))\n"
    (logs / "CITATION.md").write_text(text)
    page = _build_report(
        tmp_path / "out",
        "01",
        declarations=figure_declarations(),
        log_dir=logs,
        command=f"bids-sr {EVIL}",
    )
    text = page.read_text()
    assert text.lower().count("<script") == 1
    assert EVIL not in text
    assert "&lt;script&gt;alert(1)" in text
    assert 'href="javascript:' not in text


def offline(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a namespace without a network."""
    unshare = shutil.which("unshare")
    if (
        unshare is None
        or subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine allows no name space of its own")
    return subprocess.run(
        [unshare, "-rn", *command],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        cwd=folder,
    )


def test_a_dry_run_needs_no_network(maker: BidsMaker, tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "bids-sr"
    probe = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    assert "unreachable" in offline([sys.executable, "-c", probe], tmp_path).stderr
    arguments = [
        option for option in argv(maker, "--dry-run") if option != "--skip-bids-validation"
    ]
    process = offline([str(script), *arguments], tmp_path)
    assert process.returncode == 0, process.stderr
    assert "sub-01_task-tap" in process.stdout
    assert "not validated" not in process.stdout


@pytest.mark.slow
def test_a_hostile_dataset_processed_offline_yields_a_harmless_page(tmp_path: Path) -> None:
    script = Path(sys.executable).parent
    subprocess.run(
        [script / "bids-sr-phantom", tmp_path / "data", "--preset", "tiny"],
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
    process = offline(
        [
            str(script / "bids-sr"),
            "data",
            "out",
            "participant",
            "-w",
            "work",
            "--sr-method",
            "bspline",
            "--smoothing",
            "0",
            "--skip-bids-validation",
        ],
        tmp_path,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    for page in tmp_path.glob("out/**/*.html"):
        text = page.read_text().lower()
        assert "<script>alert" not in text, page
        assert "</svg></svg>" not in text
    assert "scriptAlert1Script" in (tmp_path / "out" / "sub-01.html").read_text()
    assert all(part.name.isascii() for part in (tmp_path / "out").rglob("*"))
