"""The listing of a graph: who makes what, in the order of the processing, and nothing twice."""

from bids_sr.pipeline.artifacts import Image, Map
from bids_sr.pipeline.graph import Graph, Scope
from bids_sr.pipeline.listing import who_makes_what
from bids_sr.pipeline.step import Keep, step
from bids_sr.pipeline.store import store


@step(makes=("boldref", "count"), keep={"boldref": Keep({"desc": "hmc", "suffix": "boldref"})})
def average(bold: Image) -> tuple[Image, int]:
    """Two artifacts."""
    return bold, 1


def _of_series(setting):
    return {"desc": setting("series_name"), "suffix": "bold"}


@step(makes="series", keep={"series": Keep(_of_series)})
def resolve(boldref: Image, fine: Image | None = None, *, count: int, series_name: str) -> Image:
    """One series."""
    return boldref


@step(makes="maps", keep={"maps": Keep()})
def map_series(series: Image, *, fwhm_mm: float) -> list[Map]:
    """Its maps."""
    return []


@step()
def compare(maps: list[Map], series: dict[str, Image]) -> Image:
    """All of them."""
    return next(iter(series.values()))


def listed(tmp_path):
    root = Scope(
        "all_wf",
        {"output_dir": tmp_path, "entities": {"subject": "01", "task": "tap", "datatype": "func"}},
        store=store,
    )
    pair = root.within("pair_wf")
    pair.give(bold=tmp_path / "pair.nii")
    pair.add(average, rename={"boldref": "fine"})
    run = root.within("run_wf", beside=(pair,))
    run.give(bold=tmp_path / "bold.nii")
    run.add(compare, average)
    for name in ("bspline", "zerofill", "sbl"):
        own = run.within(name, series_name=name)
        own.add(resolve, wires={} if name == "sbl" else {"fine": ()})
        for width in (0, 5):
            own.within(f"fwhm{width}", fwhm_mm=width).add(map_series)
    return [str(line) for line in who_makes_what(Graph(root))]


def test_each_step_says_what_it_makes_of_what_and_under_which_name_it_is_kept(tmp_path):
    assert listed(tmp_path) == [
        "pair_wf",
        "  average: boldref [desc-hmc_boldref], count <- bold (given)",
        "run_wf",
        "  as in pair_wf: average",
        "  bspline, zerofill",
        "    resolve: series [desc-…_bold] <- count (average), boldref (average); series_name",
        "    fwhm0, fwhm5",
        "      map_series: maps [kept] <- series (resolve); fwhm_mm",
        "  sbl",
        (
            "    resolve: series [desc-…_bold] <- count (average), boldref (average), fine"
            " (average of pair_wf); series_name"
        ),
        "    as in bspline: fwhm0, fwhm5",
        "  compare: compare <- maps (map_series of 6 scopes), series (resolve of 3 scopes)",
    ]
