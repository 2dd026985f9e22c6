"""Which skips are expected, and that each tool without which tests are skipped has a job in CI."""

from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from pages import loaded

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def rules() -> ModuleType:
    """tests/conftest.py as a module of its own."""
    return loaded(ROOT / "tests" / "conftest.py")


def unexpected(rules: ModuleType, tools: str | None, *reasons: str) -> list[str]:
    """What is not expected of skips with these reasons."""
    skipped = [SimpleNamespace(nodeid="t", longrepr=("", 1, f"Skipped: {r}")) for r in reasons]
    reporter = SimpleNamespace(stats={"skipped": skipped})
    manager = SimpleNamespace(get_plugin=lambda name: reporter)
    config = SimpleNamespace(getoption=lambda name: tools, pluginmanager=manager)
    found: list[str] = rules._unexpected(config)
    return found


def test_a_skip_is_expected_only_for_want_of_a_tool_that_is_named(rules: ModuleType) -> None:
    reasons = "shellcheck is not installed", "root may write anywhere", "not today"
    assert unexpected(rules, None, *reasons) == []
    assert unexpected(rules, "browser,shellcheck", *reasons) == ["t: Skipped: not today"]
    assert unexpected(rules, "none", *reasons) == [
        "t: Skipped: shellcheck is not installed",
        "t: Skipped: not today",
    ]


def test_every_tool_has_a_job_in_which_no_skip_for_its_want_is_allowed(rules: ModuleType) -> None:
    jobs = yaml.safe_load((ROOT / ".circleci" / "config.yml").read_text())["jobs"]
    tools = str(jobs["tools"])
    assert "--strict-skips cgroups " in tools
    named = {
        "browser": "chromium",
        "axe": "BIDS_SR_AXE=",
        "shellcheck": "shellcheck",
        "slurm": "BIDS_SR_TEST_SLURM=",
    }
    assert all(text in tools for text in named.values())
    assert "BIDS_SR_TEST_CONTAINER=" in str(jobs["container"])
    assert "BIDS_SR_TEST_OTHERS=" in str(jobs["others"])
    assert "--strict-skips none" in str(jobs["others"])
    assert set(rules.WITHOUT) == {*named, "container", "cgroups", "others"}


def test_what_a_skip_says_is_what_the_tests_say(rules: ModuleType) -> None:
    """A reason that no test gives would allow nothing."""
    tests = "\n".join(
        path.read_text() for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)
    )
    for reasons in rules.WITHOUT.values():
        assert tests.count(reasons[0]) > 1, reasons[0]  # in the rules, and in a test
