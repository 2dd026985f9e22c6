"""Test plugin files of ``--use-plugin``: every key is read, and invalid files are rejected with a
suggestion.
"""

from dataclasses import asdict
from pathlib import Path

import pytest
from data.calls import about, arguments, plan_for
from data.dataset import BidsMaker

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config.plugin import Plugin
from bids_sr.io.notices import Notice, UsageError


def read(tmp_path: Path, text: str, name: str = "plugin.toml") -> Plugin:
    path = tmp_path / name
    path.write_text(text)
    return Plugin.from_file(path)


def test_every_key_is_read(tmp_path: Path) -> None:
    (tmp_path / "head.sh").write_text("#!/bin/sh\nmodule load python\n")
    plugin = read(
        tmp_path,
        """plugin = "SLURM"
[plugin_args]
sbatch_args = ["--partition=short", "--account", "lab"]
gpu_args = ["--gres=gpu:1"]
template = "head.sh"
time_minutes = 90
memory_extra_gb = 1
join_small = false
max_jobs = 7
poll_seconds = 2
grace_seconds = 3
patience_seconds = 4
""",
    )
    assert plugin.is_cluster
    assert asdict(plugin) == {
        "plugin": "SLURM",
        "n_procs": None,
        "memory_gb": None,
        "sbatch_args": ("--partition=short", "--account", "lab"),
        "gpu_args": ("--gres=gpu:1",),
        "template": "#!/bin/sh\nmodule load python\n",
        "time_minutes": 90.0,
        "memory_extra_gb": 1.0,
        "join_small": False,
        "max_jobs": 7,
        "poll_seconds": 2.0,
        "grace_seconds": 3.0,
        "patience_seconds": 4.0,
    }


def refuse(tmp_path: Path, name: str, text: str | None) -> Notice:
    """Return why a plugin file is refused."""
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as refusal:
        Plugin.from_file(path)
    notice = refusal.value.notice
    assert str(path) in notice.what or "plugin_args." in notice.what
    return notice


# contents of [plugin_args] with SLURM, and values of the message
INVALID_ARGUMENTS = [
    ("sbatch_arg = []", "'sbatch_args'"),
    ("sbatch_args = 1", "list"),
    ('sbatch_args = ["-p short"]', '"-p", "short"'),
    ('sbatch_args = ["--array=1-3"]', "--array"),
    ('sbatch_args = ["-W"]', "--wait"),
    ('gpu_args = ["-o", "x"]', "--output"),
    ("max_jobs = 0", "1"),
    ("max_jobs = 1.5", "int"),
    ("poll_seconds = 0", "0"),
    ("time_minutes = 0", "0"),
    ("memory_extra_gb = -1", "0"),
    ('template = "absent.sh"', "absent.sh"),
    ("n_procs = 2", "'n_procs'"),
]


@pytest.mark.parametrize(
    ("text", "mentioned"),
    [
        (None, ""),
        ('plugin = "SLRUM"', "'SLURM'"),
        ('plugin = "PBS"', "MultiProc"),
        ("", 'plugin = "SLURM"'),
        ('plugin = "SLURM"\nplugin_arg = 1', "'plugin_args'"),
        ('plugin = "SLURM"\nplugin_args = 1', "plugin_args"),
        ('plugin = "MultiProc"\n[plugin_args]\nmax_jobs = 2', "memory_gb, n_procs"),
        ('plugin = "MultiProc"\n[plugin_args]\nn_procs = 0', "1"),
        ("plugin =", "TOML"),
        *(
            (f'plugin = "SLURM"\n[plugin_args]\n{line}', mentioned)
            for line, mentioned in INVALID_ARGUMENTS
        ),
    ],
)
def test_invalid_toml_plugin_files_are_refused(
    text: str | None, mentioned: str, tmp_path: Path
) -> None:
    assert mentioned in str(refuse(tmp_path, "plugin.toml", text))


@pytest.mark.parametrize(
    ("text", "mentioned"),
    [
        ("plugin: [", "YAML"),
        ("- plugin", "plugin: SLURM"),
        ("plugin: SGE", "MultiProc"),
        ("plugin: SLURM\nplugin_args: {sbatch_arg: x}", "'sbatch_args'"),
        ("plugin: SLURM\nplugin_args: {on: x}", "True"),
        ("plugin: SLURM\nplugin_args:\n  sbatch_args: -p short --comment='x", "sbatch_args"),
    ],
)
def test_invalid_yaml_plugin_files_are_refused(text: str, mentioned: str, tmp_path: Path) -> None:
    assert mentioned in str(refuse(tmp_path, "plugin.yml", text))


def test_yaml_plugin_files_of_nipype_are_read(tmp_path: Path) -> None:
    """The files are from fMRIPrep's tests and from the SLURM documentation of Nipype."""
    plugin = read(
        tmp_path,
        "plugin: LegacyMultiProc\nplugin_args:\n  maxtasksperchild: 1\n"
        "  raise_insufficient: false\n  n_procs: 3\n  memory_gb: 5\n",
        "plugin.yml",
    )
    assert (plugin.plugin, plugin.n_procs, plugin.memory_gb) == ("MultiProc", 3, 5.0)
    slurm = "plugin: SLURM\nplugin_args: {sbatch_args: '-p short --account lab', max_jobs: 4}\n"
    assert read(tmp_path, slurm, "plugin.yml") == Plugin(
        plugin="SLURM", sbatch_args=("-p", "short", "--account", "lab"), max_jobs=4
    )
    assert read(tmp_path, "plugin: SLURMGraph\nplugin_args:\n", "plugin.yml").is_cluster


def test_a_multiproc_file_sets_processors_and_memory_unless_specified(tmp_path: Path) -> None:
    path = tmp_path / "plugin.yml"
    path.write_text("plugin: MultiProc\nplugin_args: {n_procs: 3, memory_gb: 5, scheduler: x}\n")
    line = ["in", "out", "participant", "--nipype-plugin-file", str(path)]
    settings = parse_settings(line).resolve(run_uuid="x")
    resources = settings.resources
    assert (resources.use_plugin, resources.nprocs, resources.mem_gb) == (None, 3, 5.0)
    resources = (
        parse_settings([*line, "--nprocs", "2", "--mem", "1"]).resolve(run_uuid="x").resources
    )
    assert (resources.nprocs, resources.mem_gb) == (2, 1.0)


def test_a_call_with_an_unusable_plugin_is_refused(
    maker: BidsMaker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = maker.root.parent / "plugin.toml"
    path.write_text('plugin = "SLRUM"')
    assert main(arguments(maker, "--use-plugin", str(path), "--dry-run")) == 2
    assert "'SLURM'" in capsys.readouterr().err
    path.write_text('plugin = "SLURM"')
    monkeypatch.setenv("PATH", str(maker.root))
    problems = plan_for(maker, "--use-plugin", str(path)).problems
    assert about(problems, "", "sbatch, squeue, scontrol, scancel")


@pytest.mark.parametrize("name", ["PBS", "SGE", "LSF"])
def test_another_scheduler_is_refused_with_the_way_that_exists(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, f"plugin: {name}\n", "plugin.yml")
    assert "docs/cluster.md" in str(error.value.notice.remedy)
