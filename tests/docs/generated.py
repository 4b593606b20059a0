"""What is made from the code: tables of the reference, completions and the man page.

``python -m tests.docs.generated`` writes them.
"""

import re
from argparse import Action, ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mlopsd.cli.demo.folder import default_folder
from mlopsd.config.schema import ProbeTable
from mlopsd.metrics.families import BOARD_FAMILIES, FAMILIES
from tests.docs import shell_files
from tests.docs.shell_files import sentence, usage

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
SHELL = ROOT / "mlopsd/cli/install/shell"
PAGES = ("command-line.md", "configuration.md", "metrics.md")
PART = re.compile(r"(?<=<!-- begin )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
KEY = re.compile(r"^((?:# .*\n)+)#(\w+) = (.*)$", re.MULTILINE)
Row = Iterable[str]


def table(head: str, rows: Iterable[Row]) -> str:
    """Return a table under *head*, whose cells are separated by bars."""
    columns = head.count("|") + 1
    lines = [f"| {head} |", f"|{' --- |' * columns}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "".join(f"{line}\n" for line in lines)


def daemon_metrics() -> str:
    """Return the metrics of the daemon itself."""
    families = (*BOARD_FAMILIES, *FAMILIES)
    return table("metric | labels | what", ((_code(f.name), _codes(f.labels), f.help) for f in families))


def keys(name: str) -> str:
    """Return the keys of the table *name* of config.toml; of a probe's table, those of every probe."""
    text = (ROOT / "config.toml").read_text("utf-8")
    part = re.split(r"^#?\[+([\w.]+)\]+$", text, flags=re.MULTILINE)
    own = dict(zip(["", *part[1::2]], part[0::2], strict=True))[name]
    found = [match for match in KEY.findall(own) if not name.startswith("probes.") or match[1] in _common()]
    return table("key | default | meaning", (_key(*match) for match in found))


def _common() -> set[str]:
    return set(ProbeTable.model_fields)


def _key(comment: str, key: str, value: str) -> Row:
    meaning = " ".join(line.removeprefix("# ") for line in comment.splitlines())
    default = f"none; for example {_code(value)}" if "off unless set" in meaning else _code(value)
    return _code(key), default, meaning


def commands() -> str:
    """Return every command with its arguments and exit status."""
    return "\n".join(_command(name, parser) for name, parser in shell_files.parsers())


def _command(name: str, parser: ArgumentParser) -> str:
    rows = [(_code(usage(action)), _help(action)) for action in parser._actions if action.dest != "help"]
    head = f"## mlopsd {name}\n{sentence(parser.description or '')}\n\n"
    return f"{head}{table('argument | what', rows)}\n{sentence(parser.epilog or '')}\n"


def _help(action: Action) -> str:
    shown = (action.help or "").replace(str(default_folder()), "`~/.local/state/mlopsd-demo`")
    return shown.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _codes(names: Iterable[str]) -> str:
    return ", ".join(map(_code, names))


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "daemon_metrics": daemon_metrics,
    "daemon_keys": lambda: keys(""),
    "api_keys": lambda: keys("api"),
    "metrics_keys": lambda: keys("metrics"),
    "log_keys": lambda: keys("log"),
    "probe_keys": lambda: keys("probes.system"),
}


def written() -> Iterator[tuple[Path, str]]:
    """Yield each page, and each file of a shell, with its text as it should be."""
    yield from pages()
    for name, text in shell_files.files():
        yield SHELL / name, text


def pages() -> Iterator[tuple[Path, str]]:
    """Yield each page with its text as it should be."""
    for name in PAGES:
        path = REFERENCE / name
        text = path.read_text("utf-8")
        yield path, PART.sub(lambda found: f"{found[1]}{found[2]}{PARTS[found[1]]()}", text)


if __name__ == "__main__":
    for path, text in written():
        path.write_text(text, "utf-8")
