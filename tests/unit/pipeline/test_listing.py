"""Listing of a graph: inputs and outputs of steps in processing order, without repetition."""

from pathlib import Path

from bids_sr.pipeline.artifacts import Image, Map
from bids_sr.pipeline.flow import Flow, concatenate, read_image, subworkflow
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.listing import describe_graph
from bids_sr.pipeline.nodes import Scope
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import step
from bids_sr.pipeline.store import store


@step(makes=("boldref", "count"))
def average(bold: Image) -> tuple[Image, int]:
    """Return two artifacts."""
    return bold, 1


@step(makes="series")
def resolve(boldref: Image, fine: Image | None = None, *, count: int, series_name: str) -> Image:
    """Return a series."""
    return boldref


@step(makes="maps")
def map_series(series: Image, *, fwhm_mm: float) -> list[Map]:
    """Return maps of a series."""
    return []


@step()
def compare(maps: list[Map], series: dict[str, Image]) -> Image:
    """Compare all maps."""
    return next(iter(series.values()))


def listing_of(tmp_path: Path) -> list[str]:
    """Return the listing of a pair and a run with three series and two smoothings."""
    entities = {"subject": "01", "task": "tap", "datatype": "func"}
    outputs = Outputs(output_dir=tmp_path, entities=entities)
    root = Scope("all_wf", store=store)
    with Flow(root):
        with subworkflow("pair_wf"):
            fine, _ = average(read_image(tmp_path / "pair.nii"))
            outputs.store(fine, {"desc": "hmc", "suffix": "boldref"})
        with subworkflow("run_wf"):
            boldref, count = average(read_image(tmp_path / "bold.nii"))
            outputs.store(boldref, {"desc": "hmc", "suffix": "boldref"})
            series, maps = {}, []
            for name in ("bspline", "zerofill", "sbl"):
                with subworkflow(name):
                    guide = fine if name == "sbl" else None
                    series[name] = resolve(boldref, guide, count=count, series_name=name)
                    outputs.store(series[name], {"desc": name, "suffix": "bold"})
                    for width in (0, 5):
                        with subworkflow(f"fwhm{width}"):
                            maps.append(map_series(series[name], fwhm_mm=width))
                            outputs.store(maps[-1])
            compare(concatenate(maps), series)
    return [str(line) for line in describe_graph(Graph(root))]


def test_the_listing_shows_inputs_outputs_and_stored_names_of_steps(
    tmp_path: Path,
) -> None:
    assert listing_of(tmp_path) == [
        "pair_wf",
        "  average: boldref [desc-hmc_boldref], count <- bold (given)",
        "run_wf",
        "  as in pair_wf: average",
        "  bspline, zerofill",
        "    resolve: series [desc-…_bold] <- boldref (average), count (average); series_name",
        "    fwhm0, fwhm5",
        "      map_series: maps [kept] <- series (resolve); fwhm_mm",
        "  sbl",
        (
            "    resolve: series [desc-…_bold] <- boldref (average), fine (average of"
            " pair_wf), count (average); series_name"
        ),
        "    as in bspline: fwhm0, fwhm5",
        "  compare: compare <- maps (map_series of 6 scopes), series (resolve of 3 scopes)",
    ]
