"""Job scripts of a submission and their command lines, with all external text quoted."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from bids_sr.boilerplate import path as find_boilerplate
from bids_sr.config import UsageError
from bids_sr.io.atomic_files import write_text
from bids_sr.slurm.arrays import format_tasks
from bids_sr.slurm.commands import QUEUE_FORMAT
from bids_sr.slurm.job_requests import compute_program_gib, compute_signal_seconds, format_time
from bids_sr.slurm.submission import ArrayJob, Request, Site, Submission
from bids_sr.version import __version__

_NAME_PATTERN = re.compile(r"[\w.:@/+,-]+", re.ASCII)


def _render_script(submission: Submission, job: ArrayJob) -> str:
    """Return the script of a job."""
    import jinja2

    request = job.request
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
    site = submission.site
    template = environment.from_string(find_boilerplate("sbatch.tmpl").read_text(encoding="utf-8"))
    return template.render(
        version=__version__,
        what="group level" if job.is_group else f"{len(job.task_of)} participants",
        job_name=submission.job_name,
        name=job.name,
        array="" if job.is_group else format_tasks(job.indices, job.at_once),
        request=request,
        time=format_time(request.minutes),
        site=list(site.sbatch_options.items()),
        signal_seconds=compute_signal_seconds(request),
        folder=str(submission.folder),
        requeues=site.requeues,
        setup=site.setup,
        container=site.container,
        work_dir=str(submission.work_dir),
        command=_make_command(submission, request, "group" if job.is_group else "participant"),
        queue_format=QUEUE_FORMAT,
    )


def _make_command(submission: Submission, request: Request, level: str) -> list[str]:
    """Return the program with its arguments as quoted shell words."""
    site = submission.site
    start = (
        _make_container_command(submission, request)
        if site.container
        else [shlex.quote(site.program)]
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
    binds += [f"{path}:{path}:ro" for path in submission.site.binds]
    arguments = ["run", "--cleanenv", "--no-home", *(["--nv"] if request.gpus else [])]
    for bind in binds:
        arguments += ["--bind", bind]
    return ['"$runtime"', *map(shlex.quote, [*arguments, submission.site.container])]


def write_scripts(submission: Submission, settings_toml: str) -> list[Path]:
    """Write settings, lists of participants and scripts of a submission; return the scripts.

    The script of the group job is the last.
    """
    folder = submission.folder
    for name in ("logs", "status"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_text(folder / "settings.toml", settings_toml)
    scripts = []
    for job in submission.jobs:
        lines = (" ".join(names) + "\n" for names in job.tasks)
        if not job.is_group:
            write_text(folder / f"{job.name}.txt", "".join(lines))
        scripts.append(write_text(folder / f"{job.name}.sbatch", _render_script(submission, job)))
    submission.save()
    return scripts


def make_sbatch_arguments(
    submission: Submission, job: ArrayJob, dependencies: Sequence[str] = ()
) -> list[str]:
    """Return the arguments of ``sbatch`` that are not in the script.

    These are paths, which may need quoting, and the jobs in `dependencies`. The latter must end
    before the job starts, with or without success. The script is the last argument.
    """
    folder = submission.folder
    logs = str(folder / "logs").replace("%", "%%")
    arguments = ["--parsable", f"--chdir={folder}", f"--output={logs}/{job.log_name('%a')}"]
    if dependencies:
        arguments.append("--dependency=afterany:" + ":".join(dependencies))
    return [*arguments, str(folder / f"{job.name}.sbatch")]


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


def raise_problems(problems: Sequence[str]) -> None:
    """Raise `UsageError` with all problems, if there are any."""
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UsageError("\n".join([f"{count} found; no jobs were submitted.", *problems]))
