"""Runs without events: the time series of seeds, or of temporal components, in the place of conditions."""

from collections.abc import Sequence

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.seeds_of_run import ComponentSeries, SeedSeries
from bids_sr.workflows.input_plans import Acquisition, Seed
from bids_sr.workflows.wiring import one_step, same


def init_seeds_wf(
    *, seeds: Sequence[Seed], acquisition: Acquisition, high_pass: float, name: str = "seeds_wf"
) -> LiterateWorkflow:
    """Read the time series that the maps of a run without events are about, from the acquired series.

    Parameters
    ----------
    seeds : name, center (RAS mm) and radius (mm) of spheres in the template, or labels of the atlas; none: the leading
        temporal components of the run take their place
    acquisition, high_pass : how the run was acquired, and the slowest change (Hz) that is no drift
    name : of the workflow

    Inputs
    ------
    preproc_file : acquired series, head motion undone, dummies included
    bold_mask : brain on its grid
    n_dummy : volumes at the start that are left out
    boldref2t1w_xfm, t1w2std_xfm : take a T1w point to its boldref point, and a template point to its T1w point
    std2t1w_xfm, confounds_tsv : takes a T1w point to its template point; what the seeds are cleared of. These four
        only with seeds

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
    names, centers, radii, labels = zip(*seeds, strict=True)
    step = SeedSeries(
        names=list(names), centers=[list(center) for center in centers], radii_mm=list(radii),
        labels=[list(each) for each in labels], high_pass=high_pass, **acquisition.timing,
    )  # fmt: skip
    text = (
        f"The run has no events: maps are those of functional connectivity [@biswal1995] with {_places(seeds)}. A "
        "seed's time series was read once from the acquired series, drift and confounds were taken out, and it took "
        "the place of a condition in the maps of every series; halves of the run are made of segments of some 30 s.\n"
    )
    placed = same("boldref2t1w_xfm", "t1w2std_xfm", "std2t1w_xfm", "confounds_tsv")
    return one_step(name, text, pe.Node(step, name="read_seeds"), inputs=[*fields, *placed], outputs=outputs)


def _places(seeds: Sequence[Seed]) -> str:
    """Seeds as the methods text names them."""
    spheres = [
        f"{name} ({' '.join(f'{mm:g}' for mm in center)}; {radius:g} mm)"
        for name, center, radius, own in seeds
        if not own
    ]
    regions = [f"{name} ({' and '.join(own)})" for name, _, _, own in seeds if own]
    parts = [f"spherical seeds at MNI coordinates [@vandijk2010] {', '.join(spheres)}"] if spheres else []
    parts += [f"seed regions of the AAL2 atlas [@aal2] {', '.join(regions)}"] if regions else []
    return " and ".join(parts)
