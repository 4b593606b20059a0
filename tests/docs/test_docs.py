"""What the documents claim is compared with the code."""

import re
import subprocess
from pathlib import Path

import pytest

from mlopsd.metrics.families import BOARD_FAMILIES, FAMILIES

ROOT = Path(__file__).parents[2]
METRICS = ROOT / "docs/reference/metrics.md"
GUIDE = sorted((ROOT / "docs/extending").glob("*.md"))
PACKAGE = ROOT / "tests" / "packages" / "mlopsd-probe-neighbours"
FLEET = re.compile(r"^```yaml\n(# prometheus\.yml\n.*?)^```$", re.MULTILINE | re.DOTALL)
DATE = r"\d{4}-\d\d-\d\d"
STATUS = re.compile(rf"Status: \w+(?: by \[\d{{4}}\]\(\S+\))?\. Date: {DATE}(?:, changed {DATE})?\.")
TABLE = re.compile(r"(?:^\|.*\|$\n?)+", re.MULTILINE)
BLOCK = re.compile(r"^```(\w+) file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_guide_are_the_tested_package() -> None:
    found = [block for page in GUIDE for block in BLOCK.findall(page.read_text("utf-8"))]
    blocks = {file: code for language, file, code in found if language != "yaml"}
    assert len(blocks) == len([language for language, *_ in found if language != "yaml"])
    assert set(blocks) == {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.*") if path.suffix in (".py", ".toml")
    }
    for file, code in blocks.items():
        assert code == (PACKAGE / file).read_text("utf-8"), f"{file}: copy it into the guide"


def documents() -> list[Path]:
    return sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text("utf-8")):
        page = path.parent / target if target else path
        assert page.exists(), f"{path.name} links to {target}"
        assert not heading or heading in anchors(page), f"{path.name} links to {target}#{heading}"


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(path: Path) -> None:
    for rows in TABLE.findall(path.read_text("utf-8")):
        counts = {row: len(re.findall(r"(?<!\\)\|", row)) for row in rows.splitlines()}
        assert len(set(counts.values())) == 1, counts


def anchors(page: Path) -> list[str]:
    """The headings of *page* as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_metrics_of_the_daemon_are_those_of_the_document() -> None:
    rows = re.findall(r"^\| `(mlopsd_\w+)` \| (.*?) ?\| (.*) \|$", METRICS.read_text("utf-8"), re.MULTILINE)
    assert rows == [
        (family.name, ", ".join(f"`{label}`" for label in family.labels), family.help)
        for family in (*BOARD_FAMILIES, *FAMILIES)
    ]


def test_what_the_page_on_security_says_was_tried_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "docs/guides/security.md").read_text("utf-8"))
    assert {f"tests/hostile/{path.name}" for path in (ROOT / "tests/hostile").glob("test_*.py")} <= set(named)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


def test_decisions_are_short_and_numbered_and_say_their_status() -> None:
    paths = sorted(ROOT.glob("docs/internals/decisions/*.md"))
    assert [int(path.name[:4]) for path in paths] == list(range(1, len(paths) + 1))
    for path in paths:
        text = path.read_text("utf-8")
        title, status, *rest = text.splitlines()
        assert title.startswith(f"# {int(path.name[:4])}. "), path.name
        assert STATUS.fullmatch(status), path.name
        assert len(rest) <= 20, path.name
        parts = re.findall(r"^\*\*([\w ]+)\.\*\*", text, re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences", "Looked at"], path.name


@pytest.mark.needs("promtool")
def test_prometheus_understands_the_configurations_for_a_fleet(tmp_path: Path) -> None:
    pages = [ROOT / "docs/guides" / name for name in ("prometheus-grafana.md", "fleet.md")]
    blocks = [block for page in pages for block in FLEET.findall(page.read_text("utf-8"))]
    assert len(blocks) == 3
    for text in blocks:
        (tmp_path / "prometheus.yml").write_text(text, "utf-8")
        command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_every_core_module_says_what_it_is() -> None:
    for path in [*ROOT.glob("mlopsd/**/*.py"), *ROOT.glob("probes/**/*.py")]:
        assert path.read_text("utf-8").startswith('"""'), path


@pytest.mark.parametrize(
    ("part", "guide"),
    [
        ("docker", "docker"),
        ("haproxy", "load-balancer"),
        ("kubernetes", "kubernetes"),
        ("nagios", "nagios"),
        ("slurm", "slurm"),
    ],
)
def test_every_file_to_deploy_with_is_named_in_its_guide(part: str, guide: str) -> None:
    page = (ROOT / f"docs/guides/{guide}.md").read_text("utf-8")
    shipped = [path for path in (ROOT / "deploy" / part).rglob("*") if path.is_file()]
    assert shipped
    assert [path.name for path in shipped if str(path.relative_to(ROOT)) not in page] == []
