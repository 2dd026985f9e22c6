"""Plugin file (``--use-plugin``), which determines whether steps run locally or as SLURM jobs.

The file is in TOML, or in YAML as for Nipype and fMRIPrep.
"""

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from bids_sr.config.section import OptionSection, option
from bids_sr.config.values import read_tables, suggest_name
from bids_sr.engine.slurm.job_options import JobOptions
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import UsageError

_PLUGIN_NAMES = ("MultiProc", "SLURM")
_MULTIPROC_SETTINGS = {"n_procs", "memory_gb"}
# arguments of the schedulers of Nipype, which plugin files for other programs may contain
_IGNORED_ARGUMENTS = {
    "dont_resubmit_completed_jobs",
    "maxtasksperchild",
    "non_daemon",
    "raise_insufficient",
    "scheduler",
}
# short → long options of sbatch that the plugin sets, or that would make it wait in vain
_SHORT_OPTIONS = {
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
_REFUSED_OPTIONS = {
    *_SHORT_OPTIONS.values(),
    "--wrap",
    "--parsable",
    "--test-only",
    "--usage",
    "--kill-on-invalid-dep",
    "--clusters",
}


@frozen
class Plugin(OptionSection, JobOptions):
    """Settings of the plugin file.

    With ``MultiProc``, steps run in processes of this machine; with ``SLURM``, each step is a job
    that is submitted when its inputs are complete. In the file, the template of job scripts may
    also be the path of a template, relative to the plugin file.
    """

    plugin: Literal["MultiProc", "SLURM"] = "MultiProc"
    n_procs: int | None = option(None, least=1)
    memory_gb: float | None = option(None, above=0)
    time_minutes: float | None = option(None, above=0)
    memory_extra_gb: float = option(0.7, least=0)
    max_jobs: int = option(100, least=1)
    poll_seconds: float = option(5.0, above=0)
    grace_seconds: float = option(20.0, least=0)
    patience_seconds: float = option(600.0, least=0)

    def _where(self, name: str) -> str:
        return name if name == "plugin" else f"plugin_args.{name}"

    def _check(self) -> None:
        """Reject arguments of sbatch that the plugin sets, or that are not split."""
        for name in ("sbatch_args", "gpu_args"):
            for argument in getattr(self, name):
                flag = argument.partition("=")[0]
                if not argument.startswith("--"):
                    flag = _SHORT_OPTIONS.get(argument[:2], flag)
                if flag in _REFUSED_OPTIONS:
                    raise UsageError(
                        f"plugin_args.{name}: {argument}",
                        f"{flag} is set by the plugin and cannot be specified by the user",
                        "omit it",
                    )
                if argument.startswith("-") and " " in argument and "=" not in argument:
                    first_word, _, value = argument.partition(" ")
                    raise UsageError(
                        f"plugin_args.{name}: {argument!r}",
                        "each string is passed as a single argument and is not split at spaces",
                        f'write two strings, "{first_word}", "{value}"',
                    )

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the file; raise `UsageError` for unreadable or unknown entries."""
        tables = read_tables(path, "plugin file", yaml=(".yml", ".yaml"))
        if not isinstance(tables, dict):
            raise UsageError(
                f"plugin file {path}", "the plugin file is empty", "add the line plugin: SLURM"
            )
        arguments = tables.pop("plugin_args", None) or {}
        _refuse_unknown(tables, ("plugin", "plugin_args"), path)
        # the same plugin under its name in fMRIPrep files, and the variant of Nipype that submits
        # all jobs at once
        name = str(tables.get("plugin")).removeprefix("Legacy").removesuffix("Graph")
        if name not in _PLUGIN_NAMES:
            fix = suggest_name(name, _PLUGIN_NAMES) or (
                'write plugin = "SLURM" on the first line; with another scheduler, omit'
                " --use-plugin and submit one call per participant (docs/cluster.md)"
            )
            raise UsageError(
                f"plugin {name!r} in {path}", f"expected {' or '.join(_PLUGIN_NAMES)}", fix
            )
        if not isinstance(arguments, dict):
            raise UsageError(
                f"plugin_args in {path}",
                "not a table",
                "specify the plugin arguments in a table [plugin_args]",
            )
        options = {key: value for key, value in arguments.items() if key not in _IGNORED_ARGUMENTS}
        all_settings = {item.name for item in dataclasses.fields(cls)} - {"plugin"}
        slurm_settings = all_settings - _MULTIPROC_SETTINGS
        allowed = _MULTIPROC_SETTINGS if name == "MultiProc" else slurm_settings
        _refuse_unknown(options, sorted(allowed), path)
        if isinstance(text := options.get("sbatch_args"), str):  # one string, as in Nipype
            try:
                options["sbatch_args"] = shlex.split(text)
            except ValueError as error:
                fix = "write the arguments as in a shell, and close all quotes"
                raise UsageError(f"sbatch_args in {path}", f"{error}", fix) from error
        plugin = cls(**{**options, "plugin": name})
        return dataclasses.replace(plugin, template=_read_template(plugin.template, path))

    @property
    def is_cluster(self) -> bool:
        """Whether steps become jobs of a cluster."""
        return self.plugin != "MultiProc"


def _refuse_unknown(entries: dict[str, object], allowed: Sequence[str], path: Path) -> None:
    """Raise `UsageError` for the first key of a plugin file that is not allowed."""
    for name in entries:
        if name not in allowed:
            fix = suggest_name(str(name), allowed) or f"choose from {', '.join(allowed)}"
            raise UsageError(
                f"unknown key {name!r} in {path}", "the plugin does not have this setting", fix
            )


def _read_template(text: str, plugin_file: Path) -> str:
    """Return the first lines of job scripts; a single line that is not a script is a file name."""
    if text.startswith("#!") or "\n" in text or not text:
        return text
    path = Path(os.path.abspath(plugin_file)).parent / Path(text).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (
            f"the job template {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        )
        raise UsageError(
            f"plugin_args.template: {text}",
            reason,
            "specify a template file, or a template that begins with #!",
        ) from error
