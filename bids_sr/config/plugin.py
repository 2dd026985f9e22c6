"""Plugin file (``--use-plugin``): run steps on this machine or as SLURM jobs, and how.

It is TOML, or YAML as Nipype and fMRIPrep have it.
"""

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from bids_sr.config.section import Checked, option
from bids_sr.config.values import UsageError, nearest_name, read_tables
from bids_sr.frozen import frozen

_NAMES = ("MultiProc", "SLURM")
_OF_MULTIPROC = {"n_procs", "memory_gb"}
_UNUSED = {
    "dont_resubmit_completed_jobs",
    "maxtasksperchild",
    "non_daemon",
    "raise_insufficient",
    "scheduler",
}
"""Arguments of Nipype's plugins that are taken and do nothing."""
_OWN = {
    "-a": "--array",
    "-d": "--dependency",
    "-D": "--chdir",
    "-J": "--job-name",
    "-o": "--output",
    "-e": "--error",
    "-W": "--wait",
    "-h": "--help",
    "-V": "--version",
    "-Q": "--quiet",
    "-H": "--hold",
}
"""Options of sbatch, short and long, that the plugin sets itself or that would make it wait in
vain.
"""
_REFUSED_OPTIONS = {
    *_OWN.values(),
    "--wrap",
    "--parsable",
    "--test-only",
    "--usage",
    "--kill-on-invalid-dep",
    "--clusters",
}


@frozen
class Plugin(Checked):
    """How the steps of a run reach a processor.

    ``MultiProc``: processes of this machine; ``SLURM``: one job a step, submitted when its turn
    has come. With `join_small` steps of small tables run in the program that submits.

    `unused`: arguments of Nipype in the file that have no effect here. `sbatch_args`, `gpu_args`:
    of every job, and more for steps that use a GPU. `template`: first lines of job scripts, or a
    file with them, relative to the plugin file. `time_minutes`: time limit; None: the
    partition's. `memory_extra_gb`: what a process takes beyond its step's. `max_jobs`: under way
    at one time. `poll_seconds`: between two questions to the queue. `grace_seconds`: that a file
    may take to be seen from another host. `patience_seconds`: that SLURM may be silent.
    """

    plugin: Literal["MultiProc", "SLURM"] = "MultiProc"
    n_procs: int | None = option(None, least=1)
    memory_gb: float | None = option(None, above=0)
    unused: tuple[str, ...] = ()
    sbatch_args: tuple[str, ...] = ()
    gpu_args: tuple[str, ...] = ()
    template: str = "#!/bin/bash"
    time_minutes: float | None = option(None, above=0)
    memory_extra_gb: float = option(0.7, least=0)
    join_small: bool = True
    max_jobs: int = option(100, least=1)
    poll_seconds: float = option(5.0, above=0)
    grace_seconds: float = option(20.0, least=0)
    patience_seconds: float = option(600.0, least=0)

    def _where(self, name: str) -> str:
        return name if name == "plugin" else f"plugin_args.{name}"

    def _check(self) -> None:
        for name in ("sbatch_args", "gpu_args"):
            _check_arguments(name, getattr(self, name))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the file, raising `UsageError` for unreadable or unknown entries."""
        tables = read_tables(path, "plugin file", yaml=(".yml", ".yaml"))
        if not isinstance(tables, dict):
            raise UsageError(
                f"plugin file {path}", "the plugin file is empty", "add the line plugin: SLURM"
            )
        arguments = tables.pop("plugin_args", None) or {}
        _refuse_unknown(tables, ("plugin", "plugin_args"), path)
        # the same, by its name in fMRIPrep's files, and as Nipype submits it all at once
        name = str(tables.get("plugin")).removeprefix("Legacy").removesuffix("Graph")
        if name not in _NAMES:
            fix = nearest_name(name, _NAMES) or 'write plugin = "SLURM" on the first line'
            raise UsageError(f"plugin {name!r} in {path}", f"expected {' or '.join(_NAMES)}", fix)
        if not isinstance(arguments, dict):
            raise UsageError(
                f"plugin_args in {path}",
                "not a table",
                "specify the plugin arguments in a table [plugin_args]",
            )
        unused = tuple(sorted(_UNUSED & arguments.keys()))
        options = {each: value for each, value in arguments.items() if each not in unused}
        every = {item.name for item in dataclasses.fields(cls)} - {"plugin", "unused"}
        known = _OF_MULTIPROC if name == "MultiProc" else every - _OF_MULTIPROC
        _refuse_unknown(options, sorted(known), path)
        if isinstance(text := options.get("sbatch_args"), str):  # as Nipype has it
            try:
                options["sbatch_args"] = shlex.split(text)
            except ValueError as error:
                raise UsageError(f"sbatch_args in {path}: {error}") from error
        found = cls(**{**options, "plugin": name, "unused": unused})
        return dataclasses.replace(found, template=_template(found.template, path))

    @property
    def is_cluster(self) -> bool:
        """Whether steps become jobs."""
        return self.plugin != "MultiProc"


def _refuse_unknown(values: dict[str, object], known: Sequence[str], path: Path) -> None:
    for name in values:
        if name not in known:
            fix = nearest_name(str(name), known) or f"choose from {', '.join(known)}"
            raise UsageError(
                f"unknown key {name!r} in {path}", "the plugin does not have this setting", fix
            )


def _check_arguments(name: str, arguments: tuple[str, ...]) -> None:
    for word in arguments:
        option = word.partition("=")[0]
        option = _OWN.get(word[:2], option) if not word.startswith("--") else option
        if option in _REFUSED_OPTIONS:
            raise UsageError(
                f"plugin_args.{name}: {word}",
                f"{option} is set by the plugin and cannot be specified by the user",
                "omit it",
            )
        if word.startswith("-") and " " in word and "=" not in word:
            head, _, rest = word.partition(" ")
            why = "each string is passed as a single argument and is not split at spaces"
            raise UsageError(
                f"plugin_args.{name}: {word!r}", why, f'write two strings, "{head}", "{rest}"'
            )


def _template(text: str, beside: Path) -> str:
    """The lines themselves; a text of one line that is no script names a file."""
    if text.startswith("#!") or "\n" in text or not text:
        return text
    path = Path(os.path.abspath(beside)).parent / Path(text).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (
            f"the job template {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        )
        raise UsageError(
            f"plugin_args.template: {text}",
            why,
            "specify a template file, or a template that begins with #!",
        ) from error
