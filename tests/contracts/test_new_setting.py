"""A new setting touches the two files that docs/extending.md names: the group that holds it, the step that uses it."""

import os
import subprocess
import sys
from pathlib import Path

from recipes import ROOT, hunks, patched

SCRIPT = """
import sys
from pathlib import Path

from bidsmaker import BidsMaker
from graphmaker import placed_of, planned_graph

import bids_sr
from bids_sr.cli.parser import build_parser, parse_settings
from bids_sr.config import Settings
from bids_sr.config.settings import analysis_digest, differing

assert Path(bids_sr.__file__).is_relative_to(sys.argv[1])
first = ["in", "out", "participant"]
plain, wide = parse_settings(first), parse_settings([*first, "--core_mm", "3"])
assert (plain.activation.core_mm, wide.activation.core_mm) == (1.5, 3.0)
assert analysis_digest(wide) != analysis_digest(plain)
assert differing(plain, wide) == ["activation.core_mm: 1.5 and 3.0"]
assert "--core-mm" not in build_parser().format_help()
assert "width of the core of a region (mm) (default: 1.5)" in " ".join(
    build_parser(everything=True).format_help().split()
)
Path("wide.toml").write_text(wide.to_toml())
assert Settings.from_toml(Path("wide.toml")) == wide
assert parse_settings([*first, "--config-file", "wide.toml"]).activation.core_mm == 3.0
maker = BidsMaker(Path("bids"))
maker.subject()
graph = planned_graph(maker, Path("out"), "--core-mm", "2.5")
assert {graph.settings[placed]["core_mm"] for placed in placed_of(graph, "map_series")} == {2.5}
"""


def test_a_field_and_a_keyword_are_all_that_a_setting_takes(tmp_path: Path) -> None:
    assert len({file for file, *_ in hunks("Add a setting")}) == 2
    package = patched("Add a setting", tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT / "tests")])}
    command = [sys.executable, "-c", SCRIPT, str(package)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
