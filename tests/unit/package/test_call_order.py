"""The check of the order of functions in a file."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "call_order.py"
HELPER = "def helper():\n    return 1\n"
CALLER = "def caller():\n    return helper()\n"
METHOD = "    def _helper(self):\n        pass\n"
CALLING_METHOD = "    def call(self):\n        self._helper()\n"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (CALLER + HELPER, 0),
        (HELPER + CALLER, 1),
        ("class Record:\n" + CALLING_METHOD + METHOD, 0),
        ("class Record:\n" + METHOD + CALLING_METHOD, 1),
        (HELPER.replace("1", "caller()") + CALLER, 0),  # each calls the other
        (HELPER + "VALUE = helper()\n" + CALLER.replace("()", "(value=VALUE)", 1), 0),
        (HELPER + "VALUE = helper()\n" + CALLER, 1),
        (HELPER + CALLER.replace("()", "(helper)", 1), 0),  # a parameter has the name
    ],
)
def test_calls_that_lead_up_need_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str, exit_code: int
) -> None:
    file = tmp_path / "module.py"
    file.write_text(code)
    assert runpy.run_path(str(SCRIPT))["main"]([str(file)]) == exit_code
    assert (f"{file}: " in capsys.readouterr().out) == bool(exit_code)
