"""Expected skips of tests, and CI jobs for all tools whose absence skips tests."""

from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from pages import loaded

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    """Return tests/conftest.py as a separate module."""
    return loaded(ROOT / "tests" / "conftest.py")


def unexpected(rules: ModuleType, tools: str | None, *reasons: str) -> list[str]:
    """Return the skips with these reasons that are not expected."""
    skipped = [SimpleNamespace(nodeid="t", longrepr=("", 1, f"Skipped: {r}")) for r in reasons]
    reporter = SimpleNamespace(stats={"skipped": skipped})
    manager = SimpleNamespace(get_plugin=lambda name: reporter)
    config = SimpleNamespace(getoption=lambda name: tools, pluginmanager=manager)
    skips: list[str] = rules._unexpected(config)
    return skips


def test_only_skips_for_listed_missing_tools_are_expected(rules: ModuleType) -> None:
    reasons = "shellcheck is not installed", "root may write anywhere", "not today"
    assert unexpected(rules, None, *reasons) == []
    assert unexpected(rules, "browser,shellcheck", *reasons) == ["t: Skipped: not today"]
    assert unexpected(rules, "none", *reasons) == [
        "t: Skipped: shellcheck is not installed",
        "t: Skipped: not today",
    ]


def test_all_tools_have_a_job_that_forbids_skips_without_the_tool(rules: ModuleType) -> None:
    jobs = yaml.safe_load((ROOT / ".circleci" / "config.yml").read_text())["jobs"]
    tools = str(jobs["tools"])
    assert "--strict-skips cgroups " in tools
    markers = {
        "browser": "chromium",
        "axe": "BIDS_SR_AXE=",
        "shellcheck": "shellcheck",
        "slurm": "BIDS_SR_TEST_SLURM=",
    }
    assert all(text in tools for text in markers.values())
    assert "BIDS_SR_TEST_CONTAINER=" in str(jobs["container"])
    assert set(rules.WITHOUT) == {*markers, "container", "cgroups"}


def test_listed_reasons_of_skips_occur_in_tests(rules: ModuleType) -> None:
    """Otherwise, a listed reason would allow nothing."""
    tests = "\n".join(
        path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)
    )
    for reasons in rules.WITHOUT.values():
        assert tests.count(reasons[0]) > 1, reasons[
            0
        ]  # once in the rules, at least once in a test
