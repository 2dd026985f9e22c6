"""Advice on obtaining missing references."""

REFERENCE_ADVICE = (
    "specify a reference with --truth DIR, or use --retrospective, which downsamples the run"
    " and uses the run itself as the reference"
)
IMAGES_ADVICE = (
    "measured volumes (--truth, --retrospective) or a second T2*w pair (run-2) of the session"
)
CONTROLS_ADVICE = "To run negative controls, use --null-checks."
OTHER_RUN_ADVICE = "scan the task twice and keep both runs, with their events, in the dataset"
"""Advice for series of other programs, below the acquired Nyquist frequency."""
HIGHRES_RUN_ADVICE = (
    "measure the run at the high resolution, downsample it for the program, and specify the"
    " measurement with --truth DIR"
)
"""Advice for series of other programs, above the acquired Nyquist frequency."""
