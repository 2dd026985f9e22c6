import pytest
from data.short_run import make_run


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    """Folder of a short run; see `shortrun.make_run`."""
    return make_run(tmp_path_factory.mktemp("run"))
