"""The notes that the daemon keeps of a version while it serves."""

import logging
from pathlib import Path

from mlopsd_probes.model.cache.store import Store
from mlopsd_probes.model.cache.versions import CachedVersions, Choice
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.registry.options import RegistryOptions
from tests.model.test_store import put

OPTIONS = ModelOptions(model="iris", registries=(RegistryOptions(uri="sqlite:///x"),))


async def test_the_most_memory_on_each_gpu_is_kept_over_a_restart(tmp_path: Path) -> None:
    def opened() -> CachedVersions:
        return CachedVersions(Store(tmp_path, "iris"), OPTIONS, logging.getLogger("test"), set())

    cached, kept = opened(), put(Store(tmp_path, "iris"), 1)
    cached.add(kept)
    cached.choose(Choice(kept, cuda=True))
    await cached.write(kept.version.id, 7, {"GPU-a": 1000, "GPU-b": 10})
    await cached.write(kept.version.id, None, {"GPU-a": 900, "GPU-b": 20})
    again = opened()
    await again.open(None)
    found = again.contents.find(kept.version)
    assert found is not None
    assert (found.notes or {})["gpu_bytes"] == {"GPU-a": 1000, "GPU-b": 20}


async def test_a_little_more_memory_is_not_worth_a_write(tmp_path: Path) -> None:
    cached = CachedVersions(Store(tmp_path, "iris"), OPTIONS, logging.getLogger("test"), set())
    kept = put(Store(tmp_path, "iris"), 1)
    cached.add(kept)
    await cached.write(kept.version.id, None, {"GPU-a": 1000})
    before = cached.contents
    await cached.write(kept.version.id, None, {"GPU-a": 1040})
    assert cached.contents is before
