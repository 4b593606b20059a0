"""What a page of the documents says in its tables."""

import re
from pathlib import Path

Row = tuple[str, ...]


def tables(page: Path) -> dict[str, list[Row]]:
    """The tables of *page* whose rows begin with code, by the heading above; cells without backticks."""
    found: dict[str, list[Row]] = {}
    heading = ""
    for line in page.read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| `"):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found.setdefault(heading, []).append(tuple(cell.strip().replace("`", "") for cell in cells))
    return found
