"""Compare the NVIDIA GPUs on the PCI bus with those that the tables of the GPU probe watch."""

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from mlopsd.pci_bus import PciBus
from mlopsd.probe import Diagnosis, Setup
from mlopsd_probes.container import is_container
from mlopsd_probes.gpu.options import GpuOptions

SYSFS = GpuOptions().sysfs_path
SOME = "a container may have only some cards of its host, and sysfs shows all of them"
ADD_TABLE = "add this line to the configuration, then run mlopsd reload: [probes.gpu]"


def diagnose(setup: Setup[GpuOptions], sysfs: Path = Path(SYSFS)) -> Iterator[Diagnosis]:
    """Yield whether each card on the bus is watched; *sysfs* counts if no table names another."""
    folders = {Path(options.sysfs_path) for options in setup.tables.values()} or {sysfs}
    for folder in sorted(folders):
        tables = {name: one for name, one in setup.tables.items() if Path(one.sysfs_path) == folder}
        yield from _diagnose_bus(setup, folder, tables)


def _diagnose_bus(
    setup: Setup[GpuOptions], sysfs: Path, tables: Mapping[str, GpuOptions]
) -> Iterator[Diagnosis]:
    bus = PciBus(sysfs)
    cards = bus.cards()
    if not bus.known:
        yield Diagnosis("not_checked", f"{sysfs} shows no PCI devices, so cards are not known")
    elif not cards:
        yield Diagnosis("ok", "no NVIDIA GPU is on the PCI bus")
    for address, driver in cards.items():
        yield _diagnose_card(address, driver, setup, tables, in_container=is_container(sysfs.parent))


def _diagnose_card(
    address: str,
    driver: str,
    setup: Setup[GpuOptions],
    tables: Mapping[str, GpuOptions],
    *,
    in_container: bool,
) -> Diagnosis:
    card = f"the NVIDIA GPU at {address}"
    if (watcher := _watcher(address, setup)) is not None:
        return Diagnosis("ok", f"{card} is watched by the probe {watcher}")
    if any(_is_ignored(address, one) for one in tables.values()):
        return Diagnosis("ok", f"{card} is not watched, as ignored_cards says")
    if in_container or not driver:
        reason = SOME if in_container else "no driver is bound to it"
        return Diagnosis("not_checked", f"{card} is not watched: {reason}")
    if not tables:
        return Diagnosis("problem", f"{card} is watched by no probe", ADD_TABLE)
    if reason := _unknown(setup, tables):
        return Diagnosis("not_checked", f"{card}: {reason}")
    summary = f"{card} has the NVIDIA driver, and no reading of {', '.join(tables)} has it"
    return Diagnosis("problem", summary, f"dmesg | grep -e NVRM -e {address.removeprefix('0000:')}")


def _watcher(address: str, setup: Setup[GpuOptions]) -> str | None:
    """Return the table whose last reading has the card."""
    return next((name for name in setup.tables if address in (_reported(setup, name) or ())), None)


def _reported(setup: Setup[GpuOptions], table: str) -> Collection[str] | None:
    """Return the PCI addresses in the last reading of *table*; None without a reading of cards."""
    cards = ((setup.facts or {}).get(table) or {}).get("gpus")
    return None if cards is None else {str(card.get("bus_id")) for card in cards}


def _unknown(setup: Setup[GpuOptions], tables: Mapping[str, GpuOptions]) -> str:
    """Return why it cannot be known whether *tables* watch a card, or ""."""
    if setup.facts is None:
        return "no daemon of this host says which cards it watches"
    for name, options in tables.items():
        if _reported(setup, name) is None:
            return f"the last reading of the probe {name} has no cards; see mlopsd status"
        if any(pattern.upper().startswith(("GPU-", "*", "?")) for pattern in options.ignored_cards):
            return f"ignored_cards of {name} has UUIDs, which the bus does not show"
    return ""


def _is_ignored(address: str, options: GpuOptions) -> bool:
    return any(fnmatchcase(address, pattern) for pattern in options.ignored_cards)
