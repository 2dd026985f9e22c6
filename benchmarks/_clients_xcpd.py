"""In XCP-D's environment: files that XCP-D collects from derivatives, and its confounds of six
strategies.

PYTHON benchmarks/_clients_xcpd.py DERIVATIVES PARTICIPANT
    prints one JSON object per line: what, result
"""

import json
import os
import sys
import tempfile
import warnings

warnings.simplefilter("ignore")
import pandas as pd  # noqa: E402
import yaml  # noqa: E402
from bids.layout import BIDSLayout, Query  # noqa: E402
from bids.layout.index import BIDSLayoutIndexer  # noqa: E402
from xcp_d.data import load  # noqa: E402
from xcp_d.interfaces.censoring import GenerateConfounds, ProcessMotion  # noqa: E402
from xcp_d.utils.bids import collect_confounds, collect_data, collect_run_data  # noqa: E402

STRATEGIES = ("24P", "27P", "36P", "acompcor", "acompcor_gsr", "gsr_only")
OFF = {
    "motion_filter_type": None,
    "motion_filter_order": 4,
    "band_stop_min": None,
    "band_stop_max": None,
}


def print_line(call: str, result: str) -> None:
    print(json.dumps({"what": call, "result": result}), flush=True)


def main() -> None:
    folder, participant = os.path.abspath(sys.argv[1]), sys.argv[2]
    layout = BIDSLayout(
        folder,
        indexer=BIDSLayoutIndexer(validate=False),
        config=["bids", "derivatives", str(load("xcp_d_bids_config2.json"))],
    )
    data = collect_data(
        layout=layout,
        input_type="fmriprep",
        participant_label=participant,
        bids_filters={},
        file_format="nifti",
        anat_session=Query.NONE,
        func_sessions=[Query.NONE],
    )
    kinds = [name for name, value in data.items() if value]
    print_line("collect_data", f"{len(data['bold'])} series; found {', '.join(kinds)}")
    for bold in data["bold"]:
        confounds_of(bold, layout, folder)


def confounds_of(bold: str, layout: BIDSLayout, folder: str) -> None:
    """Compute the confounds of a run by each strategy."""
    space = layout.get_file(bold).get_entities()["space"]
    run = collect_run_data(layout=layout, bold_file=bold, file_format="nifti", target_space=space)
    print_line("collect_run_data", ", ".join(sorted(name for name, value in run.items() if value)))
    tr = layout.get_metadata(bold)["RepetitionTime"]
    os.chdir(tempfile.mkdtemp())
    ProcessMotion(
        TR=tr,
        fd_thresh=0.3,
        head_radius=50,
        motion_file=run["motion_file"],
        motion_json=run["motion_json"],
        **OFF,
    ).run()
    for name in STRATEGIES:
        spec = yaml.safe_load(load(f"nuisance/{name}.yml").read_text())
        try:
            interface = GenerateConfounds(
                in_file=bold,
                TR=tr,
                confounds_files=collect_confounds(bold, layout, None, spec),
                confounds_config=spec,
                dataset_links={"preprocessed": folder},
                out_dir=os.getcwd(),
                **OFF,
            ).run()
            rows, columns = pd.read_table(interface.outputs.confounds_tsv).shape
            print_line(f"confounds, {name}", f"{columns} columns of {rows} rows")
        except Exception as error:
            print_line(
                f"confounds, {name}",
                f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
            )


if __name__ == "__main__":
    main()
