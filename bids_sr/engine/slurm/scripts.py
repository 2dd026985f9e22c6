"""Job scripts of a submission, with all external text quoted, and their submission."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from bids_sr.boilerplate import path as find_boilerplate
from bids_sr.engine.slurm import commands
from bids_sr.engine.slurm.job_requests import (
    Request,
    compute_program_gib,
    compute_signal_seconds,
    format_time,
)
from bids_sr.engine.slurm.sbatch_variables import find_inherited_variables
from bids_sr.engine.slurm.submission import GROUP, TASK_LIST, Site, Submission
from bids_sr.io.atomic_files import write_text
from bids_sr.version import __version__

_TRAINING, _ARRAY = "training", "array"
_NAME_PATTERN = re.compile(r"[\w.:@/+,-]+", re.ASCII)


def submit(submission: Submission, settings_toml: str) -> list[str]:
    """Write the scripts, submit the jobs, and return their numbers.

    If the first task trains networks that the others share, the others start if it succeeds. The
    group job starts after all tasks, whether they succeed or not. Raises `SlurmError` if SLURM
    rejects a job; previously submitted jobs are cancelled.
    """
    scripts = write_scripts(submission, settings_toml)
    variables = find_inherited_variables(submission.site.sbatch_options)
    numbers: list[str] = []
    try:
        for name in scripts:
            arguments = make_sbatch_arguments(submission, name)
            arguments[1:1] = make_dependency(name, numbers)
            numbers.append(commands.submit(arguments, variables))
    except (commands.SlurmError, KeyboardInterrupt):
        commands.cancel(numbers)
        (submission.folder / "settings.toml").unlink(missing_ok=True)
        raise
    return numbers


def write_scripts(submission: Submission, settings_toml: str) -> dict[str, Path]:
    """Write settings, list of participants and scripts; return the scripts by job.

    The jobs are ``training``, ``array`` and ``group``, if requested. `settings_toml`: settings of
    the program.
    """
    folder = submission.folder
    for path in (folder / "logs", submission.done_dir):
        path.mkdir(parents=True, exist_ok=True)
    lines = (f"{' '.join(labels)}\n" for labels in submission.tasks)
    write_text(folder / TASK_LIST, "".join(lines))
    requests = {
        _TRAINING: submission.training_request,
        _ARRAY: submission.request,
        GROUP: submission.group_request,
    }
    scripts = {
        name: write_text(folder / f"{name}.sbatch", _render_script(submission, name, request))
        for name, request in requests.items()
        if request is not None
    }
    # last, because a folder with settings is a submission
    write_text(folder / "settings.toml", settings_toml)
    return scripts


def _render_script(submission: Submission, name: str, request: Request) -> str:
    """Return the script of a job."""
    import jinja2

    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        # the default delimiter is also a string length in shell syntax
        comment_start_string="{##",
        comment_end_string="##}",
    )
    environment.filters["quote"] = shlex.quote
    is_group, site = name == GROUP, submission.site
    n_tasks = len(submission.tasks)
    first, last = (1, 1) if name == _TRAINING else (1 + bool(submission.training_request), n_tasks)
    n_participants = sum(map(len, submission.tasks[first - 1 : last]))
    limit = f"%{submission.at_once}" if submission.at_once else ""
    template = environment.from_string(find_boilerplate("sbatch.tmpl").read_text(encoding="utf-8"))
    return template.render(
        version=__version__,
        what="group level" if is_group else f"{n_participants} participants",
        job_name=submission.job_name,
        array="" if is_group else f"{first}-{last}{limit}",
        request=request,
        time=format_time(request.minutes),
        site=list(site.sbatch_options.items()),
        signal_seconds=compute_signal_seconds(request),
        done_dir=str(submission.done_dir),
        task_list=str(submission.folder / TASK_LIST),
        setup=site.setup,
        container=site.container,
        work_dir=str(submission.work_dir),
        command=_make_command(submission, request, GROUP if is_group else "participant"),
    )


def _make_command(submission: Submission, request: Request, level: str) -> list[str]:
    """Return the program with its arguments as quoted shell words."""
    start = (
        _make_container_command(submission, request)
        if submission.site.container
        else [shlex.quote(submission.program)]
    )
    arguments = [
        str(submission.bids_dir),
        str(submission.output_dir),
        level,
        "--config-file",
        str(submission.folder / "settings.toml"),
        "-w",
        str(submission.work_dir),
        "--nprocs",
        str(request.cpus),
        "--mem",
        f"{compute_program_gib(request):.2f}G",
    ]
    if submission.database_dir is not None:
        arguments += ["--bids-database-dir", str(submission.database_dir)]
    return [*start, *map(shlex.quote, arguments)]


def _make_container_command(submission: Submission, request: Request) -> list[str]:
    """Return the command that runs the container, as quoted shell words.

    Directories have the same paths inside and outside of the container, and the data are
    read-only.
    """
    writable = (submission.output_dir, submission.work_dir)
    binds = [
        f"{submission.bids_dir}:{submission.bids_dir}:ro",
        *(f"{path}:{path}" for path in writable),
    ]
    binds += [f"{path}:{path}:ro" for path in submission.binds]
    arguments = ["run", "--cleanenv", "--no-home", *(["--nv"] if request.gpus else [])]
    for bind in binds:
        arguments += ["--bind", bind]
    return ['"$runtime"', *map(shlex.quote, [*arguments, submission.site.container])]


def make_dependency(name: str, previous_jobs: Sequence[str]) -> list[str]:
    """Return the arguments of ``sbatch`` for the jobs that must end before a job starts.

    `previous_jobs` are jobs of this submission.
    """
    if not previous_jobs:
        return []
    jobs = ":".join(previous_jobs)
    if name == _ARRAY:
        # without the second option, the tasks remain in the queue if the training fails
        return [f"--dependency=afterok:{jobs}", "--kill-on-invalid-dep=yes"]
    return [f"--dependency=afterany:{jobs}"]


def make_sbatch_arguments(submission: Submission, name: str) -> list[str]:
    """Return the arguments of ``sbatch`` that are not in the script of a job.

    These are paths, which may need quoting. The script is the last argument.
    """
    folder = submission.folder
    logs = str(folder / "logs").replace("%", "%%")
    log_name = "group.log" if name == GROUP else "array_%a.log"
    arguments = ["--parsable", f"--chdir={folder}", f"--output={logs}/{log_name}"]
    return [*arguments, str(folder / f"{name}.sbatch")]


def find_invalid_names(site: Site, paths: Sequence[Path]) -> list[str]:
    """Return problems of names and paths that cannot be passed to SLURM or a container.

    Each problem is one line with a remedy.
    """
    problems = []
    for name, value in site.sbatch_options.items():
        if _NAME_PATTERN.fullmatch(value) is None:
            problems.append(
                f"--{name} {value}: the name is not valid. Check the name with `sinfo`, or ask"
                " the administrator of the cluster."
            )
    for path in map(str, paths):
        # the last range is surrogates, which cannot be encoded in UTF-8
        if re.search(r"[\\\x00-\x1f\x7f\ud800-\udfff]", path):
            problems.append(
                f"{path!r}: SLURM does not support backslashes or control characters in paths."
                " Rename the directory."
            )
        elif site.container and set(path) & set(",:"):
            problems.append(
                f"{path}: container bind mounts do not support commas or colons in paths. Rename"
                " the directory."
            )
    return problems
