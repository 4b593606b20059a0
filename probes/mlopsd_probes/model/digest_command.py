"""``mlopsd digest``: the digest of a version's files, and the tag of the version that has it."""

import asyncio
import json
import logging
import os
import re
import signal
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from mlopsd.probe import Options, ProbeError
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.registry.options import TRACKING_URI, InheritedRegistry, SignatureOptions, WantedModel
from mlopsd_probes.registry.pool import POOL
from mlopsd_probes.registry.provenance import DIGEST_TAG
from mlopsd_probes.registry.registries import FetchError, Registries, RegistryError
from mlopsd_probes.registry.version import File, Version, digest_of

VERSION = re.compile(r"models:/+(?P<model>[^/@]+)(?:/(?P<number>[^/@]+)|(?P<alias>@[^/@]+))")
TEMPORARY = "/var/tmp"  # on disk; /tmp is often in memory
TERMINATED = 128 + signal.SIGTERM

purpose = "print the digest of a model version's files, and set it as the version's tag"


@dataclass(frozen=True, slots=True)
class Digested:
    """A version whose digest is computed, and its files."""

    version: Version
    files: tuple[File, ...]

    def document(self, model: str, tag: str | None) -> str:
        """Return what ``--json`` prints."""
        found = self.version
        size = sum(file.size for file in self.files)
        of_version = {"model": model, "version": found.number, "registry": found.registry}
        of_files = {"digest": digest_of(self.files), "files": len(self.files), "bytes": size}
        return json.dumps({**of_version, **of_files, "tag": tag})


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the version, its registry and the tag."""
    parser.add_argument("uri", metavar="URI", help="the version: models:/wine/2 or models:/wine@champion")
    parser.add_argument(
        "--tag",
        nargs="?",
        const="",
        metavar="NAME",
        help=f"set the version's tag NAME to the digest (default: the table's digest_tag, or {DIGEST_TAG})",
    )
    parser.add_argument(
        "--registry",
        metavar="URI",
        help=f"the registry to ask (default: those of the table with this model, or ${TRACKING_URI})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with the number of files and bytes")
    parser.epilog = "exit status: 0 done, 1 failed, with the reason; nothing is left on disk"


def run(arguments: Namespace, configured: Callable[[], Mapping[str, Options]]) -> int:
    """Print the digest of a version, and set its tag.

    Raises:
        ProbeError: the version cannot be found or fetched, or its tag cannot be set.
    """
    if (parsed := VERSION.fullmatch(arguments.uri)) is None:
        fix = "write models:/NAME/VERSION or models:/NAME@ALIAS"
        raise ProbeError(f"cannot read the version {arguments.uri!r}: it is no URI of MLflow; {fix}")
    options = _options(arguments.registry, parsed["model"], configured)
    tag = None if arguments.tag is None else arguments.tag or options.digest_tag or DIGEST_TAG
    wanted = replace(
        options.wanted,
        candidates=(parsed["number"] or parsed["alias"],),
        require_tags={},
        digest_tag=None,
        signature=SignatureOptions(),
    )
    try:
        with tempfile.TemporaryDirectory(prefix="mlopsd-digest-", dir=_temporary()) as folder:
            done = asyncio.run(_digest(wanted, tag, Path(folder)))
    except OSError as error:
        fix = "set TMPDIR to a folder with room for the version"
        raise ProbeError(f"cannot fetch {arguments.uri}: {error.strerror or error}; {fix}") from error
    except asyncio.CancelledError:
        return TERMINATED
    print(done.document(wanted.name, tag) if arguments.json else digest_of(done.files))  # noqa: T201  # a command
    return 0


def _options(
    registry: str | None, model: str, configured: Callable[[], Mapping[str, Options]]
) -> ModelOptions:
    """Return the options of *model*: those of its table, without one those of MLflow's variables.

    Raises:
        ProbeError: there is no registry to ask.
    """
    if registry:
        os.environ.pop("MLFLOW_REGISTRY_URI", None)  # else the client would ask that one
        return ModelOptions(model=model, registries=(InheritedRegistry(uri=registry),))
    tables = (one for one in configured().values() if isinstance(one, ModelOptions) and one.model == model)
    if (table := next(tables, None)) is not None:
        return table
    try:
        return ModelOptions(model=model)
    except ValidationError as error:
        fix = f"add --registry URI, or set {TRACKING_URI}"
        raise ProbeError(f"cannot ask for {model}: no table of a model probe has it; {fix}") from error


def _temporary() -> str | None:
    """Return the folder for temporary folders; None for Python's own choice."""
    return None if "TMPDIR" in os.environ or not os.access(TEMPORARY, os.W_OK) else TEMPORARY


async def _digest(wanted: WantedModel, tag: str | None, folder: Path) -> Digested:
    """Fetch the version below *folder* and set its *tag*; end cleanly on SIGTERM.

    Raises:
        ProbeError: the version cannot be found or fetched, or its tag cannot be set.
    """
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    log = logging.getLogger("mlopsd.digest")
    registries = Registries(wanted, log, lambda *_: None, folder / "clients", "digest", pool=POOL)
    try:
        version = await _resolved(registries, wanted)
        done = Digested(version, await _fetched(registries, version, folder))
        if tag is not None:
            await _tag(registries, version, tag, digest_of(done.files))
    finally:
        await registries.close()
    return done


async def _resolved(registries: Registries, wanted: WantedModel) -> Version:
    resolution = await registries.resolve()
    if resolution.found is None:
        reasons = "; ".join(f"{one.registry}: {one.reason}" for one in resolution.complaints)
        raise ProbeError(f"cannot find {wanted.candidates[0]} of {wanted.name}: {reasons}")
    return resolution.found


async def _fetched(registries: Registries, version: Version, folder: Path) -> tuple[File, ...]:
    files = folder / "part" / "files"  # a download keeps its journal beside its folder
    files.mkdir(parents=True)
    try:
        return await registries.fetch(version, files, lambda *_: None)
    except FetchError as error:
        raise ProbeError(f"cannot fetch version {version.number} of {version.registry}: {error}") from error


async def _tag(registries: Registries, version: Version, tag: str, digest: str) -> None:
    try:
        await registries.tag(version, tag, digest)
    except RegistryError as error:
        raise ProbeError(f"cannot set the tag {tag} of version {version.number}: {error}") from error
    print(f"version {version.number} in {version.registry} has the tag {tag}", file=sys.stderr)  # noqa: T201  # a command
