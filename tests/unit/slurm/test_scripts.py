"""Test the job scripts: their content, unusual paths, and status files after signals."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from slurmmaker import program, start, submission

from bids_sr.slurm.manage import print_scripts
from bids_sr.slurm.scripts import (
    _render_script,
    find_invalid_names,
    make_sbatch_arguments,
    write_scripts,
)
from bids_sr.slurm.submission import ArrayJob, Request, Site, load

ODD = "a b'c\"d$(e)`f`;&|<>*?[g]!#~%j\u00e9"
SITE = Site(partition="long", account="lab", qos="low", requeues=2)


def wait_until(path: Path, text: str) -> None:
    until = time.monotonic() + 10
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < until, f"{path} never held {text}"
        time.sleep(0.02)


def status(sent: object, name: str) -> dict[str, object]:
    return dict(json.loads((sent.folder / "status" / f"{name}.json").read_text()))  # type: ignore[attr-defined]


def test_the_header_of_an_array_script(tmp_path: Path) -> None:
    array = ArrayJob(
        name="array-2",
        tasks=(("sub-01",), ("sub-02",), ("sub-03",)),
        indices=(1, 3),
        at_once=2,
        request=Request(cpus=3, memory_mb=5120, minutes=1505, gpus=1),
    )
    sent = submission(tmp_path, site=SITE, jobs=(array,))
    lines = _render_script(sent, array).splitlines()
    expected = {
        "--job-name=bids-sr-20260101-000000-abcdef",
        "--cpus-per-task=3",
        "--mem=5120M",
        "--time=1-01:05:00",
        "--requeue",
        "--gres=gpu:1",
        "--partition=long",
        "--account=lab",
        "--qos=low",
        "--array=1,3%2",
        "--signal=B:USR1@300",
    }
    assert expected <= {line.removeprefix("#SBATCH ") for line in lines}
    assert "    3.24G" in lines  # GB: nine tenths of the request, less 0.45 per processor


def test_the_group_job_has_no_tasks_and_also_waits_for_failed_tasks(tmp_path: Path) -> None:
    sent = submission(tmp_path)
    assert sent.group is not None
    text = _render_script(sent, sent.group)
    assert "--array" not in text.replace("--array --all", "")
    assert "--participant-label" not in text
    assert "    group\n" in text
    assert "--dependency=afterany:7:8" in make_sbatch_arguments(sent, sent.group, ["7", "8"])


def test_percent_signs_in_the_path_of_the_log_are_escaped(tmp_path: Path) -> None:
    sent = submission(tmp_path / "50%j")
    assert (
        f"--output={tmp_path}/50%%j/out/logs/slurm/{sent.id}/logs/array-1_%a.log"
        in make_sbatch_arguments(sent, sent.arrays[0])
    )


def test_a_container_binds_every_folder_at_its_own_path(tmp_path: Path) -> None:
    echo = program(tmp_path / "bin" / "apptainer", 'printf "%s\\n" "$@" >"$RECORD"')
    sent = submission(
        tmp_path / "x y", site=Site(container="/images/bids sr.sif", binds=("/models/m",))
    )
    write_scripts(sent, "")
    start(
        sent.folder / "array-1.sbatch", 1, echo.parent, RECORD=str(tmp_path / "record")
    ).communicate(timeout=30)
    words = (tmp_path / "record").read_text().splitlines()
    root = tmp_path / "x y"
    assert words[:3] == ["run", "--cleanenv", "--no-home"]
    assert [words[position + 1] for position, word in enumerate(words) if word == "--bind"] == [
        f"{root}/data:{root}/data:ro",
        f"{root}/out:{root}/out",
        f"{root}/work:{root}/work",
        "/models/m:/models/m:ro",
    ]
    assert words[words.index("/images/bids sr.sif") + 1 :][:3] == [
        f"{root}/data",
        f"{root}/out",
        "participant",
    ]
    assert words[-2:] == ["--participant-label", "sub-01"]


@pytest.mark.parametrize(
    "site", [Site(), Site(container="/i.sif", setup="/s et up", partition="p")]
)
def test_shellcheck_reports_nothing(site: Site, tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    sent = submission(tmp_path / ODD, site=site)
    scripts, lines = print_scripts(sent, "", open_jobs=["3"])
    result = subprocess.run(
        ["shellcheck", *scripts, lines], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
    scripts[0].write_text(scripts[0].read_text().replace('"$folder/status', "$folder/status"))
    assert (
        subprocess.run(["shellcheck", scripts[0]], capture_output=True, check=False).returncode
        == 1
    )


def test_shellcheck_reports_nothing_for_the_mock_slurm_of_the_gallery() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    script = Path(__file__).parents[3] / "examples" / "gallery" / "stand_in_slurm.sh"
    result = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


folder_names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["Cc", "Cs"]),
    min_size=1,
    max_size=20,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(folder_names.filter(lambda name: name not in (".", "..") and len(name.encode()) < 100))
def test_unusual_paths_reach_the_program_unchanged(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root" / name
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    record = program(root / "pro gram", 'printf "%s\\0" "$@" >"$RECORD"')
    sent = submission(root, site=Site(program=str(record)))
    assert find_invalid_names(sent.site, [sent.output_dir]) == []
    write_scripts(sent, "")
    process = start(sent.folder / "array-1.sbatch", 2, RECORD=str(tmp_path / "record"))
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0, out
    assert (tmp_path / "record").read_text().split("\0")[:-1] == [
        str(sent.bids_dir),
        str(sent.output_dir),
        "participant",
        "--config-file",
        str(sent.folder / "settings.toml"),
        "-w",
        str(sent.work_dir),
        "--nprocs",
        "2",
        "--mem",
        "2.76G",
        "--participant-label",
        "sub-02",
    ]
    assert load(sent.folder / "submission.json") == sent


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x7fb", "a\udcffb"])
def test_paths_that_slurm_cannot_handle_are_rejected(name: str, tmp_path: Path) -> None:
    assert len(find_invalid_names(Site(), [tmp_path / name])) == 1


def test_invalid_words_are_listed() -> None:
    wrong = find_invalid_names(
        Site(partition="a b", account="x;y", qos="ok", container="i"), [Path("/a:b"), Path("/a")]
    )
    assert [line.split(":")[0] for line in wrong] == ["--partition a b", "--account x;y", "/a"]


def test_each_participant_of_a_batch_has_its_own_exit_code(tmp_path: Path) -> None:
    stub = program(tmp_path / "stub", '[ "${!#}" != sub-01 ] || exit 2')
    sent = submission(tmp_path, ("sub-01", "sub-02"), batch=2, site=Site(program=str(stub)))
    write_scripts(sent, "")
    assert start(sent.folder / "array-1.sbatch", 1).wait(30) == 1
    assert [
        (status(sent, name)["state"], status(sent, name)["exit_code"])
        for name in ("sub-01", "sub-02")
    ] == [
        ("failed", 2),
        ("done", 0),
    ]


def test_a_missing_program_has_exit_code_127(tmp_path: Path) -> None:
    sent = submission(tmp_path, site=Site(program=str(tmp_path / "nowhere")))
    write_scripts(sent, "")
    assert start(sent.folder / "array-1.sbatch", 1).wait(30) == 1
    assert status(sent, "sub-01")["exit_code"] == 127


STOPPABLE = """
trap 'echo stopped >"$MARKS/stopped"; exit 130' TERM
touch "$MARKS/ready"
for _ in $(seq 200); do sleep 0.05; done
"""


@pytest.fixture
def running_task(tmp_path: Path) -> tuple[object, subprocess.Popen[str], Path]:
    """Start a task whose program runs until TERM, with a `scontrol` that records its arguments."""
    marks = tmp_path / "marks"
    marks.mkdir()
    program(tmp_path / "bin" / "scontrol", f'echo "$@" >>"{marks}/scontrol"')
    stub = program(tmp_path / "stub", STOPPABLE)
    sent = submission(
        tmp_path, ("sub-01", "sub-02"), batch=2, site=Site(program=str(stub), requeues=1)
    )
    write_scripts(sent, "")
    return (
        sent,
        start(sent.folder / "array-1.sbatch", 1, tmp_path / "bin", MARKS=str(marks)),
        marks,
    )


def test_the_time_limit_requeues_a_task(
    running_task: tuple[object, subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    sent, process, marks = running_task
    wait_until(marks / "ready", "")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 130
    assert (marks / "stopped").exists()
    assert (marks / "scontrol").read_text() == "requeue 7_1\n"
    assert [status(sent, name)["state"] for name in ("sub-01", "sub-02")] == [
        "requeued",
        "requeued",
    ]
    # No further restart is allowed, so the task stops for good.
    (marks / "ready").unlink()
    script = sent.folder / "array-1.sbatch"  # type: ignore[attr-defined]
    second_process = start(script, 1, tmp_path / "bin", MARKS=str(marks), SLURM_RESTART_COUNT="1")
    wait_until(marks / "ready", "")
    second_process.send_signal(signal.SIGUSR1)
    assert second_process.wait(30) == 1
    assert (marks / "scontrol").read_text() == "requeue 7_1\n"
    assert status(sent, "sub-01") | {"started": 0, "ended": 0, "host": ""} == {
        "participant": "sub-01",
        "state": "failed",
        "exit_code": 130,
        "oom_kills": 0,
        "stopped": "limit",
        "restarts": 1,
        "job": "7_1",
        "host": "",
        "started": 0,
        "ended": 0,
    }
    assert status(sent, "sub-02")["exit_code"] is None


def test_a_cancellation_stops_without_a_requeue(
    running_task: tuple[object, subprocess.Popen[str], Path],
) -> None:
    sent, process, marks = running_task
    wait_until(marks / "ready", "")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 1
    assert not (marks / "scontrol").exists()
    assert (status(sent, "sub-01")["stopped"], status(sent, "sub-01")["exit_code"]) == (
        "cancel",
        130,
    )


def test_finished_participants_are_not_processed_again(tmp_path: Path) -> None:
    stub = program(tmp_path / "stub", 'echo "${!#}" >>"$RECORD"')
    sent = submission(tmp_path, ("sub-01", "sub-02"), batch=2, site=Site(program=str(stub)))
    write_scripts(sent, "")
    for _ in range(2):
        assert (
            start(sent.folder / "array-1.sbatch", 1, RECORD=str(tmp_path / "record")).wait(30) == 0
        )
    assert (tmp_path / "record").read_text() == "sub-01\nsub-02\n"


def test_the_group_job_records_the_queue(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "squeue", "echo '7_1|OUT_OF_MEMORY|OutOfMemory'")
    stub = program(tmp_path / "stub", "exit 0")
    sent = submission(tmp_path, site=Site(program=str(stub)))
    write_scripts(sent, "")
    assert start(sent.folder / "group.sbatch", 0, tmp_path / "bin").wait(30) == 0
    assert (sent.folder / "ended.txt").read_text() == "7_1|OUT_OF_MEMORY|OutOfMemory\n"
    assert status(sent, "group")["state"] == "done"
