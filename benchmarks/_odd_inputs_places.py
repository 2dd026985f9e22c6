"""Kinds of odd places and environments: links, settings of others, variables, hostile files.

Rows of `KINDS`, as in `_odd_inputs_kinds`. Importing the module enters them.
"""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

from _odd_inputs_kinds import Right, Rng, kind, pick
from data.simulated_run import Scene


def _make_started_output(scene: Scene) -> Path:
    """Return the output folder, as a call leaves it that was stopped at its start."""
    out = scene.root / "out"
    (out / "logs" / "stopped").mkdir(parents=True)
    (out / "logs" / "stopped" / "settings.toml").write_text("")
    return out


@kind("options")
def plugin_in_settings(rng: Rng, scene: Scene, right: Right) -> None:
    """Name a SLURM plugin in a settings file of somebody else."""

    def edit(scene: Scene) -> None:
        plugin = scene.root / "plugin.toml"
        plugin.write_text('plugin = "SLURM"\n[plugin_args]\ntemplate = "#!/bin/bash\\n"\n')
        settings = scene.root / "settings.toml"
        settings.write_text(f'[resources]\nuse_plugin = "{plugin}"\n')

    scene.edits.append(edit)
    scene.options += ["--config-file", str(scene.root / "settings.toml")]
    right.notices.append("use_plugin of this file is not used|give --use-plugin")


@kind("out", "data set")
def link_into_the_data(rng: Rng, scene: Scene, right: Right) -> None:
    """Let a folder of OUT be a link into the data set."""
    place, target = pick(
        rng,
        (
            ("sub-01", "sub-01"),
            ("sub-01/func", "sub-01/func"),
            ("sub-01/figures", "sub-01/func"),
        ),
    )

    def edit(scene: Scene) -> None:
        link = _make_started_output(scene) / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(scene.bids / target)

    scene.edits.append(edit)
    right.refused.append("it is a link to .* in the input data")


@kind("out")
def link_to_scratch(rng: Rng, scene: Scene, right: Right) -> None:
    """Let a folder of OUT be a link to another disk."""
    place = pick(rng, ("sub-01", "sub-01/func", "sourcedata"))

    def edit(scene: Scene) -> None:
        target, link = scene.root / "scratch", _make_started_output(scene) / place
        target.mkdir()
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)

    scene.edits.append(edit)


@kind("out")
def nested_description(rng: Rng, scene: Scene, right: Right) -> None:
    """Nest the description of OUT too deeply for a parser."""

    def edit(scene: Scene) -> None:
        path = scene.root / "out" / "dataset_description.json"
        path.parent.mkdir(parents=True)
        path.write_text("[" * 100_000 + "]" * 100_000)

    scene.edits.append(edit)
    right.refused.append("dataset_description.json.*nested too deeply")


@kind("ignored files")
def odd_lines_of_bidsignore(rng: Rng, scene: Scene, right: Right) -> None:
    """Write patterns that end early or run backward into .bidsignore."""
    line = pick(rng, ("[1", "[z-a]", "*/[!", "**/[b-a]*"))
    scene.edits.append(lambda scene: (scene.bids / ".bidsignore").write_text(f"{line}\nextra/\n"))
    # the kind's own data set is validated only without --skip-bids-validation
    right.absent.append("Traceback")


@kind("environment")
def variables_of_a_notebook(rng: Rng, scene: Scene, right: Right) -> None:
    """Set the variables of a notebook server or of another program."""
    right.environment = pick(
        rng,
        (
            {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
            {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"},
            {"GOMP_CPU_AFFINITY": "0", "KMP_AFFINITY": "compact"},
            {"SBATCH_TIMELIMIT": "1", "SBATCH_ARRAY_INX": "1"},
        ),
    )


@kind("environment", depths=("end",))
def secret(rng: Rng, scene: Scene, right: Right) -> None:
    """Keep a password in the environment, which no file may contain."""
    password = f"pass-{rng.integers(1 << 60):x}"
    right.environment = {"DATABASE_PASSWORD": password}

    def search(scene: Scene) -> str:
        places = [scene.root / name for name in ("out", "work")]
        paths = (path for place in places for path in place.rglob("*") if path.is_file())
        leaks = [path.name for path in paths if password.encode() in _unpacked(path)]
        return f"{leaks[0]} and {len(leaks) - 1} more contain the password" if leaks else ""

    right.after.append(search)


def _unpacked(path: Path) -> bytes:
    """Return the content of a file, unpacked if it is packed by gzip or zlib."""
    content = b"" if os.path.islink(path) else path.read_bytes()
    for unpack in (gzip.decompress, zlib.decompress):
        try:
            return unpack(content)
        except (OSError, EOFError, zlib.error):
            continue
    return content
