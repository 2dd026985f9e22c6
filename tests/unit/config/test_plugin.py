"""Test plugin files of ``--use-plugin``: every key is read, and invalid files are rejected with a
suggestion.
"""

from dataclasses import asdict
from pathlib import Path

import pytest
from checking import problems_of
from data.dataset import BidsMaker

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.config import UsageError
from bids_sr.config.plugin import Plugin
from bids_sr.preflight.directories import check_directories


def read(tmp_path: Path, text: str) -> Plugin:
    path = tmp_path / "plugin.toml"
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


def test_most_keys_are_optional(tmp_path: Path) -> None:
    assert read(tmp_path, 'plugin = "SLURMGraph"') == Plugin(plugin="SLURM")
    assert not read(tmp_path, 'plugin = "MultiProc"').is_cluster
    assert (
        read(tmp_path, 'plugin = "SLURM"\nplugin_args.template = "ulimit -c 0\\n"').template
        == "ulimit -c 0\n"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('plugin = "SLRUM"', "did you mean 'SLURM'"),
        ('plugin = "PBS"', "expected MultiProc or SLURM"),
        ("", 'write plugin = "SLURM"'),
        ('plugin = "SLURM"\nplugin_arg = 1', "did you mean 'plugin_args'"),
        ('plugin = "SLURM"\nplugin_args = 1', "not a table"),
        ('plugin = "SLURM"\n[plugin_args]\nsbatch_arg = []', "did you mean 'sbatch_args'"),
        ('plugin = "SLURM"\n[plugin_args]\nsbatch_args = 1', "expected a value of type list"),
        (
            'plugin = "SLURM"\n[plugin_args]\nsbatch_args = ["-p short"]',
            'write two strings, "-p", "short"',
        ),
        (
            'plugin = "SLURM"\n[plugin_args]\nsbatch_args = ["--array=1-3"]',
            "--array is set by the plugin",
        ),
        (
            'plugin = "SLURM"\n[plugin_args]\nsbatch_args = ["-W"]',
            "--wait is set by the plugin",
        ),
        (
            'plugin = "SLURM"\n[plugin_args]\ngpu_args = ["-o", "x"]',
            "--output is set by the plugin",
        ),
        ('plugin = "SLURM"\n[plugin_args]\nmax_jobs = 0', "at least 1"),
        ('plugin = "SLURM"\n[plugin_args]\nmax_jobs = 1.5', "type int"),
        ('plugin = "SLURM"\n[plugin_args]\npoll_seconds = 0', "above 0"),
        ('plugin = "SLURM"\n[plugin_args]\ntime_minutes = 0', "above 0"),
        ('plugin = "SLURM"\n[plugin_args]\nmemory_extra_gb = -1', "at least 0"),
        ('plugin = "SLURM"\n[plugin_args]\ntemplate = "absent.sh"', "No such file"),
        ('plugin = "MultiProc"\n[plugin_args]\nmax_jobs = 2', "choose from memory_gb, n_procs"),
        ('plugin = "MultiProc"\n[plugin_args]\nn_procs = 0', "at least 1"),
        ('plugin = "SLURM"\n[plugin_args]\nn_procs = 2', "unknown key 'n_procs'"),
        ("plugin =", "is not valid TOML"),
    ],
)
def test_invalid_toml_plugin_files_are_rejected(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        read(tmp_path, text)
    assert says in str(refusal.value)


def read_yaml(tmp_path: Path, text: str) -> Plugin:
    path = tmp_path / "plugin.yml"
    path.write_text(text)
    return Plugin.from_file(path)


def test_yaml_plugin_files_of_nipype_are_read(tmp_path: Path) -> None:
    """The files are from fMRIPrep's tests and from the SLURM documentation of Nipype."""
    plugin = read_yaml(
        tmp_path,
        "plugin: LegacyMultiProc\nplugin_args:\n  maxtasksperchild: 1\n"
        "  raise_insufficient: false\n  n_procs: 3\n  memory_gb: 5\n",
    )
    assert (plugin.plugin, plugin.n_procs, plugin.memory_gb) == ("MultiProc", 3, 5.0)
    slurm = "plugin: SLURM\nplugin_args: {sbatch_args: '-p short --account lab', max_jobs: 4}\n"
    assert read_yaml(tmp_path, slurm) == Plugin(
        plugin="SLURM", sbatch_args=("-p", "short", "--account", "lab"), max_jobs=4
    )
    assert read_yaml(tmp_path, "plugin: SLURMGraph\nplugin_args:\n").is_cluster


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("plugin: [", "is not valid YAML"),
        ("- plugin", "the plugin file is empty"),
        ("plugin: SGE", "expected MultiProc or SLURM"),
        ("plugin: SLURM\nplugin_args: {sbatch_arg: x}", "did you mean 'sbatch_args'"),
        ("plugin: SLURM\nplugin_args: {on: x}", "unknown key True"),
        (
            "plugin: SLURM\nplugin_args:\n  sbatch_args: -p short --comment='x",
            "No closing quotation",
        ),
    ],
)
def test_invalid_yaml_plugin_files_are_rejected(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refusal:
        read_yaml(tmp_path, text)
    assert says in str(refusal.value)


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


def test_options_with_a_prefix_of_reserved_options_are_accepted(tmp_path: Path) -> None:
    text = (
        'plugin = "SLURM"\n[plugin_args]\nsbatch_args = ["--overcommit", "--exclusive", "-p",'
        ' "debug", "--export=NONE"]'
    )
    assert read(tmp_path, text).sbatch_args[0] == "--overcommit"


def test_a_missing_plugin_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.toml"):
        Plugin.from_file(tmp_path / "absent.toml")


def test_an_invalid_plugin_file_exits_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maker = BidsMaker(tmp_path / "bids")
    maker.subject()
    (tmp_path / "plugin.toml").write_text('plugin = "SLRUM"')
    line = [
        str(maker.root),
        str(tmp_path / "out"),
        "participant",
        "--skip-bids-validation",
        "--dry-run",
    ]
    assert (
        main([*line, "-w", str(tmp_path / "w"), "--use-plugin", str(tmp_path / "plugin.toml")])
        == 2
    )
    assert "did you mean 'SLURM'" in capsys.readouterr().err


def test_missing_slurm_commands_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin.toml").write_text('plugin = "SLURM"')
    line = [
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "participant",
        "--use-plugin",
        str(tmp_path / "plugin.toml"),
    ]
    settings = parse_settings(line).resolve(run_uuid="x")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [problem.why for problem in problems_of(check_directories, settings)] == [
        "the SLURM commands sbatch, squeue, scontrol, scancel were not found on the PATH"
    ]
