"""Job scripts of a submission and their command lines, with all external text quoted."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from bids_sr.boilerplate import path as find_boilerplate
from bids_sr.config import UsageError
from bids_sr.io.atomic_files import write_text
from bids_sr.slurm.job_requests import compute_program_gib, format_time
from bids_sr.slurm.records import find_records_dir
from bids_sr.slurm.submission import GROUP, ArrayJob, Request, Site, Submission
from bids_sr.version import __version__

_NAME_PATTERN = re.compile(r"[\w.:@/+,-]+", re.ASCII)


def _render_script(submission: Submission, request: Request, array: ArrayJob | None) -> str:
    """Return the script of an array, or of the group job if `array` is None."""
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
    site = submission.site
    template = environment.from_string(find_boilerplate("sbatch.tmpl").read_text(encoding="utf-8"))
    return template.render(
        version=__version__,
        what=f"{len(array.participants)} participants" if array else "group level",
        job_name=submission.job_name,
        array=_format_array(array) if array else "",
        request=request,
        time=format_time(request.minutes),
        site=list(site.sbatch_options.items()),
        participants=str(submission.folder / "participants.txt"),
        records=str(find_records_dir(submission.output_dir)),
        digest=submission.digests[0 if array else 1],
        setup=site.setup,
        container=site.container,
        work_dir=str(submission.work_dir),
        command=_make_command(submission, request, "participant" if array else "group"),
    )


def _format_array(array: ArrayJob) -> str:
    """Return the task numbers of an array as SLURM expects them, with the limit."""
    limit = "" if array.at_most is None else f"%{array.at_most}"
    return f"1-{len(array.tasks)}{limit}"


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


def write_scripts(submission: Submission) -> list[Path]:
    """Write settings, list of participants and scripts; return the scripts, the group job last.

    Records of participants that will be processed again are removed.
    """
    folder, records = submission.folder, find_records_dir(submission.output_dir)
    (folder / "logs").mkdir(parents=True)
    records.mkdir(exist_ok=True)
    for name in submission.array.participants if submission.array else ():
        (records / name).unlink(missing_ok=True)
    write_text(folder / "settings.toml", submission.settings_toml)
    array, group = submission.array, submission.group
    write_text(
        folder / "participants.txt",
        "".join(" ".join(names) + "\n" for names in (array.tasks if array else ())),
    )
    scripts = []
    if array:
        text = _render_script(submission, array.request, array)
        scripts.append(write_text(folder / "array.sbatch", text))
    if group:
        text = _render_script(submission, group, None)
        scripts.append(write_text(folder / f"{GROUP}.sbatch", text))
    return scripts


def make_sbatch_arguments(script: Path, dependencies: Sequence[str] = ()) -> list[str]:
    """Return the arguments of ``sbatch`` for a script in the directory of its submission.

    Arguments that are not in the script are paths, which may need quoting, and the jobs in
    `dependencies`, which must end before the job starts, with or without success.
    """
    logs = str(script.parent / "logs").replace("%", "%%")
    log_name = f"{GROUP}.log" if script.stem == GROUP else "task_%a.log"
    arguments = ["--parsable", f"--chdir={script.parent}", f"--output={logs}/{log_name}"]
    if dependencies:
        arguments.append("--dependency=afterany:" + ":".join(dependencies))
    return [*arguments, str(script)]


def write_submit_script(scripts: Sequence[Path], open_jobs: Sequence[str]) -> Path:
    """Write a shell script that submits the scripts of a submission, and return it.

    The group job also waits for the jobs `open_jobs`.
    """
    lines = [
        "#!/bin/bash",
        "# shellcheck disable=SC2016 # paths may hold anything",
        "set -e",
    ]
    dependencies = list(open_jobs)
    for script in scripts:
        arguments = shlex.join(make_sbatch_arguments(script))
        if script.stem != GROUP:
            lines.append(f"array=$(sbatch {arguments})")
            dependencies.append("${array%%;*}")
        elif dependencies:
            lines.append(f'sbatch "--dependency=afterany:{":".join(dependencies)}" {arguments}')
        else:
            lines.append(f"sbatch {arguments}")
    return write_text(scripts[0].parent / "submit.sh", "\n".join(lines) + "\n")


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
