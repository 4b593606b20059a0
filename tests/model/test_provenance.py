"""A version is loaded only with evidence that its files are the registered ones."""

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from mlopsd.probe import Advice, ReloadRefused, Status
from mlopsd_probes.model.options import ModelOptions
from mlopsd_probes.model.rollout.provenance import files_fault, tag_fault
from mlopsd_probes.model.version import CachedVersion
from mlopsd_probes.registry.options import RegistryOptions, SignatureOptions
from mlopsd_probes.registry.registries import Complaint, FetchError, RegistryError
from mlopsd_probes.registry.version import File
from tests.model.world import DOWN, URI, World, failing, reported, version

TAG = "mlopsd.sha256"
FILE = File("MLmodel", 1, sha256(b"m").hexdigest())  # of what a FakeRegistry has
RIGHT = sha256(f"{FILE.sha256} 1 MLmodel\n".encode()).hexdigest()
WRONG = "f" * 64
UNTAGGED = f"it has no tag {TAG}; set it with: mlopsd digest models:/iris/{{}} --tag"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, digest_tag=TAG)
    yield world
    await world.reconciler.close()


def names(world: World, number: str, tagged: str = "") -> None:
    """The registry names version *number* from now on, with this value of its tag."""
    world.registry.names = replace(version(number), tagged_digest=tagged)


async def restarted(world: World) -> None:
    await world.reconciler.close()
    world.begin()


@pytest.mark.parametrize(
    ("tagged", "part"),
    [
        (RIGHT, None),
        (f" {RIGHT.upper()}\n", None),
        (WRONG, f"its files have the digest {RIGHT[:12]}…, and its tag {TAG} has {'f' * 12}…; "),
        (RIGHT[:-1], f"its tag {TAG} has {RIGHT[:12]}…"),
        ("\x1b[2Jred", f"its tag {TAG} has [2jred; "),
        ("", "it has no tag"),
    ],
)
def test_only_the_digest_of_the_files_is_evidence(tagged: str, part: str | None) -> None:
    options = ModelOptions(model="iris", registries=(RegistryOptions(uri=URI),), digest_tag=TAG)
    kept = CachedVersion(replace(version("2"), tagged_digest=tagged), "/", (FILE,))
    found = files_fault(kept, options)
    assert (found is None) == (part is None)
    assert part is None or part in str(found)
    assert files_fault(kept, options.model_copy(update={"digest_tag": None})) is None


@pytest.mark.parametrize(
    ("model", "tag", "command"),
    [
        ("iris", TAG, "mlopsd digest models:/iris/2 --tag"),
        ("my wine", TAG, "mlopsd digest 'models:/my wine/2' --tag"),
        ("iris", "sha", "mlopsd digest models:/iris/2 --tag sha"),
    ],
)
def test_a_version_without_the_tag_is_named_with_the_command_that_sets_it(
    model: str, tag: str, command: str
) -> None:
    options = ModelOptions(model=model, registries=(RegistryOptions(uri=URI),), digest_tag=tag)
    assert tag_fault(version("2"), options) == f"it has no tag {tag}; set it with: {command}"


async def test_a_version_without_the_tag_is_rejected_before_its_download_until_it_has_one(
    world: World,
) -> None:
    names(world, "1")
    reading = await world.check()
    text = f"version 1 was rejected: {UNTAGGED.format(1)}; tried again in 10 min, or by a reload"
    assert reported(reading, "provenance") == ("unhealthy", text)
    assert Advice.FIX_MODEL in {finding.advice for finding in reading.findings}
    assert world.registry.fetched == []
    with pytest.raises(ReloadRefused, match=f"version 1 would be rejected: it has no tag {TAG}"):
        await world.reconciler.reload(dry_run=True, force=False)
    names(world, "1", RIGHT)
    reading = await world.check()
    assert world.serves == "1"
    assert reported(reading, "provenance") == ("healthy", f"its files have the digest of its tag {TAG}")
    assert reading.status is Status.HEALTHY


async def test_what_a_download_has_proven_altered_is_rejected_until_the_tag_changes(world: World) -> None:
    names(world, "1", RIGHT)
    await world.check()
    names(world, "2", WRONG)
    world.registry.fails = FetchError("altered", "its files have another digest")
    reading = await world.check()
    assert world.serves == "1"
    (rejected,) = reading.facts["rejected"]
    assert (rejected["step"], rejected["at_fault"]) == ("provenance", "version")
    world.registry.fails = None
    await world.check()
    assert world.serves == "1"
    names(world, "2", RIGHT)
    await world.check()
    assert world.serves == "2"


async def test_what_serves_when_its_tag_changes_keeps_serving_and_reports_it(world: World) -> None:
    names(world, "1", RIGHT)
    await world.check()
    names(world, "1", WRONG)
    status, text = reported(await world.check(), "provenance")
    assert (status, world.serves, world.registry.fetched) == ("degraded", "1", ["1"])
    assert text.startswith(
        f"version 1 keeps serving, but it would be rejected: its files have {'the digest'}"
    )
    names(world, "1", RIGHT)
    assert (await world.check()).status is Status.HEALTHY


async def test_after_a_restart_a_tag_counts_only_once_a_registry_has_given_it(world: World) -> None:
    names(world, "1", RIGHT)
    await world.check()
    world.registry.complaints = (DOWN,)
    await restarted(world)
    assert reported(await world.check(), "provenance") == (
        "degraded",
        f"version 1 serves, and no registry has given its tag {TAG} since the start",
    )
    world.registry.complaints = ()
    names(world, "1")
    assert reported(await world.check(), "provenance") == (
        "degraded",
        f"version 1 keeps serving, but it would be rejected: {UNTAGGED.format(1)}",
    )


async def test_a_tag_that_the_table_requires_from_now_on_takes_nothing_out_of_service(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.names("1")
    await world.check()
    before = world.amend(digest_tag=TAG)
    await before.close()
    names(world, "1")
    await world.check()
    assert world.serves == "1"
    assert reported(await world.check(), "provenance")[0] == "degraded"
    await world.reconciler.close()


async def test_a_table_that_names_another_tag_waits_for_that_tag(world: World) -> None:
    names(world, "1", RIGHT)
    await world.check()
    world.registry.complaints = (DOWN,)
    before = world.amend(digest_tag="another")
    await before.close()
    text = "version 1 serves, and no registry has given its tag another since the start"
    assert reported(await world.check(), "provenance") == ("degraded", text)


async def test_a_copy_on_disk_is_used_only_if_the_tag_names_its_files(world: World) -> None:
    names(world, "1", RIGHT)
    await world.check()
    world.canaries["2"] = failing("NaN")
    names(world, "2", RIGHT)
    await world.check()
    world.wait(world.options.rejected_backoff + 1)
    await world.check()
    assert world.registry.fetched == ["1", "2"]
    names(world, "2", WRONG)
    await world.check()
    assert world.registry.fetched == ["1", "2", "2"]


SIGNED = SignatureOptions(public_key=Path("/etc/mlopsd/signer.pub"))
FORGED = "its signature model.sig is not by the key in /etc/mlopsd/signer.pub"
NO_KEY = RegistryError(Complaint(URI, "public_key", "cannot read /etc/mlopsd/signer.pub: no such file"))


@pytest.fixture
async def signed(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, signature=SIGNED)
    yield world
    await world.reconciler.close()


async def test_what_a_download_has_verified_is_signed(signed: World) -> None:
    signed.names("1")
    reading = await signed.check()
    assert reading.status is Status.HEALTHY
    text = "its files have a signature by /etc/mlopsd/signer.pub"
    assert reported(reading, "provenance") == ("healthy", text)
    assert signed.registry.attested == []


@pytest.mark.parametrize("kind", ["unsigned", "altered"])
async def test_a_version_that_is_not_signed_is_rejected_and_the_old_one_serves(
    signed: World, kind: str
) -> None:
    signed.names("1")
    await signed.check()
    signed.registry.fails = FetchError(kind, FORGED)
    signed.names("2")
    reading = await signed.check()
    findings = [finding for finding in reading.findings if finding.name == "provenance"]
    assert [(finding.subject, finding.status) for finding in findings] == [
        (None, Status.HEALTHY),
        ("version 2", Status.DEGRADED),
    ]
    assert f"version 2 was rejected: {FORGED}; tried again in 10 min" in findings[1].summary
    assert signed.serves == "1"


@pytest.mark.parametrize("kind", ["public_key", "import_error"])
async def test_a_fault_of_this_host_rejects_no_version_and_names_the_fix(signed: World, kind: str) -> None:
    signed.names("1")
    signed.registry.fails = FetchError(kind, "cannot check")
    reading = await signed.check()
    assert "rejected" not in reading.facts
    (finding,) = [finding for finding in reading.findings if finding.name == "registry"]
    assert finding.advice is Advice.FIX_CONFIG


async def test_a_version_restored_from_disk_is_held_against_the_key_once_and_keeps_serving(
    signed: World,
) -> None:
    signed.names("1")
    await signed.check()
    signed.registry.attests = FORGED
    await restarted(signed)
    reading = await signed.check(3)
    assert signed.serves == "1"
    assert reported(reading, "provenance") == (
        "degraded",
        f"version 1 keeps serving, but it would be rejected: {FORGED}",
    )
    assert signed.registry.attested == ["1"]


async def test_a_version_in_service_that_cannot_be_checked_says_so(signed: World) -> None:
    signed.names("1")
    await signed.check()
    signed.registry.attests = NO_KEY
    await restarted(signed)
    reading = await signed.check()
    text = "version 1 serves, and its signature was not verified since the start"
    assert reported(reading, "provenance") == ("degraded", text)
    (finding,) = [finding for finding in reading.findings if finding.name == "registry"]
    assert finding.advice is Advice.FIX_CONFIG
    assert "the signature of version 1 cannot be verified: cannot read" in finding.summary
    signed.registry.attests = None
    assert (await signed.check()).status is Status.HEALTHY


async def test_a_copy_on_disk_that_the_key_did_not_sign_is_fetched_again(signed: World) -> None:
    signed.names("1")
    await signed.check()
    signed.canaries["2"] = failing("NaN")
    signed.names("2")
    await signed.check()
    signed.wait(signed.options.rejected_backoff + 1)
    await signed.check()
    assert (signed.registry.fetched, signed.registry.attested) == (["1", "2"], ["2"])
    signed.registry.attests = FORGED
    signed.wait(2 * signed.options.rejected_backoff + 1)
    await signed.check()
    assert signed.registry.fetched == ["1", "2", "2"]


async def test_a_copy_on_disk_that_cannot_be_checked_is_not_loaded(signed: World) -> None:
    signed.names("1")
    await signed.check()
    signed.canaries["2"] = failing("NaN")
    signed.names("2")
    await signed.check()
    loaded = len(signed.hosts)
    signed.registry.attests = NO_KEY
    signed.wait(signed.options.rejected_backoff + 1)
    await signed.check()
    assert (len(signed.hosts), signed.registry.fetched) == (loaded, ["1", "2"])
