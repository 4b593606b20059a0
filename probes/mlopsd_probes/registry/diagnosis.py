"""Ask each configured registry once, with its credentials, without a daemon."""

import asyncio
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from mlopsd.probe import Diagnosis
from mlopsd_probes.registry.options import InheritedRegistry, RegistryOptions, WantedModel
from mlopsd_probes.registry.pool import ClientPool
from mlopsd_probes.registry.registries import ANSWERS, Registries, Resolution

OF_CREDENTIALS = frozenset({"auth", "forbidden", "no_credentials"})
FILES = ("password_file", "token_file", "ca_file", "client_cert_file", "client_key_file")
ELSEWHERE = "its credentials may be in the daemon's environment, which this user cannot read"


def diagnose(
    tables: Mapping[str, WantedModel], scratch: Path, *, has_environment: bool
) -> Iterator[Diagnosis]:
    """Yield whether each registry of each table answers, and whether one of them has the model."""
    for name, resolutions in asyncio.run(_resolve_all(tables, scratch)).items():
        wanted = tables[name]
        for registry, found in zip(wanted.registries, resolutions, strict=True):
            yield _judge(name, registry, found, has_environment=has_environment)
        answered = [found for found in resolutions if isinstance(found, Resolution)]
        if len(answered) == len(resolutions) and all(found.is_denial for found in answered):
            reason = answered[0].complaints[0].reason
            cause, fix = _split(reason, name)
            yield Diagnosis("problem", f"{name}: no registry has a version to serve: {cause}", fix)


async def _resolve_all(
    tables: Mapping[str, WantedModel], scratch: Path
) -> Mapping[str, list[Resolution | str]]:
    """Return the answer of each registry, or the reason why it is not asked."""
    work = {
        name: asyncio.gather(*(_resolve(name, wanted, one, scratch) for one in wanted.registries))
        for name, wanted in tables.items()
    }
    return {name: list(await found) for name, found in work.items()}


async def _resolve(
    name: str, wanted: WantedModel, registry: RegistryOptions, scratch: Path
) -> Resolution | str:
    if hidden := _unreadable(registry):
        return f"this user may not read {hidden}; run this command as root"
    log = logging.getLogger("mlopsd.doctor")
    alone = replace(wanted, registries=(registry,))
    folder = scratch / name / str(wanted.registries.index(registry))
    registries = Registries(alone, log, lambda *_: None, folder, name, pool=ClientPool())
    try:
        return await registries.resolve()
    finally:
        await registries.close()


def _unreadable(registry: RegistryOptions) -> Path | None:
    """Return a file of *registry* that exists, as far as this user can know, and may not be read."""
    files = (file for name in FILES if (file := getattr(registry, name)) is not None)
    return next((file for file in files if _is_hidden(file)), None)


def _is_hidden(file: Path) -> bool:
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def _judge(
    name: str, registry: RegistryOptions, found: Resolution | str, *, has_environment: bool
) -> Diagnosis:
    what = f"{name}: the registry {registry.label}"
    if isinstance(found, str):
        return Diagnosis("not_checked", f"{what}: {found}")
    if found.found is not None:
        version = f"version {found.found.number} is {found.found.candidate}"
        return Diagnosis("ok", f"{what} answers: {version}")
    complaint = next((one for one in found.complaints if one.kind not in ANSWERS), None)
    if complaint is None:
        return Diagnosis("ok", f"{what} answers: {found.complaints[0].reason.partition(';')[0]}")
    is_inherited = isinstance(registry, InheritedRegistry)
    if not has_environment and (is_inherited or complaint.kind in OF_CREDENTIALS):
        return Diagnosis("not_checked", f"{what}: {ELSEWHERE}; run this command as root")
    if complaint.cause.at_fault == "host" and complaint.kind not in OF_CREDENTIALS:
        return Diagnosis("not_checked", f"{what} could not be asked from here: {complaint.reason}")
    cause, fix = _split(complaint.reason, name)
    return Diagnosis("problem", f"{what} gives no version: {cause}", fix)


def _split(reason: str, name: str) -> tuple[str, str]:
    """Return the cause and the fix in *reason*; without one the command that checks the table."""
    cause, _, fix = reason.partition("; ")
    return cause, fix or f"mlopsd check {name}"
