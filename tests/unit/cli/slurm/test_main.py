"""Test ``bids-sr-slurm``: errors before submission, what is submitted again, and exit codes."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker
from data.fmriprep import FmriprepMaker
from graphmaker import finish_trainings
from slurmmaker import program

from bids_sr.cli.parser import parse_settings
from bids_sr.cli.slurm import main as slurm_main
from bids_sr.version import __version__
from bids_sr.workflows.call_checks import check

Call = Callable[..., int]
METHOD = ("--sr-method", "bspline")


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    maker = BidsMaker(tmp_path / "bids")
    for label in ("01", "02", "03"):
        maker.subject(label)
    return maker


@pytest.fixture
def call(maker: BidsMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return a function that submits with replacements of the SLURM programs.

    Its keyword `program` contains options of bids-sr.
    """
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    program(
        tmp_path / "bin" / "sbatch",
        f'echo "$@" >>"{tmp_path}/sbatch"; grep -c . "{tmp_path}/sbatch"',
    )
    program(tmp_path / "bin" / "scancel", f'echo "$@" >>"{tmp_path}/scancel"')
    program(tmp_path / "bin" / "scontrol", "echo 'MaxArraySize = 1001'")

    def _call(*options: str, program: tuple[str, ...] = METHOD) -> int:
        fixed = ["--skip-bids-validation", "-w", str(tmp_path / "work")]
        folders = [str(maker.root), str(tmp_path / "out")]
        return slurm_main.main([*folders, *options, "--", *fixed, *program])

    return _call


def submissions(tmp_path: Path) -> list[Path]:
    """Return the folders of all submissions, oldest first."""
    return sorted(
        (path.parent for path in (tmp_path / "out/logs/slurm").glob("*/settings.toml")),
        key=lambda folder: (folder / "settings.toml").stat().st_mtime_ns,
    )


def submitted(tmp_path: Path) -> list[list[str]]:
    """Return the participants of each submission."""
    return [(folder / "participants.txt").read_text().split() for folder in submissions(tmp_path)]


def finish(tmp_path: Path, *labels: str) -> None:
    """Record participants as done."""
    for label in labels:
        (tmp_path / "out/logs/slurm/done" / label).touch()


def untouched(tmp_path: Path) -> bool:
    return not (tmp_path / "out").exists() and not (tmp_path / "sbatch").exists()


def test_the_same_command_submits_what_is_not_done(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call() == 0
    finish(tmp_path, "sub-01", "sub-03")
    capsys.readouterr()
    assert call() == 0
    assert "done: 2 participants" in capsys.readouterr().out
    assert submitted(tmp_path) == [["sub-01", "sub-02", "sub-03"], ["sub-02"]]
    calls = (tmp_path / "sbatch").read_text().splitlines()
    assert [re.findall(r"--dependency=\S+", line) for line in calls] == [
        [],
        ["--dependency=afterany:1"],
        [],
        ["--dependency=afterany:3"],
    ]
    finish(tmp_path, "sub-02")
    assert call() == 0
    assert submitted(tmp_path)[2:] == [[]]
    assert not (submissions(tmp_path)[2] / "array.sbatch").exists()
    assert "--dependency" not in (tmp_path / "sbatch").read_text().splitlines()[4]
    assert call("--no-group") == 0
    assert len(submissions(tmp_path)) == 3
    (tmp_path / "out/logs/slurm/done/sub-03").unlink()
    assert call("--no-group") == 0
    assert submitted(tmp_path)[3:] == [["sub-03"]]


def test_the_first_task_trains_the_networks_that_the_others_share(
    call: Call, maker: BidsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("01", "02", "03"):
        for resolution, mm in (("fine", 3.0), ("coarse", 6.0)):
            maker.image(f"sub-{label}_acq-{resolution}_T2w.nii.gz", "anat", (mm, mm, mm))
    split = ("--sr-target", "anat", "--recipe", "paper", "--set", "anat.split=40,11,10")
    assert call(program=split) == 0
    calls = (tmp_path / "sbatch").read_text().splitlines()
    assert [re.findall(r"--dependency=\S+|\w+\.sbatch", line) for line in calls] == [
        ["training.sbatch"],
        ["--dependency=afterok:1", "array.sbatch"],
        ["--dependency=afterany:1:2", "group.sbatch"],
    ]
    assert "--kill-on-invalid-dep=yes" in calls[1]
    (folder,) = submissions(tmp_path)
    tasks, minutes = {}, {}
    for name in ("training", "array"):
        script = (folder / f"{name}.sbatch").read_text()
        tasks[name] = re.findall(r"--array=(\S+)", script)
        days, hours, mins = map(int, re.findall(r"--time=(\d+)-(\d+):(\d+)", script)[0])
        minutes[name] = (24 * days + hours) * 60 + mins
    assert tasks == {"training": ["1-1"], "array": ["2-3"]}
    assert minutes["training"] > minutes["array"]


def test_a_task_only_trains_networks_that_the_working_directory_lacks(
    call: Call, maker: BidsMaker, tmp_path: Path
) -> None:
    """A participant without a second resolution needs no networks."""
    maker.subject("04")
    for label in ("01", "02", "03", "04"):
        maker.image(f"sub-{label}_acq-fine_T2w.nii.gz", "anat", (3.0, 3.0, 3.0))
        if label != "01":
            maker.image(f"sub-{label}_acq-coarse_T2w.nii.gz", "anat", (6.0, 6.0, 6.0))
    split = ("--sr-target", "anat", "--recipe", "paper", "--set", "anat.split=40,11,10")
    split += ("--set", "anat.control=true")
    assert call(program=split) == 0
    assert submitted(tmp_path) == [["sub-02", "sub-01", "sub-03", "sub-04"]]
    finish(tmp_path, "sub-01", "sub-02", "sub-03")
    folders = [str(maker.root), str(tmp_path / "out"), "participant", "-w", str(tmp_path / "work")]
    settings = parse_settings([*folders, "--skip-bids-validation", *split]).resolve(run_uuid="")
    finish_trainings(settings, check(settings))
    assert call("--no-group", program=split) == 0
    assert submitted(tmp_path)[1:] == [["sub-04"]]
    first, second = submissions(tmp_path)
    assert not (second / "training.sbatch").exists()
    requests = [
        re.findall(r"--(?:time|mem)=\S+", (folder / "array.sbatch").read_text())
        for folder in (first, second)
    ]
    assert requests[0] == requests[1]


def test_a_participant_more_or_less_does_not_submit_the_others_again(
    call: Call, maker: BidsMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The finished networks stay, and a submission keeps the split."""

    def scans(label: str) -> None:
        maker.image(f"sub-{label}_acq-fine_T2w.nii.gz", "anat", (3.0, 3.0, 3.0))
        maker.image(f"sub-{label}_acq-coarse_T2w.nii.gz", "anat", (6.0, 6.0, 6.0))

    for label in ("01", "02", "03"):
        scans(label)
    split = ("--sr-target", "anat", "--set", "anat.split=40,11,10")
    assert call("--print-only", program=split) == 0
    assert not (tmp_path / "work").exists()
    assert call(program=split) == 0
    (table,) = (tmp_path / "work").iterdir()
    sets = {
        name: re.findall(rf"sub-(\d+)\t{name}", table.read_text())
        for name in ("training", "validation")
    }
    finish(tmp_path, "sub-01", "sub-02", "sub-03")
    folder = tmp_path / "work/bids_sr_wf/shared_networks_wf/attunet/train_on_scans"
    folder.mkdir(parents=True)
    (tmp_path / "work/bids_sr_wf/version.txt").write_text(__version__)
    (folder / "attunet.safetensors").touch()
    card = {"card_version": 1, "method": "attunet", "recipe": "fast", "factor": [1.0] * 3}
    card |= {"contrast": "T2w", "orientation": "I-S", "resolution": {"lowres_mm": [3.0] * 3}}
    card |= {"weights_sha256": 64 * "0", "seed": 0, "anat_align": "rigid", "split": sets}
    (folder / "attunet.json").write_text(json.dumps(card))
    shutil.rmtree(maker.root / f"sub-{sets['validation'][0]}")
    maker.subject("04")
    scans("04")
    capsys.readouterr()
    assert call("--no-group", program=split) == 0
    assert submitted(tmp_path)[2:] == [["sub-04"]]
    assert not (submissions(tmp_path)[2] / "training.sbatch").exists()
    assert f"sub-{sets['validation'][0]} is missing" in " ".join(capsys.readouterr().out.split())


def test_a_controller_that_does_not_answer_is_an_error(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin" / "scontrol", "exit 1")
    assert call() == 2
    assert "scontrol" in capsys.readouterr().err
    assert not submissions(tmp_path)


def test_a_rejected_job_leaves_no_submission(call: Call, tmp_path: Path) -> None:
    program(tmp_path / "bin" / "sbatch", '[[ "$*" == *array.sbatch ]] || exit 1; echo 5')
    assert call() == 2
    assert (tmp_path / "scancel").read_text().split() == ["5"]
    assert submissions(tmp_path) == []


def test_print_only_shows_what_would_be_submitted(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--print-only", "--at-once", "1", "--partition", "long", "--time", "2:00:00")
    assert call(*options, program=(*METHOD, "--mem", "6G")) == 0
    text = capsys.readouterr().out
    for line in ("array=1-3%1", "partition=long", "time=0-02:00:00", "mem=8735M"):
        assert f"#SBATCH --{line}\n" in text
    assert "sbatch --dependency=afterany:$array " in text
    assert not (tmp_path / "sbatch").exists()


def test_a_task_that_trains_on_a_gpu_requires_a_time_or_a_limit(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = ("--sr-method", "tv", "--recipe", "paper", "--set", "tv.epochs=100000")
    assert call("--gpus", "1", program=training) == 2
    assert "--time" in capsys.readouterr().err
    assert call(program=(*training, "--set", "resources.device=cuda")) == 2
    assert not submissions(tmp_path)
    for options, given in (
        (("--gpus", "1", "--time", "9:00:00"), training),
        (("--gpus", "1"), (*training, "--max-train-minutes", "30")),
        (("--gpus", "1"), METHOD),
    ):
        assert call(*options, "--print-only", program=given) == 0
        assert "#SBATCH --gres=gpu:1\n" in capsys.readouterr().out
    assert call("--print-only", program=training) == 0
    text = capsys.readouterr().out
    days = re.search(r"time=(\d+)-", text)
    assert days
    assert int(days[1]) > 3
    assert "--omp-nthreads 4" in text


def test_jobs_inherit_the_account_but_no_requests(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed commands, in a shell with these variables, are the same as the submission."""
    for name in ("TIMELIMIT", "MEM_PER_NODE", "ARRAY_INX", "NO_REQUEUE", "PARTITION"):
        monkeypatch.setenv(f"SBATCH_{name}", "1")
    monkeypatch.setenv("SBATCH_ACCOUNT", "lab")
    monkeypatch.setenv("SBATCH_QOS", "")
    program(tmp_path / "bin" / "sbatch", f'env | grep ^SBATCH_ >>"{tmp_path}/sbatch"; echo 1')
    assert call("--partition", "long") == 0
    assert (tmp_path / "sbatch").read_text().splitlines() == ["SBATCH_ACCOUNT=lab"] * 2
    assert re.findall(r"SBATCH_ACCOUNT=\S+", capsys.readouterr().out) == ["SBATCH_ACCOUNT=lab"]
    assert call("--partition", "long", "--print-only") == 0
    commands = capsys.readouterr().out.rpartition("run:\n")[2]
    subprocess.run(["bash", "-c", commands], check=True, capture_output=True)
    assert (tmp_path / "sbatch").read_text().splitlines() == ["SBATCH_ACCOUNT=lab"] * 4


def test_processors_and_selection_reach_the_tasks(call: Call, tmp_path: Path) -> None:
    labels = ("--participant-label", "01", "03")
    assert call(program=(*METHOD, "--nprocs", "3", *labels)) == 0
    (folder,) = submissions(tmp_path)
    assert submitted(tmp_path) == [["sub-01", "sub-03"]]
    assert "#SBATCH --cpus-per-task=3\n" in (folder / "array.sbatch").read_text()
    settings = (folder / "settings.toml").read_text()
    assert "nprocs = 3" in settings
    assert 'participant_label = ["01", "03"]' in settings


def test_a_container_binds_the_files_and_folders_of_all_options(
    call: Call, maker: BidsMaker, tmp_path: Path
) -> None:
    (image := tmp_path / "image.sif").touch()
    derivatives = tmp_path / "prep"
    FmriprepMaker(derivatives).run(maker.bold("sub-01_task-tap"))
    (models := tmp_path / "models").mkdir()
    region = tmp_path / "roi.nii.gz"
    maker.t1w(data=np.ones((16, 16, 8), "int16")).rename(region)
    maker.t1w()
    options = ("-d", f"prep={derivatives}", "--roi", str(region))
    options += ("--set", f"superres.model_dir={models}", "--participant-label", "01")
    assert call("--print-only", "--container", str(image), program=(*METHOD, *options)) == 0
    (folder,) = submissions(tmp_path)
    script = (folder / "array.sbatch").read_text()
    for path in (derivatives, region, models):
        assert f"{path}:{path}:ro" in script


def test_all_problems_are_listed_at_once(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plugin.toml").write_text('plugin = "SLURM"\n')
    wrong = ("--participant-label", "01", "77", "--boilerplate-only")
    wrong += ("--use-plugin", str(tmp_path / "plugin.toml"))
    options = ("--partition", "a b", "--setup", "nowhere")
    assert call(*options, program=(*METHOD, *wrong)) == 2
    error = capsys.readouterr().err
    for part in ("--partition a b", "--setup nowhere", "77", "--boilerplate-only", "--use-plugin"):
        assert part in error, part
    assert untouched(tmp_path)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("--time soon -- --sr-method bspline", "--time soon"),
        ("--batch 0 -- --sr-method bspline", "--batch: 0"),
        ("--container nowhere.sif -- --sr-method bspline", "--container nowhere.sif"),
        ("--at-onc 1 -- --sr-method bspline", "'--at-once'"),
        ("--gpus -1 -- --sr-method bspline", "--gpus: -1"),
        ("--setup= -- --sr-method bspline", "--setup"),
        ("--mem 8 -- --sr-method bspline", " -- "),
        ("-- --sr-method magic", "magic"),
        ("-- --sr-method bspline --mem 8000", "8000M or 8000G"),
    ],
)
def test_invalid_options_are_rejected(
    line: str, part: str, call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, _, program_options = f" {line}".partition(" -- ")
    assert call(*own.split(), program=tuple(program_options.split())) == 2
    assert part in f"{capsys.readouterr().err} "
    assert untouched(tmp_path)


def test_more_tasks_than_an_array_allows_are_rejected(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin" / "scontrol", "echo 'MaxArraySize = 3'")
    assert call() == 2
    assert "--batch 2" in capsys.readouterr().err
    assert untouched(tmp_path)
    assert call("--batch", "2") == 0


def test_a_missing_slurm_is_rejected_unless_print_only(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert call() == 2
    assert "--print-only" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("settings.toml"))
    assert call("--print-only") == 0


def test_a_dry_run_writes_nothing(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(program=(*METHOD, "--dry-run")) == 0
    text = capsys.readouterr().out
    assert "3 participants in 3 tasks" in text
    assert "4 processors" in text
    assert untouched(tmp_path)


def test_a_dry_run_without_a_controller_prints_a_note(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin" / "scontrol", "echo 'Unable to contact slurm controller' >&2; exit 1")
    capsys.readouterr()
    assert call("--batch", "2", program=(*METHOD, "--dry-run")) == 0
    text = capsys.readouterr().out
    assert "note: " in text
    assert "scontrol failed with exit code 1: Unable to contact slurm controller" in text
    assert "3 participants in 2 tasks" in text
    assert untouched(tmp_path)


def test_a_dry_run_without_slurm_needs_no_note(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert call(program=(*METHOD, "--dry-run")) == 0
    assert "SLURM" not in capsys.readouterr().out


def test_a_container_on_a_server_is_not_a_path(call: Call, tmp_path: Path) -> None:
    """Colons are allowed in its name, and it is not searched on the disk."""
    container = "docker://example/bids-sr:1.0"
    assert call("--container", container, program=(*METHOD, "--dry-run")) == 0
    assert call("--container", str(tmp_path / "a:b.sif"), program=(*METHOD, "--dry-run")) == 2
