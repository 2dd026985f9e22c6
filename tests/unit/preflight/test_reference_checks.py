"""Known activation requires a linear model; the plan contains a notice if there is none."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bids_sr.bids import Findings
from bids_sr.bids.inputs import HighresReference
from bids_sr.cli.parser import parse_settings
from bids_sr.preflight.reference_checks import note_unused_reference

KNOWN = HighresReference(root=Path("truth"), activations={"thumb": Path("thumb.nii.gz")})
MEASURED: Any = SimpleNamespace(
    root=Path("truth"), activations=KNOWN.activations, series=SimpleNamespace()
)


@pytest.mark.parametrize(
    ("options", "truths", "noted"),
    [
        ("--set activation.kinds=cc", (KNOWN, KNOWN), True),
        ("--config-file ota2022", (KNOWN,), True),
        ("--set activation.kinds=[cc,glm]", (KNOWN,), False),
        ("", (KNOWN,), False),
        ("--set activation.kinds=cc", (MEASURED,), False),
        ("--set activation.kinds=cc", (None,), False),
    ],
)
def test_known_activation_without_a_linear_model_is_noted_once(
    options: str, truths: tuple[Any, ...], noted: bool
) -> None:
    settings = parse_settings(["in", "out", "participant", *options.split()])
    subject: Any = SimpleNamespace(runs=[SimpleNamespace(truth=truth) for truth in truths])
    findings = Findings()
    note_unused_reference(settings, [subject], findings)
    assert [notice.what for notice in findings.notices] == ["truth"] * noted
    assert all("--set 'activation.kinds=[cc, glm]'" in notice.why for notice in findings.notices)
