"""A new setting touches three files: the group of settings, the step that uses it, and the
workflow that passes it on; a new default touches one line (docs/extending.md).
"""

from pathlib import Path

from recipes import copy_with, files_of, told_by

TITLE = "Add a setting"
SCRIPT = """
from pathlib import Path

import numpy as np
from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph
from data.maps import mapped

from bids_sr.cli.parser import build_parser, parse_settings
from bids_sr.config import Settings, UsageError
from bids_sr.config.settings import analysis_digest, differing_settings
from bids_sr.io.volume import Volume
from bids_sr.steps.clusters import list_clusters

first = ["in", "out", "participant"]
plain, fewer = parse_settings(first), parse_settings([*first, "--set", "activation.n_clusters=3"])
assert (plain.activation.n_clusters, fewer.activation.n_clusters) == (10, 3)
assert analysis_digest(plain) != analysis_digest(fewer)
assert differing_settings(plain, fewer) == {"activation.n_clusters": "10 and 3"}
common, everything = build_parser().format_help(), build_parser(show_all=True).format_help()
assert "n_clusters" not in common
assert "n_clusters=10 clusters of each map that are listed" in " ".join(everything.split())
Path("fewer.toml").write_text(fewer.to_toml())
assert Settings.from_toml(Path("fewer.toml")) == fewer
assert parse_settings([*first, "--config-file", "fewer.toml"]).activation.n_clusters == 3

maker = BidsMaker(Path("data"))
maker.subject()
for options, clusters in (([], 10), (["--set", "activation.n_clusters=3"], 3)):
    graph = planned_graph(maker, Path("."), *options)
    (node,) = nodes_of(graph, "list_clusters")
    assert graph.settings[node]["n_clusters"] == clusters
    assert f"The {clusters} largest clusters of each map" in graph.methods_text()

values = np.zeros((20, 8, 8), np.float32)
values[::4, 3:5, 3:5] = np.arange(5, 10)[:, None, None]
affine = np.diag([3.0, 3.0, 3.0, 1.0])
maps = [
    mapped(Volume(data, affine), {**own, "desc": f"acquiredFwhm50{region}"})
    for data, region, own in (
        (values, "", {"contrast": "all", "stat": "z", "suffix": "statmap"}),
        (values > 0, "Fdr", {"label": "all", "suffix": "mask"}),
    )
]
for n_clusters in (10, 2):
    table, _ = list_clusters(maps, Path("."), method_names=[], n_clusters=n_clusters)
    assert table.peak.tolist() == ["9", "8", "7", "6", "5"][:n_clusters], table
try:
    parse_settings([*first, "--set", "activation.n_clusters=0"])
except UsageError as error:
    print(error)
"""


def test_the_setting_of_the_page_is_an_option_a_line_of_the_settings_file_and_reaches_its_step(
    tmp_path: Path,
) -> None:
    assert files_of(TITLE) == {
        "bids_sr/config/sections/activation.py",
        "bids_sr/steps/clusters.py",
        "workflows/map_run.py",
        "workflows/run_plan.py",
    }
    assert "--set activation.n_clusters: 0\n  why: expected at least 1" in told_by(
        copy_with(TITLE, tmp_path), SCRIPT
    )


DEFAULT = "Change a default"
DEFAULT_SCRIPT = """
from pathlib import Path

from data.dataset import BidsMaker
from graphmaker import nodes_of, planned_graph

from bids_sr.cli.parser import build_parser

assert "(default: 0 4)" in " ".join(build_parser(show_all=True).format_help().split())
maker = BidsMaker(Path("data"))
maker.subject()
graph = planned_graph(maker, Path("."))
widths = {graph.settings[node]["smoothing"] for node in nodes_of(graph, "map_series")}
assert widths == {(0.0, 4.0)}
assert "Gaussian smoothing with 4 mm FWHM" in graph.methods_text()
stored = {
    choice["desc"]
    for node in graph.nodes
    if node.name == "store_maps"
    for choice in graph.settings[node]["among"]
}
assert {"acquired", "acquiredFwhm40"} <= stored, stored
assert not any("Fwhm50" in desc for desc in stored), stored
"""


def test_the_default_of_the_page_reaches_help_maps_methods_text_and_names_of_files(
    tmp_path: Path,
) -> None:
    assert files_of(DEFAULT) == {"bids_sr/config/sections/activation.py"}
    told_by(copy_with(DEFAULT, tmp_path), DEFAULT_SCRIPT)


OTHER = "Add an option of another command"
OTHER_SCRIPT = """
import contextlib
import sys
from pathlib import Path

import numpy as np

from bids_sr.model_commands.cli.main import main, parsers
from bids_sr.io.nifti import save_image

assert "significant digits of the table (default: 5)" in " ".join(
    parsers()["evaluate"].format_help().split()
)
ball = 100.0 * (np.linalg.norm(np.indices((16, 16, 4)).T - [2, 8, 8], axis=-1).T < 6)
rng = np.random.default_rng(0)
save_image((ball + rng.normal(0, 1, ball.shape)).astype(np.float32), np.eye(4), Path("a_T1w.nii"))
widths = {}
for digits in (2, 5):
    argv = ["evaluate", "a_T1w.nii", "--degradation", "kspace", "-o", "a.tsv"]
    assert main([*argv, "--digits", str(digits)]) == 0
    heads, first = (line.split("\\t") for line in Path("a.tsv").read_text().splitlines()[:2])
    widths[digits] = len(dict(zip(heads, first, strict=True))["psnr"].replace(".", ""))
assert widths == {2: 2, 5: 5}, widths
with contextlib.redirect_stderr(sys.stdout):
    assert main(["evaluate", "a_T1w.nii", "--degradation", "kspace", "--digits", "0"]) == 2
"""


def test_the_option_of_another_command_is_a_field_and_its_use(tmp_path: Path) -> None:
    assert files_of(OTHER) == {
        "bids_sr/model_commands/cli/options.py",
        "bids_sr/model_commands/cli/evaluate.py",
    }
    assert "--digits: 0" in told_by(copy_with(OTHER, tmp_path), OTHER_SCRIPT)
