"""What the guide for authors shows besides the package that it is made of."""

import logging
import re
from pathlib import Path
from typing import Any, cast

from mlopsd.probe import Context, Instruments

GUIDE = (Path(__file__).parents[2] / "docs/writing-a-probe.md").read_text("utf-8")


async def test_the_process_of_the_guide_answers(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(import sys\n.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "docs/writing-a-probe.md", "exec"), names)
    context = Context("loud", tmp_path, logging.getLogger("test"), {}, cast("Instruments", None))
    assert await names["louder"](context, b"anybody there?") == b"ANYBODY THERE?"
