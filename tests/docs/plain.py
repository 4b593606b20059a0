"""A count of the long and the inverted sentences in the documents: ``python -m tests.docs.plain``."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_WORDS = 25
MOST_CHARACTERS = 400
SHARE = 0.03

SKIPPED = re.compile(r"^ *(```|~~~).*?^ *\1|<!--.*?-->", re.MULTILINE | re.DOTALL)
NOT_PROSE = re.compile(r"\s*(#+ |\||!!! |\? ?\?\?\? |---$)")
LIST_ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.) +")
CODE = re.compile(r"(`+).+?\1")
LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")
END_OF_SENTENCE = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?:(?<=[.!?])|(?<=[.!?][)\"])|(?<=[.!?]\*\*))\s+")
INVERTED = re.compile(r"\W*(?:What|Who|Whom|Whose|Where|Which|Whether)(?:ever)?\b")


@dataclass(frozen=True, slots=True)
class Count:
    """The sentences of one page, and those of them that a reader has to read twice."""

    sentences: int
    long: tuple[str, ...]
    inverted: tuple[str, ...]
    walls: tuple[str, ...]

    def exceeds(self, found: tuple[str, ...]) -> bool:
        """Return whether *found* is too large a share of the sentences."""
        return len(found) > 0 and len(found) >= SHARE * self.sentences


def pages() -> list[Path]:
    """Return the pages at the top and those below docs/."""
    return [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]


def blocks(page: str) -> list[str]:
    """Return the paragraphs and list items of *page*, without code blocks, tables and headings."""
    found: list[str] = []
    is_open = False
    for line in SKIPPED.sub("\n", page).splitlines():
        if not line.strip() or NOT_PROSE.match(line):
            is_open = False
        elif is_open and not LIST_ITEM.match(line):
            found[-1] += f" {line.strip()}"
        else:
            found.append(LIST_ITEM.sub("", line, count=1).strip())
            is_open = True
    return found


def sentences(block: str) -> list[str]:
    """Return the sentences of *block*. A piece of inline code counts as one word."""
    text = LINK.sub(r"\1", CODE.sub("CODE", block))
    return [sentence for sentence in END_OF_SENTENCE.split(text) if words(sentence)]


def words(sentence: str) -> int:
    """Return how many words *sentence* has. A dash or a lone sign is no word."""
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def is_inverted(sentence: str) -> bool:
    """Return whether *sentence* opens with a relative clause in the place of its subject."""
    return INVERTED.match(sentence) is not None and not sentence.rstrip('*")”').endswith("?")


def count(page: str) -> Count:
    """Count the sentences of *page*."""
    found = [sentence for block in blocks(page) for sentence in sentences(block)]
    return Count(
        len(found),
        tuple(sentence for sentence in found if words(sentence) > MOST_WORDS),
        tuple(sentence for sentence in found if is_inverted(sentence)),
        tuple(block for block in blocks(page) if len(block) > MOST_CHARACTERS),
    )


def main() -> None:
    """Print the figures of each page."""
    print(f"{'sentences':>9} {'long':>5} {'inverted':>8} {'walls':>5}  page")
    for path in pages():
        page = count(path.read_text("utf-8"))
        row = f"{page.sentences:9} {len(page.long):5} {len(page.inverted):8} {len(page.walls):5}"
        print(f"{row}  {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
