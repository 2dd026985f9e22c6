"""Settings of a call: reading, writing, completion for the machine, and comparison."""

import dataclasses
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

from bids_sr.config import machine
from bids_sr.config.levels import StoredMaps
from bids_sr.config.presets import preset_names
from bids_sr.config.section import HOW_IT_RUNS, WHICH_DATA, get_option
from bids_sr.config.sections.activation import Activation
from bids_sr.config.sections.anat import Anat, IntensityScaling
from bids_sr.config.sections.evaluation import Evaluation
from bids_sr.config.sections.paths import Paths
from bids_sr.config.sections.preprocessing import Preprocessing
from bids_sr.config.sections.resources import Resources
from bids_sr.config.sections.run import Run
from bids_sr.config.sections.sbl import Sbl
from bids_sr.config.sections.selection import Selection
from bids_sr.config.sections.superres import SuperRes
from bids_sr.config.values import as_toml, read_tables, split_named, suggest_name
from bids_sr.config.vgg19_weights import find_vgg19
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import UsageError
from bids_sr.io.region_names import is_file
from bids_sr.sr.method import get_method
from bids_sr.sr.recipe_changes import RecipeChange

_T = TypeVar("_T")


def _group(group_class: Callable[[], _T], title: str) -> _T:
    """Return a field for a group of settings, with the heading of its options in the help."""
    return field(default_factory=group_class, metadata={"title": title})


@frozen
class Settings:
    """All settings of a call.

    The meaning of settings is documented in their groups, and the options in `usage.md`. `paths`
    contains the directories of data, results and intermediate files.
    """

    paths: Paths
    selection: Selection = _group(Selection, WHICH_DATA)
    superres: SuperRes = _group(SuperRes, "super-resolution")
    sbl: Sbl = _group(Sbl, "sparse Bayesian learning")
    anat: Anat = _group(Anat, "structural scans")
    preprocessing: Preprocessing = _group(Preprocessing, "preprocessing")
    activation: Activation = _group(Activation, "activation")
    evaluation: Evaluation = _group(Evaluation, "evaluation")
    resources: Resources = _group(Resources, "resources")
    run: Run = _group(Run, HOW_IT_RUNS)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Mapping[str, object]]) -> Self:
        """Build settings from ``{group: {name: value}}``; missing values have their defaults."""
        for group, names in values.items():
            _check_keys(group, names)
        return cls(
            **{group: get_type_hints(cls)[group](**names) for group, names in values.items()}
        )

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read settings from a file written by `to_toml`."""
        return cls.from_mapping(read_toml(path))

    def with_values(self, **groups: Mapping[str, object]) -> Self:
        """Return settings with other values, as ``group={name: value}``."""
        changes: dict[str, Any] = {
            group: dataclasses.replace(getattr(self, group), **values)
            for group, values in groups.items()
        }
        return dataclasses.replace(self, **changes)

    def to_toml(self) -> str:
        """Return the text of the settings file.

        Omitted are settings that only the command line sets, and settings whose value and default
        are None.
        """
        lines = []
        for group in dataclasses.fields(self):
            lines.append(f"[{group.name}]")
            section = getattr(self, group.name)
            for item in dataclasses.fields(section):
                value = getattr(section, item.name)
                is_set = value is not None or item.default is not None
                if is_set and not get_option(item).command_line_only:
                    lines.append(f"{item.name} = {as_toml('none' if value is None else value)}")
            lines.append("")
        return "\n".join(lines)

    def summary(self) -> list[str]:
        """Return the settings as text, one line per group; a star marks non-default values."""
        lines = []
        for group in dataclasses.fields(self):
            section = getattr(self, group.name)
            entries = []
            for item in dataclasses.fields(section):
                value = getattr(section, item.name)
                value_text = (
                    " ".join(map(str, value)) or "-" if isinstance(value, tuple) else str(value)
                )
                star = "" if item.default in (value, dataclasses.MISSING) else "*"
                entries.append(f"{item.name}={value_text}{star}")
            lines.append(f"{group.name:<14}{', '.join(entries)}")
        return lines

    @property
    def log_dir(self) -> Path:
        """Directory of the log files of this call."""
        return self.paths.output_dir / "logs" / self.run.run_uuid

    @property
    def scaling_of_scans(self) -> IntensityScaling:
        """Intensity scaling of structural scans, which by default depends on the recipe."""
        if self.anat.scale != "auto":
            return self.anat.scale
        return "percentile" if self.superres.recipe == "fast" else "range"

    def select_stored_maps(
        self,
        smoothing: Sequence[float],
        *,
        at_rest: bool = False,
        primary: str = "",
        minus_others: Sequence[str] = (),
    ) -> StoredMaps:
        """Return the rules that determine which maps of a run are stored.

        `at_rest` states whether the run has no events. For the other parameters, see `StoredMaps`.
        """
        activation = self.activation
        return StoredMaps(
            level=self.run.level,
            smoothing=smoothing,
            thresholds=activation.thresholds,
            requests_widths=bool(activation.smoothing),
            requests_thresholds=activation.requests_thresholds,
            methods=self.superres.method,
            kinds=activation.kinds,
            correlation=at_rest or self.superres.recipe != "fast",
            primary=primary,
            minus_others=minus_others,
        )

    def resolve(self, *, run_uuid: str) -> Self:
        """Return settings with absolute paths and all machine-dependent values filled in."""
        values = self._change_paths(_absolute)
        paths = values["paths"]
        if paths["work_dir"] is None:
            digest = _sha256(os.fsencode(paths["bids_dir"]))[:8]
            paths["work_dir"] = _absolute(Path("work", f"bids-sr-{digest}"))
        _resolve_resources(values["resources"])
        values["run"]["run_uuid"] = run_uuid
        return self.from_mapping(values)

    def list_paths(self) -> list[Path]:
        """Return the files and directories in options, other than data, output and work."""
        paths: dict[Path, None] = {}

        def record(path: Path) -> Path:
            paths[path] = None
            return path

        self._change_paths(record)
        for path in dataclasses.asdict(self.paths).values():
            paths.pop(path, None)
        return [*paths]

    def _change_paths(self, change: Callable[[Path], Path]) -> dict[str, dict[str, Any]]:
        """Return the values of all settings by group, with each path changed by a function.

        A path can also be a part of a text, or one of several kinds of values.
        """
        values: dict[str, dict[str, Any]] = {
            group: {
                name: change(value) if isinstance(value, Path) else value
                for name, value in group_values.items()
            }
            for group, group_values in dataclasses.asdict(self).items()
        }
        activation = values["activation"]
        activation["roi"] = tuple(
            str(change(Path(roi))) if is_file(roi) else roi for roi in self.activation.roi
        )
        if is_file(self.activation.atlas):
            activation["atlas"] = str(change(Path(self.activation.atlas)))
        if self.superres.calibration_file is not None:
            values["superres"]["calibration"] = str(change(self.superres.calibration_file))
        if self.evaluation.truth_dir is not None:
            values["evaluation"]["truth"] = str(change(self.evaluation.truth_dir))
        values["run"]["config_file"] = tuple(
            name if name in preset_names() else str(change(Path(name)))
            for name in self.run.config_file
        )
        values["superres"]["pretrained"] = tuple(map(change, self.superres.pretrained))
        derivatives = []
        for text in self.preprocessing.derivatives:
            name, folder = split_named(text)
            path = str(change(Path(folder)))
            derivatives.append(f"{name}={path}" if name else path)
        values["preprocessing"]["derivatives"] = tuple(derivatives)
        return values


def list_ignored_settings(path: Path) -> dict[str, str]:
    """Return the flags of the settings of a file that only the command line sets, by name.

    A name is for example ``resources.use_plugin``. Raises the errors of `read_toml`.
    """
    return {
        f"{group}.{item.name}": next(
            flag for flag in get_option(item).flags.split() if flag.startswith("--")
        )
        for group, names in read_toml(path).items()
        for item in dataclasses.fields(get_type_hints(Settings)[group])
        if item.name in names and get_option(item).command_line_only
    }


def read_toml(path: Path, *, reusable_only: bool = False) -> dict[str, dict[str, object]]:
    """Read a settings file as ``{group: {name: value}}``.

    With `reusable_only`, settings of the call that wrote the file (directories, identifier, dry
    run) and settings that only the command line sets are omitted. Raises `UsageError` if the file
    cannot be read, is not valid TOML, or has an unknown key.
    """
    tables = read_tables(path, "settings file")
    for group, names in tables.items():
        _check_keys(group, names, f"settings file {path}: ")
    if not reusable_only:
        return tables
    return {
        group: {
            item.name: names[item.name]
            for item in dataclasses.fields(get_type_hints(Settings)[group])
            if item.name in names
            and not get_option(item).per_call
            and not get_option(item).command_line_only
        }
        for group, names in tables.items()
    }


def _check_keys(group: str, names: object, source: str = "") -> None:
    """Raise `UsageError` with the most similar key if a setting ``group.name`` does not exist.

    `source` precedes the message.
    """
    groups = get_type_hints(Settings)
    existing_keys = [
        f"{existing_group}.{name}"
        for existing_group, group_class in groups.items()
        for name in get_type_hints(group_class)
    ]
    keys = [f"{group}.{name}" for name in names] if isinstance(names, Mapping) else [group]
    if not keys and group not in groups:
        keys = [group]
    for key in keys:
        if key not in existing_keys:
            fix = suggest_name(key, existing_keys) or (
                f"remove the setting. Sections: {', '.join(groups)}"
            )
            raise UsageError(f"{source}{key}", "unknown setting", fix)


def _absolute(path: Path) -> Path:
    """Return an absolute path with the home directory expanded."""
    return Path(os.path.abspath(os.path.expanduser(path)))


def _resolve_resources(resources: dict[str, Any]) -> None:
    """Fill in the values of the plugin file and of the machine."""
    if resources["use_plugin"] is not None:
        from bids_sr.config.plugin import Plugin

        plugin = Plugin.from_file(resources["use_plugin"])
        if not plugin.is_cluster:  # its settings are options as well
            resources["use_plugin"] = None
            resources["nprocs"] = resources["nprocs"] or plugin.n_procs
            resources["mem_gb"] = resources["mem_gb"] or plugin.memory_gb
    if resources["nprocs"] is None:
        resources["nprocs"] = machine.processors()
    # small batches train several times slower with two threads
    if resources["omp_nthreads"] is None:
        resources["omp_nthreads"] = 1


def analysis_digest(settings: Settings) -> str:
    """Return twelve hexadecimal digits that are equal for settings with the same results.

    The digits depend on methods, preprocessing, activation, evaluation, seed and `run.sloppy`, but
    not on paths, data selection or machine. A model, weights or a region given as a file are
    represented by their content.
    """
    text = json.dumps(_result_settings(settings), sort_keys=True)
    return _sha256(text.encode("utf-8"))[:12]


def list_unused_settings(settings: Settings, used_names: Collection[str]) -> list[str]:
    """Return changed settings of a level that uses only some settings, by section and name.

    `used_names` are settings that the level uses, such as ``evaluation.margin``.
    """
    defaults = Settings(paths=settings.paths, selection=settings.selection)
    return [name for name in differing_settings(defaults, settings) if name not in used_names]


def differing_settings(settings: Settings, other_settings: Settings) -> dict[str, str]:
    """Return the result-relevant settings that differ between two calls, as ``A and B``."""
    first, second = _result_settings(settings), _result_settings(other_settings)
    return {
        key: f"{first.get(key)} and {second.get(key)}"
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    }


def _result_settings(settings: Settings) -> dict[str, object]:
    """Return the settings that determine the results, by ``group.name``.

    Files are represented by their content, and lists as sets, except for the factor.
    """
    values: dict[str, Any] = {}
    superres = settings.superres
    for group in dataclasses.fields(settings):
        section = getattr(settings, group.name)
        values |= {
            f"{group.name}.{item.name}": _to_comparable(getattr(section, item.name))
            for item in dataclasses.fields(section)
            if get_option(item).affects_results
        }
    # only the use of derivatives matters, not their location
    if settings.preprocessing.derivatives:
        values["preprocessing.derivatives"] = "taken over"
    if superres.calibration_file is not None:
        values["superres.calibration"] = _to_comparable(superres.calibration_file)
    # the numbers of a factor are ordered, and a single number is represented as in earlier
    # versions
    factor = superres.factor
    values["superres.factor"] = list(factor) if len(factor) > 1 else next(iter(factor), None)
    weights = (
        find_vgg19(get_method(name), superres.recipe, superres.vgg_weights)
        for name in superres.learned
    )
    used_weights = next(filter(None, weights), superres.vgg_weights)
    values["superres.vgg_weights"] = _to_comparable(used_weights)
    # a single region is represented as in earlier versions
    rois = [_to_comparable(Path(roi)) if is_file(roi) else roi for roi in settings.activation.roi]
    values["activation.roi"] = sorted(rois) if len(rois) > 1 else rois[0]
    return values


def _to_comparable(value: object) -> Any:
    """Return a value in a form that can be compared and written as JSON."""
    if isinstance(value, tuple):
        return sorted(map(_to_comparable, value))
    if isinstance(value, RecipeChange):
        return str(value)
    if isinstance(value, Path):
        return _sha256(value.read_bytes()) if value.is_file() else "a file that is not there"
    return value


def _sha256(content: bytes) -> str:
    """Return the SHA-256 digest as hexadecimal digits."""
    import hashlib

    return hashlib.sha256(content).hexdigest()
