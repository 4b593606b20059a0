"""What the Dockerfile says, for tests that have no engine to build it with."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction with what follows it, on one line."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, rest in lines]


def all_of(name: str) -> list[str]:
    """What follows each instruction *name*."""
    return [rest for known, rest in instructions() if known == name]


def environment() -> dict[str, str]:
    """What ENV sets."""
    (line,) = all_of("ENV")
    return dict(word.split("=", 1) for word in line.split())


def health_check() -> list[str]:
    """The command of HEALTHCHECK."""
    (line,) = all_of("HEALTHCHECK")
    command: list[str] = json.loads(line.partition("CMD ")[2])
    return command
