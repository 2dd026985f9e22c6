"""Test the job scripts: their content, unusual paths, and records of what is done."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from slurmmaker import program, start, submission

from bids_sr.slurm.records import find_records_dir, is_done
from bids_sr.slurm.scripts import (
    find_invalid_names,
    make_sbatch_arguments,
    write_scripts,
    write_submit_script,
)
from bids_sr.slurm.submission import ArrayJob, Request, Site, Submission

ODD = "a b'c\"d$(e)`f`;&|<>*?[g]!#~%j\u00e9"
BOTH = (("sub-01", "sub-02"),)


def wait_until(path: Path) -> None:
    until = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < until, f"{path} was not written"
        time.sleep(0.02)


def done(sent: Submission) -> list[str]:
    """Return the participants and the group level that are recorded as done."""
    folder = find_records_dir(sent.output_dir)
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_the_header_of_an_array_script(tmp_path: Path) -> None:
    array = ArrayJob(
        tasks=(("sub-01",), ("sub-02",), ("sub-03",)),
        at_most=2,
        request=Request(cpus=3, memory_mb=5120, minutes=1505, gpus=1),
    )
    site = Site(partition="long", account="lab", qos="low")
    scripts = write_scripts(submission(tmp_path, site=site, array=array))
    assert [script.name for script in scripts] == ["array.sbatch", "group.sbatch"]
    lines = scripts[0].read_text().splitlines()
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
        "--array=1-3%2",
    }
    assert expected <= {line.removeprefix("#SBATCH ") for line in lines}
    assert "    3.24G" in lines  # GB: nine tenths of the request, less 0.45 per processor


def test_the_group_job_has_no_tasks_and_also_waits_for_failed_tasks(tmp_path: Path) -> None:
    (script,) = write_scripts(submission(tmp_path, array=None))
    text = script.read_text()
    assert "--array" not in text
    assert "--participant-label" not in text
    assert "    group\n" in text
    assert "--dependency=afterany:7:8" in make_sbatch_arguments(script, ["7", "8"])


def test_percent_signs_in_the_path_of_the_log_are_escaped(tmp_path: Path) -> None:
    sent = submission(tmp_path / "50%j")
    assert (
        f"--output={tmp_path}/50%%j/out/logs/slurm/{sent.id}/logs/task_%a.log"
        in make_sbatch_arguments(sent.folder / "array.sbatch")
    )


def test_the_shell_script_submits_the_group_job_after_all_jobs(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "sbatch", f'echo "$@" >>"{tmp_path}/calls"; echo "11;cluster"')
    script = write_submit_script(write_scripts(submission(tmp_path)), ["3"])
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["bash", script], env={**os.environ, "PATH": path}, check=True)
    array, group = (tmp_path / "calls").read_text().splitlines()
    assert array.endswith("/array.sbatch")
    assert group.startswith("--dependency=afterany:3:11 ")


def test_a_container_binds_every_folder_at_its_own_path(tmp_path: Path) -> None:
    echo = program(tmp_path / "bin" / "apptainer", 'printf "%s\\n" "$@" >"$RECORD"')
    sent = submission(
        tmp_path / "x y", site=Site(container="/images/bids sr.sif"), binds=("/models/m",)
    )
    write_scripts(sent)
    start(
        sent.folder / "array.sbatch", 1, echo.parent, RECORD=str(tmp_path / "record")
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
    scripts = write_scripts(sent)
    lines = write_submit_script(scripts, ["3"])
    result = subprocess.run(
        ["shellcheck", *scripts, lines], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
    scripts[0].write_text(scripts[0].read_text().replace('"$records/$label"', "$records/$label"))
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
    sent = submission(root, program=str(record))
    assert find_invalid_names(sent.site, [sent.output_dir]) == []
    write_scripts(sent)
    process = start(sent.folder / "array.sbatch", 2, RECORD=str(tmp_path / "record"))
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
    assert done(sent) == ["sub-02"]


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x7fb", "a\udcffb"])
def test_paths_that_slurm_cannot_handle_are_rejected(name: str, tmp_path: Path) -> None:
    assert len(find_invalid_names(Site(), [tmp_path / name])) == 1


def test_invalid_words_are_listed() -> None:
    wrong = find_invalid_names(
        Site(partition="a b", account="x;y", qos="ok", container="i"), [Path("/a:b"), Path("/a")]
    )
    assert [line.split(":")[0] for line in wrong] == ["--partition a b", "--account x;y", "/a"]


def test_a_failed_participant_is_not_recorded_and_others_are(tmp_path: Path) -> None:
    stub = program(tmp_path / "stub", '[ "${!#}" != sub-01 ] || exit 2')
    sent = submission(tmp_path, BOTH, program=str(stub))
    write_scripts(sent)
    (sent.output_dir / "sub-02").mkdir()
    assert start(sent.folder / "array.sbatch").wait(30) == 1
    assert done(sent) == ["sub-02"]
    assert is_done(sent.output_dir, "sub-02", "participants")


def test_a_missing_program_is_a_failure(tmp_path: Path) -> None:
    sent = submission(tmp_path, program=str(tmp_path / "nowhere"))
    write_scripts(sent)
    assert start(sent.folder / "array.sbatch").wait(30) == 1
    assert done(sent) == []


def test_term_stops_the_program_and_the_task(tmp_path: Path) -> None:
    """SLURM sends TERM to all processes of a job, at its time limit and with a cancellation."""
    body = f"""
trap 'echo stopped >"{tmp_path}/stopped"; exit 130' TERM
touch "{tmp_path}/ready-${{!#}}"
for _ in $(seq 200); do sleep 0.05; done
"""
    sent = submission(tmp_path, BOTH, program=str(program(tmp_path / "stub", body)))
    write_scripts(sent)
    process = start(sent.folder / "array.sbatch")
    wait_until(tmp_path / "ready-sub-01")
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(30) == 1
    assert (tmp_path / "stopped").exists()
    assert not (tmp_path / "ready-sub-02").exists()
    assert done(sent) == []


def test_a_requeued_task_does_not_repeat_finished_participants(tmp_path: Path) -> None:
    stub = program(tmp_path / "stub", 'echo "${!#}" >>"$RECORD"')
    sent = submission(tmp_path, BOTH, program=str(stub))
    write_scripts(sent)
    for _ in range(2):
        task = start(sent.folder / "array.sbatch", RECORD=str(tmp_path / "record"))
        assert task.wait(30) == 0
    assert (tmp_path / "record").read_text() == "sub-01\nsub-02\n"


def test_a_new_submission_removes_the_records_of_its_participants(tmp_path: Path) -> None:
    stub = program(tmp_path / "stub", "exit 0")
    sent = submission(tmp_path, BOTH, program=str(stub))
    write_scripts(sent)
    assert start(sent.folder / "array.sbatch").wait(30) == 0
    write_scripts(submission(tmp_path, (("sub-02",),), id="later"))
    assert done(sent) == ["sub-01"]


@pytest.mark.parametrize(
    ("body", "code", "records"),
    [
        ("exit 0", 0, ["group", "sub-02"]),
        ("exit 1", 1, ["sub-02"]),
        # a participant that finishes meanwhile is not part of the results
        ('[ "$3" = participant ] || bash array.sbatch', 0, ["sub-01", "sub-02"]),
    ],
)
def test_the_group_level_is_recorded_if_it_used_all_results(
    body: str, code: int, records: list[str], tmp_path: Path
) -> None:
    sent = submission(tmp_path)
    sent = submission(
        tmp_path, program=str(program(tmp_path / "stub", f'cd "{sent.folder}" || exit; {body}'))
    )
    write_scripts(sent)
    (find_records_dir(sent.output_dir) / "sub-02").write_text("participants\n")
    assert start(sent.folder / "group.sbatch").wait(30) == code
    assert done(sent) == records


def test_a_participant_that_is_done_again_outdates_the_group_level(tmp_path: Path) -> None:
    sent = submission(tmp_path, program=str(program(tmp_path / "stub", "exit 0")))
    write_scripts(sent)
    assert start(sent.folder / "group.sbatch").wait(30) == 0
    assert is_done(sent.output_dir, "group", "group")
    assert start(sent.folder / "array.sbatch").wait(30) == 0
    assert not is_done(sent.output_dir, "group", "group")
