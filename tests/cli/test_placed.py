"""The record of what was installed."""

from pathlib import Path

import pytest

from mlopsd.cli.failure import Failure
from mlopsd.cli.placed import Placed
from mlopsd.cli.steps import Steps


def test_a_record_that_was_cut_is_one_line_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "record").write_text('{"/etc/mlopsd/config.toml": "ab', "ascii")
    with pytest.raises(Failure, match="it is not what was written; become root, or remove it"):
        Placed(tmp_path / "record", Steps(dry_run=True))


def test_before_the_first_installation_there_is_none(tmp_path: Path) -> None:
    Placed(tmp_path / "record", Steps(dry_run=True))
