"""Scripts: what they hold, that they hold whatever a path holds, and what they leave when signals
come.
"""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slurmmaker import program, start, submission

from bids_sr.slurm.manage import print_scripts
from bids_sr.slurm.scripts import _script_of, check_words, sbatch_arguments, write_scripts
from bids_sr.slurm.submission import Job, Request, Site, load

ODD = "a b'c\"d$(e)`f`;&|<>*?[g]!#~%j\u00e9"
SITE = Site(partition="long", account="lab", qos="low", requeues=2)


def wait_until(path: Path, text: str) -> None:
    until = time.monotonic() + 10
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < until, f"{path} never held {text}"
        time.sleep(0.02)


def status(made: object, name: str) -> dict[str, object]:
    return dict(json.loads((made.folder / "status" / f"{name}.json").read_text()))  # type: ignore[attr-defined]


def test_the_head_of_an_array(tmp_path: Path) -> None:
    array = Job(
        name="array-2",
        tasks=(("sub-01",), ("sub-02",), ("sub-03",)),
        indices=(1, 3),
        at_once=2,
        request=Request(cpus=3, memory_mb=5120, minutes=1505, gpus=1),
    )
    made = submission(tmp_path, site=SITE, jobs=(array,))
    lines = _script_of(made, array).splitlines()
    wanted = {
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
    assert wanted <= {line.removeprefix("#SBATCH ") for line in lines}
    assert "    3.24G" in lines  # nine tenths, less .45 GB a processor


def test_the_group_job_has_no_tasks_and_waits_for_those_that_failed_too(tmp_path: Path) -> None:
    made = submission(tmp_path)
    assert made.group is not None
    text = _script_of(made, made.group)
    assert "--array" not in text.replace("--array --all", "")
    assert "--participant-label" not in text
    assert "    group\n" in text
    assert "--dependency=afterany:7:8" in sbatch_arguments(made, made.group, ["7", "8"])


def test_the_log_of_a_task_keeps_percent_signs_of_the_path(tmp_path: Path) -> None:
    made = submission(tmp_path / "50%j")
    assert (
        f"--output={tmp_path}/50%%j/out/logs/slurm/{made.id}/logs/array-1_%a.log"
        in sbatch_arguments(made, made.arrays[0])
    )


def test_a_container_sees_everything_where_it_is(tmp_path: Path) -> None:
    echo = program(tmp_path / "bin" / "apptainer", 'printf "%s\\n" "$@" >"$RECORD"')
    made = submission(
        tmp_path / "x y", site=Site(container="/images/bids sr.sif", binds=("/models/m",))
    )
    write_scripts(made, "")
    start(
        made.folder / "array-1.sbatch", 1, echo.parent, RECORD=str(tmp_path / "record")
    ).communicate(timeout=30)
    words = (tmp_path / "record").read_text().splitlines()
    root = tmp_path / "x y"
    assert words[:3] == ["run", "--cleanenv", "--no-home"]
    assert [words[at + 1] for at, word in enumerate(words) if word == "--bind"] == [
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
def test_shellcheck_finds_nothing(site: Site, tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    made = submission(tmp_path / ODD, site=site)
    scripts, lines = print_scripts(made, "", after=["3"])
    done = subprocess.run(
        ["shellcheck", *scripts, lines], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    scripts[0].write_text(scripts[0].read_text().replace('"$folder/status', "$folder/status"))
    assert (
        subprocess.run(["shellcheck", scripts[0]], capture_output=True, check=False).returncode
        == 1
    )


def test_shellcheck_finds_nothing_in_the_stand_in_of_the_examples() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    script = Path(__file__).parents[3] / "examples" / "gallery" / "stand_in_slurm.sh"
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["Cc", "Cs"]),
    min_size=1,
    max_size=20,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(names.filter(lambda name: name not in (".", "..") and len(name.encode()) < 100))
def test_paths_arrive_as_they_are(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root" / name
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    record = program(root / "pro gram", 'printf "%s\\0" "$@" >"$RECORD"')
    made = submission(root, site=Site(program=str(record)))
    assert check_words(made.site, [made.output_dir]) == []
    write_scripts(made, "")
    done = start(made.folder / "array-1.sbatch", 2, RECORD=str(tmp_path / "record"))
    out, _ = done.communicate(timeout=30)
    assert done.returncode == 0, out
    assert (tmp_path / "record").read_text().split("\0")[:-1] == [
        str(made.bids_dir),
        str(made.output_dir),
        "participant",
        "--config-file",
        str(made.folder / "settings.toml"),
        "-w",
        str(made.work_dir),
        "--nprocs",
        "2",
        "--mem",
        "2.76G",
        "--participant-label",
        "sub-02",
    ]
    assert load(made.folder / "submission.json") == made


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x7fb", "a\udcffb"])
def test_paths_that_slurm_cannot_take(name: str, tmp_path: Path) -> None:
    assert len(check_words(Site(), [tmp_path / name])) == 1


def test_words_that_are_no_names() -> None:
    wrong = check_words(
        Site(partition="a b", account="x;y", qos="ok", container="i"), [Path("/a:b"), Path("/a")]
    )
    assert [line.split(":")[0] for line in wrong] == ["--partition a b", "--account x;y", "/a"]


def test_each_of_a_batch_has_its_own_code(tmp_path: Path) -> None:
    stub = program(tmp_path / "stub", '[ "${!#}" != sub-01 ] || exit 2')
    made = submission(tmp_path, ("sub-01", "sub-02"), batch=2, site=Site(program=str(stub)))
    write_scripts(made, "")
    assert start(made.folder / "array-1.sbatch", 1).wait(30) == 1
    assert [
        (status(made, name)["state"], status(made, name)["exit_code"])
        for name in ("sub-01", "sub-02")
    ] == [
        ("failed", 2),
        ("done", 0),
    ]


def test_an_absent_program(tmp_path: Path) -> None:
    made = submission(tmp_path, site=Site(program=str(tmp_path / "nowhere")))
    write_scripts(made, "")
    assert start(made.folder / "array-1.sbatch", 1).wait(30) == 1
    assert status(made, "sub-01")["exit_code"] == 127


STOPPABLE = """
trap 'echo stopped >"$MARKS/stopped"; exit 130' TERM
touch "$MARKS/ready"
for _ in $(seq 200); do sleep 0.05; done
"""


@pytest.fixture
def running(tmp_path: Path) -> tuple[object, subprocess.Popen[str], Path]:
    """A task whose program runs until TERM comes, with a `scontrol` that keeps what it is told."""
    marks = tmp_path / "marks"
    marks.mkdir()
    program(tmp_path / "bin" / "scontrol", f'echo "$@" >>"{marks}/scontrol"')
    stub = program(tmp_path / "stub", STOPPABLE)
    made = submission(
        tmp_path, ("sub-01", "sub-02"), batch=2, site=Site(program=str(stub), requeues=1)
    )
    write_scripts(made, "")
    return (
        made,
        start(made.folder / "array-1.sbatch", 1, tmp_path / "bin", MARKS=str(marks)),
        marks,
    )


def test_the_time_limit_puts_a_task_back_into_the_queue(
    running: tuple[object, subprocess.Popen[str], Path], tmp_path: Path
) -> None:
    made, process, marks = running
    wait_until(marks / "ready", "")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 130
    assert (marks / "stopped").exists()
    assert (marks / "scontrol").read_text() == "requeue 7_1\n"
    assert [status(made, name)["state"] for name in ("sub-01", "sub-02")] == [
        "requeued",
        "requeued",
    ]
    # the last start that is allowed: it stops, and stays so
    (marks / "ready").unlink()
    script = made.folder / "array-1.sbatch"  # type: ignore[attr-defined]
    again = start(script, 1, tmp_path / "bin", MARKS=str(marks), SLURM_RESTART_COUNT="1")
    wait_until(marks / "ready", "")
    again.send_signal(signal.SIGUSR1)
    assert again.wait(30) == 1
    assert (marks / "scontrol").read_text() == "requeue 7_1\n"
    assert status(made, "sub-01") | {"started": 0, "ended": 0, "host": ""} == {
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
    assert status(made, "sub-02")["exit_code"] is None


def test_a_cancellation_stops_without_a_requeue(
    running: tuple[object, subprocess.Popen[str], Path],
) -> None:
    made, process, marks = running
    wait_until(marks / "ready", "")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 1
    assert not (marks / "scontrol").exists()
    assert (status(made, "sub-01")["stopped"], status(made, "sub-01")["exit_code"]) == (
        "cancel",
        130,
    )


def test_who_is_done_is_not_done_again(tmp_path: Path) -> None:
    stub = program(tmp_path / "stub", 'echo "${!#}" >>"$RECORD"')
    made = submission(tmp_path, ("sub-01", "sub-02"), batch=2, site=Site(program=str(stub)))
    write_scripts(made, "")
    for _ in range(2):
        assert (
            start(made.folder / "array-1.sbatch", 1, RECORD=str(tmp_path / "record")).wait(30) == 0
        )
    assert (tmp_path / "record").read_text() == "sub-01\nsub-02\n"


def test_the_group_job_keeps_what_the_queue_says(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "squeue", "echo '7_1|OUT_OF_MEMORY|OutOfMemory'")
    stub = program(tmp_path / "stub", "exit 0")
    made = submission(tmp_path, site=Site(program=str(stub)))
    write_scripts(made, "")
    assert start(made.folder / "group.sbatch", 0, tmp_path / "bin").wait(30) == 0
    assert (made.folder / "ended.txt").read_text() == "7_1|OUT_OF_MEMORY|OutOfMemory\n"
    assert status(made, "group")["state"] == "done"
