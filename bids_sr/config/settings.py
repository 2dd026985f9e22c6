"""All settings of one call: from options or a file, written, resolved for a machine, compared."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

from bids_sr.config import groups, machine
from bids_sr.config.paths import Paths
from bids_sr.config.section import option_of
from bids_sr.config.superres import SuperRes
from bids_sr.config.values import UsageError, as_toml, nearest_name, read_tables, split_named
from bids_sr.frozen import frozen
from bids_sr.region_names import is_file
from bids_sr.sr.recipe_changes import RecipeChange

_ANAT_METHODS = ("attunet",)
_UNUSED = "the selected settings do not use this option"

_T = TypeVar("_T")


def _group(made_by: Callable[[], _T], title: str) -> _T:
    """A group of settings and what heads its options in the help."""
    return field(default_factory=made_by, metadata={"title": title})


@frozen
class Settings:
    """All settings of one call.

    See the groups for their meaning and `usage.md` for the options.

    `paths`: directories of data, results and intermediate files.
    """

    paths: Paths
    selection: groups.Selection = _group(groups.Selection, groups.WHICH_DATA)
    superres: SuperRes = _group(SuperRes, "super-resolution")
    preprocessing: groups.Preprocessing = _group(groups.Preprocessing, "preprocessing")
    activation: groups.Activation = _group(groups.Activation, "activation")
    evaluation: groups.Evaluation = _group(groups.Evaluation, "evaluation")
    resources: groups.Resources = _group(groups.Resources, "resources")
    run: groups.Run = _group(groups.Run, groups.HOW_IT_RUNS)

    @property
    def figures_dir(self) -> Path:
        """Return the root of the folders of figures.

        It is the root of all results, or below the full level a folder of the work directory.

        From there they are packed, see `bids_sr.report.assembler`. Other results have
        another folder.
        """
        out, work = self.paths.output_dir, self.paths.work_dir
        if self.run.level == "full" or work is None:
            return out
        return work / "figures" / _sha256(os.fsencode(out))[:8]

    @classmethod
    def from_mapping(cls, values: Mapping[str, Mapping[str, object]]) -> Self:
        """Build settings from ``{group: {name: value}}``; what is absent keeps its default.

        Methods that were not named are those of the target: structural scans have their own.
        """
        for group, names in values.items():
            _check_keys(group, names)
        superres = values.get("superres", {})
        if superres.get("target") == "anat" and "methods" not in superres:
            values = {**values, "superres": {**superres, "methods": _ANAT_METHODS}}
        return cls(
            **{group: get_type_hints(cls)[group](**names) for group, names in values.items()}
        )

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read exactly what `to_toml` wrote."""
        return cls.from_mapping(read_toml(path))

    def to_toml(self) -> str:
        """Return the text of the settings file.

        A value of None whose default is None is left out.
        """
        lines = []
        for group in dataclasses.fields(self):
            lines.append(f"[{group.name}]")
            section = getattr(self, group.name)
            for item in dataclasses.fields(section):
                value = getattr(section, item.name)
                if value is not None or item.default is not None:
                    lines.append(f"{item.name} = {as_toml('none' if value is None else value)}")
            lines.append("")
        return "\n".join(lines)

    def summary(self) -> list[str]:
        """Return the settings as lines to print, one per group; a star marks non-defaults."""
        lines = []
        for group in dataclasses.fields(self):
            section = getattr(self, group.name)
            shown = []
            for item in dataclasses.fields(section):
                value = getattr(section, item.name)
                text = " ".join(map(str, value)) or "-" if isinstance(value, tuple) else str(value)
                star = "" if item.default in (value, dataclasses.MISSING) else "*"
                shown.append(f"{item.name}={text}{star}")
            lines.append(f"{group.name:<14}{', '.join(shown)}")
        return lines

    def resolved(self, *, run_uuid: str) -> Self:
        """Return settings with absolute paths and all machine-dependent values filled in."""
        values: dict[str, dict[str, Any]] = {
            group: {
                name: _absolute(value) if isinstance(value, Path) else value
                for name, value in found.items()
            }
            for group, found in dataclasses.asdict(self).items()
        }
        paths, activation, resources = values["paths"], values["activation"], values["resources"]
        run = values["run"]
        unused = [*self.run.without_effect]
        if paths["work_dir"] is None:
            digest = _sha256(os.fsencode(paths["bids_dir"]))[:8]
            paths["work_dir"] = _absolute(Path("work", f"bids-sr-{digest}"))
        if is_file(activation["roi"]):
            activation["roi"] = str(_absolute(Path(activation["roi"])))
        if self.superres.calibration_file is not None:
            values["superres"]["calibration"] = str(_absolute(self.superres.calibration_file))
        if self.evaluation.truth_dir is not None:
            values["evaluation"]["truth"] = str(_absolute(self.evaluation.truth_dir))
        values["superres"]["pretrained"] = tuple(map(_absolute, self.superres.pretrained))
        named = (
            (name, str(_absolute(Path(folder))))
            for name, folder in map(split_named, self.preprocessing.derivatives)
        )
        values["preprocessing"]["derivatives"] = tuple(
            "=".join(filter(None, each)) for each in named
        )
        if resources["use_plugin"] is not None:
            from bids_sr.config.plugin import Plugin

            plugin = Plugin.from_file(resources["use_plugin"])
            unused += [(f"{name} in the plugin file", _UNUSED) for name in plugin.unused]
            if not plugin.is_cluster:  # what it holds are two of the options
                resources["use_plugin"] = None
                resources["nprocs"] = resources["nprocs"] or plugin.n_procs
                resources["mem_gb"] = resources["mem_gb"] or plugin.memory_gb
        if resources["nprocs"] is None:
            resources["nprocs"] = machine.processors()
        # small batches train several times slower on two threads
        if resources["omp_nthreads"] is None:
            resources["omp_nthreads"] = 1
        asked = self.preprocessing.ignore
        ignored = tuple(each for each in asked if each in ("slicetiming", "events"))
        unused += [(f"--ignore {each}", _UNUSED) for each in asked if each not in ignored]
        values["preprocessing"]["ignore"] = ignored
        if run["reports_only"] or self.selection.analysis_level == "group":
            of_steps = {
                "--clean-workdir": run["clean_workdir"],
                "--md-only-boilerplate": run["md_only_boilerplate"],
                "--model": activation["stats_model"],
            }
            unused += [(flag, _UNUSED) for flag, given in of_steps.items() if given]
        run["dry_run"] |= run["graph"]
        run["run_uuid"], run["without_effect"] = run_uuid, unused
        return self.from_mapping(values)


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _check_keys(group: str, names: object) -> None:
    """Raise `UsageError`, naming the nearest key, if a setting ``group.name`` does not exist."""
    known = [
        f"{section}.{name}"
        for section, cls in get_type_hints(Settings).items()
        for name in get_type_hints(cls)
    ]
    asked = [f"{group}.{name}" for name in names] if isinstance(names, Mapping) else [group]
    for key in asked or ([group] if group not in get_type_hints(Settings) else []):
        if key not in known:
            fix = (
                nearest_name(key, known)
                or f"available groups: {', '.join(get_type_hints(Settings))}"
            )
            raise UsageError(f"unknown setting {key!r}", "unknown setting", fix)


def read_toml(path: Path, *, reusable_only: bool = False) -> dict[str, dict[str, object]]:
    """Read a settings file as ``{group: {name: value}}``.

    With `reusable_only` what belongs to the call that wrote the file (its directories, its
    identifier, a dry run) is left out. Raises `UsageError` for a file that cannot be read, is no
    TOML, or has an unknown key.
    """
    tables = read_tables(path, "settings file")
    for group, names in tables.items():
        _check_keys(group, names)
    superres = tables.get("superres", {})
    if isinstance(superres.get("pretrained"), str):  # before 0.2 there could be one model alone
        superres["pretrained"] = [superres["pretrained"]]
    if not reusable_only:
        return tables
    return {
        group: {
            item.name: names[item.name]
            for item in dataclasses.fields(get_type_hints(Settings)[group])
            if item.name in names and not option_of(item).once
        }
        for group, names in tables.items()
    }


def _decisive(settings: Settings) -> dict[str, object]:
    """Return the settings that decide the results, by ``group.name``.

    Files are represented by their content, and lists as sets, except for the factor.
    """
    values: dict[str, Any] = {}
    for group in dataclasses.fields(settings):
        section = getattr(settings, group.name)
        names = (item.name for item in dataclasses.fields(section) if option_of(item).decides)
        values |= {f"{group.name}.{name}": _plain(getattr(section, name)) for name in names}
    if settings.preprocessing.derivatives:  # what was taken over decides, not where it lies
        values["preprocessing.derivatives"] = "taken over"
    if settings.superres.calibration_file is not None:
        values["superres.calibration"] = _plain(settings.superres.calibration_file)
    # its numbers have an order, and one number is written as before there could be three
    factor = settings.superres.factor
    values["superres.factor"] = list(factor) if len(factor) > 1 else next(iter(factor), None)
    roi = settings.activation.roi
    values["activation.roi"] = _plain(Path(roi)) if is_file(roi) else roi
    return values


def _plain(value: object) -> Any:
    if isinstance(value, tuple):
        return sorted(map(_plain, value))
    if isinstance(value, RecipeChange):
        return str(value)
    if isinstance(value, Path):
        return _sha256(value.read_bytes()) if value.is_file() else "a file that is not there"
    return value


def analysis_digest(settings: Settings) -> str:
    """Twelve hexadecimal digits that are equal where the settings that decide the results are.

    Method, preprocessing, activation, evaluation, seed and sloppiness count; paths, the selection
    of data and the machine do not. A model, weights or a region given as a file count by their
    content.
    """
    text = json.dumps(_decisive(settings), sort_keys=True)
    return _sha256(text.encode("utf-8"))[:12]


def differing(settings: Settings, other: Settings) -> dict[str, str]:
    """Decisive settings in which two calls differ, by ``group.name``: ``this and that``."""
    a, b = _decisive(settings), _decisive(other)
    return {
        key: f"{a.get(key)} and {b.get(key)}"
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    }
