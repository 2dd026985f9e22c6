"""The command line of AWS accepts the job definition; nothing is submitted."""

import json
from pathlib import Path

import pytest
from pages import RECIPES, Run, scripts

pytestmark = pytest.mark.slow


def test_a_job_definition_is_accepted(run: Run, tmp_path: Path) -> None:
    [text] = scripts(RECIPES / "aws.md", "json")
    (tmp_path / "job.json").write_text(text)
    words = ("--cli-input-json", "file://job.json", "--generate-cli-skeleton", "output")
    region = {"AWS_DEFAULT_REGION": "eu-central-1"}
    done = run("aws", "batch", "register-job-definition", *words, **region)
    assert done.returncode == 0, done.stdout
    wrong = {**json.loads(text), "kind": "container"}
    (tmp_path / "job.json").write_text(json.dumps(wrong))
    assert "kind" in run("aws", "batch", "register-job-definition", *words, **region).stdout
