"""What the documents claim is compared with the code."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "writing-a-probe.md"
PACKAGE = ROOT / "tests" / "packages" / "mlopsd-probe-neighbours"
BLOCK = re.compile(r"^```(\w+) file=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_guide_are_the_tested_package() -> None:
    blocks = {file: code for _, file, code in BLOCK.findall(GUIDE.read_text("utf-8"))}
    assert set(blocks) == {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.*") if path.suffix in (".py", ".toml")
    }
    for file, code in blocks.items():
        assert code == (PACKAGE / file).read_text("utf-8"), f"{file}: copy it into {GUIDE.name}"


def documents() -> list[Path]:
    return sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_decisions_are_short_and_numbered() -> None:
    for path in ROOT.glob("docs/decisions/*.md"):
        text = path.read_text("utf-8")
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        assert len(text.splitlines()) <= 40, path.name


def test_every_core_module_says_what_it_is() -> None:
    for path in [*ROOT.glob("mlopsd/**/*.py"), *ROOT.glob("probes/**/*.py")]:
        assert path.read_text("utf-8").startswith('"""'), path
