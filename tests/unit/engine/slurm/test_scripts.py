"""Test the job scripts: their content, unusual paths, and records of what is done."""

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from slurmmaker import program, start, submission

from bids_sr.engine.slurm.job_requests import Request
from bids_sr.engine.slurm.scripts import (
    find_invalid_names,
    make_dependency,
    make_sbatch_arguments,
    write_scripts,
)
from bids_sr.engine.slurm.submission import Site, read_done

ODD = "a b'c\"d$(e)`f`;&|<>*?[g]!#~%j\u00e9"


def wait_until(path: Path, text: str) -> None:
    until = time.monotonic() + 10
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < until, f"{path} never held {text}"
        time.sleep(0.02)


def test_a_container_binds_every_folder_at_its_own_path(tmp_path: Path) -> None:
    echo = program(tmp_path / "bin" / "apptainer", 'printf "%s\\n" "$@" >"$RECORD"')
    sent = submission(
        tmp_path / "x y", site=Site(container="/images/bids sr.sif"), binds=(Path("/models/m"),)
    )
    write_scripts(sent, "")
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


def test_shellcheck_reports_nothing(tmp_path: Path) -> None:
    """Scripts of all sites, and the stand-in for SLURM of the gallery."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = [Path(__file__).parents[4] / "examples" / "gallery" / "stand_in_slurm.sh"]
    sites = Site(), Site(container="/i.sif", setup="/s et up", partition="p")
    for number, site in enumerate(sites):
        sent = submission(tmp_path / str(number) / ODD, site=site)
        scripts += write_scripts(sent, "").values()
    result = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    scripts[1].write_text(scripts[1].read_text().replace('"$child"', "$child"))
    result = subprocess.run(["shellcheck", scripts[1]], capture_output=True, check=False)
    assert result.returncode == 1


folder_names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["Cc", "Cs"]),
    min_size=1,
    max_size=20,
)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(folder_names.filter(lambda name: name not in (".", "..") and len(name.encode()) < 100))
def test_unusual_paths_reach_the_program_unchanged(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root" / name
    shutil.rmtree(tmp_path / "root", ignore_errors=True)
    record = program(root / "pro gram", 'printf "%s\\0" "$@" >"$RECORD"')
    sent = submission(root, program=str(record), database_dir=root / "index")
    assert find_invalid_names(sent.site, [sent.output_dir]) == []
    write_scripts(sent, "")
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
        "--bids-database-dir",
        str(root / "index"),
        "--participant-label",
        "sub-02",
    ]


def test_names_that_slurm_cannot_handle_are_listed(tmp_path: Path) -> None:
    for name in ("a\nb", "a\\b", "a\x7fb", "a\udcffb"):
        assert len(find_invalid_names(Site(), [tmp_path / name])) == 1
    site = Site(partition="a b", account="x;y", qos="ok", container="i")
    wrong = find_invalid_names(site, [Path("/a:b"), Path("/a")])
    assert [line.split(":")[0] for line in wrong] == ["--partition a b", "--account x;y", "/a"]


STOPPABLE = """
trap 'echo stopped >"$MARKS/stopped"; exit 130' TERM
touch "$MARKS/ready"
for _ in $(seq 200); do sleep 0.05; done
"""


def test_the_header_of_an_array_script(tmp_path: Path) -> None:
    sent = submission(
        tmp_path,
        ("sub-01", "sub-02", "sub-03"),
        site=Site(partition="long", account="lab", qos="low"),
        request=Request(cpus=3, memory_mb=5120, minutes=1505, gpus=1),
        at_once=2,
    )
    lines = write_scripts(sent, "")["array"].read_text().splitlines()
    requests = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert requests >= {
        *("cpus-per-task=3", "mem=5120M", "time=1-01:05:00", "gres=gpu:1"),
        *("partition=long", "account=lab", "qos=low", "array=1-3%2", "requeue"),
        *("nodes=1", "ntasks=1", "open-mode=append", "signal=B:USR1@300"),
    }
    assert "    3.24G" in lines  # GB: nine tenths of the request, less 0.45 per processor


def test_the_group_job_has_no_tasks_and_also_waits_for_failed_tasks(tmp_path: Path) -> None:
    sent = submission(tmp_path / "50%j")
    text = write_scripts(sent, "")["group"].read_text()
    assert "--array" not in text
    assert "--participant-label" not in text
    assert "    group\n" in text
    assert make_dependency("group", ["7", "8"]) == ["--dependency=afterany:7:8"]
    assert make_dependency("group", []) == []
    log = f"{tmp_path}/50%%j/out/logs/slurm/{sent.id}/logs/array_%a.log"
    assert f"--output={log}" in make_sbatch_arguments(sent, "array")


def test_only_participants_that_end_with_0_are_done_and_not_repeated(tmp_path: Path) -> None:
    body = 'echo "${!#}" >>"$RECORD"; [ "${!#}" != sub-01 ] || exit "$(cat "$CODE")"'
    sent = submission(
        tmp_path, ("sub-01", "sub-02"), batch=2, program=str(program(tmp_path / "stub", body))
    )
    script = write_scripts(sent, "")["array"]
    record, code = tmp_path / "record", tmp_path / "code"
    for exit_code, done in ((2, {"sub-02"}), (1, {"sub-02"}), (0, {"sub-01", "sub-02"})):
        code.write_text(str(exit_code))
        process = start(script, 1, RECORD=str(record), CODE=str(code))
        assert process.wait(30) == (1 if exit_code else 0)
        assert read_done(sent.output_dir) == done
    assert record.read_text().split() == ["sub-01", "sub-02", "sub-01", "sub-01"]
    another = submission(tmp_path, id="b", program=sent.program)
    script = write_scripts(another, "")["array"]
    assert start(script, 2, RECORD=str(record), CODE=str(code)).wait(30) == 0
    assert len(record.read_text().split()) == 4


@pytest.mark.parametrize("code", [0, 1])
def test_the_group_job_ends_with_the_exit_code_of_the_program(tmp_path: Path, code: int) -> None:
    stub = program(tmp_path / "stub", f'[ "$3" = group ] && exit {code}')
    script = write_scripts(submission(tmp_path, program=str(stub)), "")["group"]
    assert start(script, 0).wait(30) == code


def test_a_missing_program_fails(tmp_path: Path) -> None:
    sent = submission(tmp_path, program=str(tmp_path / "nowhere"))
    assert start(write_scripts(sent, "")["array"], 1).wait(30) == 1
    assert read_done(sent.output_dir) == set()


@pytest.mark.parametrize("sent_signal", [signal.SIGUSR1, signal.SIGTERM])
def test_the_time_limit_and_a_cancellation_stop_the_program(
    tmp_path: Path, sent_signal: signal.Signals
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    stub = program(tmp_path / "stub", STOPPABLE)
    sent = submission(tmp_path, ("sub-01", "sub-02"), batch=2, program=str(stub))
    process = start(write_scripts(sent, "")["array"], 1, MARKS=str(marks))
    wait_until(marks / "ready", "")
    process.send_signal(sent_signal)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert (marks / "stopped").exists()
    assert "130" in output
    assert "sub-02" not in output
    assert read_done(sent.output_dir) == set()
