"""A small simulated subject, shared by tests that do not modify it."""

from __future__ import annotations

import pytest

from bids_sr.phantom.bold_run import SimulatedRun, simulate_bold_run
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_subject import SimulatedSubject


@pytest.fixture(scope="session")
def subject() -> SimulatedSubject:
    return SimulatedSubject(PRESETS["tiny"], "ribbon", seed=3)


@pytest.fixture(scope="session")
def null_subject() -> SimulatedSubject:
    return SimulatedSubject(PRESETS["tiny"], "ribbon", seed=3, null=True)


@pytest.fixture(scope="session")
def run(subject: SimulatedSubject) -> SimulatedRun:
    return simulate_bold_run(subject)


@pytest.fixture(scope="session")
def null_run(null_subject: SimulatedSubject) -> SimulatedRun:
    return simulate_bold_run(null_subject)
