"""A new setting of a step touches two files of the program: the group that holds it, and the step that uses it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIELD = """
    new_width: float = option(1.5, "--new-width MM", "a width that only a test knows (mm)")
    new_place: Path | None = option(None, "--new-place DIR", "a place only a test knows", decides=False, common=True)
"""
SCRIPT = """
from pathlib import Path

from bids_sr.cli.parser import build_parser, parse_settings
from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest, differing

first = ["in", "out", "participant"]
plain = parse_settings(first)
assert (plain.activation.new_width, plain.activation.new_place) == (1.5, None)
wide, there = parse_settings([*first, "--new-width", "3"]), parse_settings([*first, "--new_place", "here"])
assert (wide.activation.new_width, there.activation.new_place) == (3.0, Path("here"))
assert analysis_digest(wide) != analysis_digest(plain) == analysis_digest(there)
assert differing(plain, wide) == ["activation.new_width: 1.5 and 3.0"]
common, everything = build_parser().format_help(), build_parser(everything=True).format_help()
assert "--new-place" in common and "--new-width" not in common
assert "a width that only a test knows (mm) (default: 1.5)" in " ".join(everything.split())
Path("wide.toml").write_text(wide.to_toml())
assert Settings.from_toml(Path("wide.toml")) == wide
assert parse_settings([*first, "--config-file", "wide.toml"]).activation.new_width == 3.0
"""


def test_a_field_is_an_option_a_line_of_the_settings_file_and_a_part_of_the_digest(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bids_sr", tmp_path / "bids_sr", ignore=shutil.ignore_patterns("__pycache__", "*.nii.gz"))
    file = tmp_path / "bids_sr" / "config" / "groups.py"
    before, after = file.read_text().split("    seeds: tuple[str, ...]")
    file.write_text(f"{before}{FIELD}    seeds: tuple[str, ...]{after}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
