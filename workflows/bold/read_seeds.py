"""Runs without events: the time series of seeds, or of temporal components, in the place of conditions."""

from collections.abc import Sequence

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.seeds_of_run import ComponentSeries, SeedSeries
from bids_sr.workflows.input_plans import Seed
from bids_sr.workflows.wiring import one_step, same


def init_seeds_wf(*, seeds: Sequence[Seed], name: str = "seeds_wf") -> LiterateWorkflow:
    """Read the time series that the maps of a run without events are about, from the acquired series.

    Parameters
    ----------
    seeds : name, center (RAS mm) and radius (mm) of spheres in the template; none: the leading temporal components of
        the run take their place
    name : of the workflow

    Inputs
    ------
    preproc_file : acquired series, head motion undone, dummies included
    bold_mask : brain on its grid
    n_dummy : volumes at the start that are left out
    boldref2t1w_xfm, t1w2std_xfm : take a T1w point to its boldref point, and a template point to its T1w point; only
        with seeds

    Outputs
    -------
    out_file : a column a seed, a row a volume
    out_json : what the columns are, and where
    """
    fields = same("bold_mask", "n_dummy", preproc_file="in_file")
    outputs = same("out_file", "out_json")
    if not seeds:
        text = (
            "The run has no events and no anatomical image that leads to seeds: maps are those of its leading temporal "
            "components.\n"
        )
        return one_step(name, text, pe.Node(ComponentSeries(), name="components"), inputs=fields, outputs=outputs)
    names, centers, radii = zip(*seeds, strict=True)
    places = ", ".join(f"{each} ({' '.join(f'{mm:g}' for mm in center)})" for each, center, _ in seeds)
    text = (
        f"The run has no events: maps are those of functional connectivity [@biswal1995] with seeds of {radii[0]:g} mm "
        f"radius at MNI coordinates [@vandijk2010] {places}. A seed's time series was read once from the acquired "
        "series and took the place of a condition in the maps of every series; halves of the run are made of segments "
        "of some 30 s.\n"
    )
    step = SeedSeries(names=list(names), centers=[list(center) for center in centers], radii_mm=list(radii))
    placed = same("boldref2t1w_xfm", "t1w2std_xfm")
    return one_step(name, text, pe.Node(step, name="read_seeds"), inputs=[*fields, *placed], outputs=outputs)
