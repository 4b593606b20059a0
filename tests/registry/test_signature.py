"""A version is had only with a signature by the configured key, made as any team makes it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from mlopsd.probe import Advice
from mlopsd_probes.causes import cause_of
from mlopsd_probes.registry.fault import Fault
from mlopsd_probes.registry.registries import FetchError, Registries, RegistryError
from mlopsd_probes.registry.signature import SignatureCheck
from mlopsd_probes.registry.version import File, Version
from tests.model import meddler as meddling
from tests.model.asking import asking
from tests.model.meddler import Meddler
from tests.model.registrar import Registrar
from tests.model.registry_server import Shop
from tests.registry.test_digest import PAGE, copied

with warnings.catch_warnings():  # it warns of its own dependencies as it is imported
    warnings.simplefilter("ignore")
    from model_signing import hashing, signing

FILES = {"MLmodel": b"flavors:", "data/weights": b"0123456789", "code/loader.py": b"pass\n"}
SIGNATURE = "model.sig"
Hashing = Callable[[hashing.Config], hashing.Config]


def write_key(folder: Path, name: str = "signer", key: PrivateKeyTypes | None = None) -> Path:
    """Return the file of a new private key; the public one is beside it, as ``.pub``."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.with_suffix(".pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return path


def sign(folder: Path, key: Path, *ignored: str, hashed: Hashing = lambda config: config) -> Path:
    """Sign *folder*, and return the signature in it."""
    config = hashed(hashing.Config().set_ignored_paths(paths=[SIGNATURE, *ignored]))  # type: ignore[no-untyped-call]
    made = signing.Config()  # type: ignore[no-untyped-call]
    signer = made.use_elliptic_key_signer(private_key=key).set_hashing_config(config)
    signer.sign(folder, folder / SIGNATURE)
    return folder / SIGNATURE


def logged(folder: Path, **changed: bytes) -> Path:
    for path, content in {**FILES, **changed}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def listed(folder: Path) -> list[File]:
    """Return the files of *folder* as a download lists them, with links as the files that they lead to."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        File(str(path.relative_to(folder)), path.stat().st_size, sha256(path.read_bytes()).hexdigest())
        for path in files
    ]


def check(folder: Path, key: Path) -> Fault | None:
    return SignatureCheck(str(key.with_suffix(".pub")), SIGNATURE).fault(folder, listed(folder))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write_key(tmp_path)


@pytest.fixture
def model(tmp_path: Path, key: Path) -> Path:
    folder = logged(tmp_path / "model")
    sign(folder, key)
    return folder


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_the_files_that_were_signed_are_good(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    key = write_key(tmp_path, key=ec.generate_private_key(curve))
    folder = logged(tmp_path / "model")
    sign(folder, key)
    assert check(folder, key) is None


def test_the_documented_commands_sign_a_folder(tmp_path: Path) -> None:
    folder = logged(tmp_path / "FOLDER")
    (section,) = re.findall(r"^### Only signed files$.*?(?=^##)", PAGE.read_text("utf-8"), re.M | re.S)
    commands = re.findall(r"^(?:openssl|python) .*$", section, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command)
        words[0] = sys.executable if words[0] == "python" else words[0]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert check(folder, tmp_path / "signer.pem") is None
    add(folder)
    assert check(folder, tmp_path / "signer.pem") is not None


def test_no_file_is_read_again_but_the_signature(model: Path, key: Path) -> None:
    files = listed(model)
    for path in FILES:
        (model / path).unlink()
    assert SignatureCheck(str(key.with_suffix(".pub")), SIGNATURE).fault(model, files) is None


def add(folder: Path) -> None:
    (folder / "code/more.py").write_text("more\n", "ascii")


def add_for_git(folder: Path) -> None:
    """model-signing leaves such files out of a signature."""
    (folder / ".github").mkdir()
    (folder / ".github/more.py").write_text("more\n", "ascii")


def change(folder: Path) -> None:
    (folder / "data/weights").write_bytes(b"0123456780")


def remove(folder: Path) -> None:
    (folder / "data/weights").unlink()


def swap(folder: Path) -> None:
    """Two files that are both signed."""
    for path, content in (("MLmodel", FILES["data/weights"]), ("data/weights", FILES["MLmodel"])):
        (folder / path).write_bytes(content)


@pytest.mark.parametrize(
    ("act", "part"),
    [
        (add, "the file code/more.py is not covered by its signature; "),
        (add_for_git, "the file .github/more.py is not covered by its signature; "),
        (change, "the file data/weights is not the one that was signed; "),
        (remove, "the file data/weights was signed and is missing; "),
        (swap, "the file MLmodel is not the one that was signed, and 1 more; "),
    ],
)
def test_any_change_of_the_files_is_found_and_named(
    model: Path, key: Path, act: Callable[[Path], None], part: str
) -> None:
    act(model)
    fault = check(model, key)
    assert fault is not None
    assert (fault.kind, str(fault)) == (
        "altered",
        f"{part}sign the right files and register them as a new version",
    )


def of_another_version(model: Path, key: Path, tmp_path: Path) -> None:
    other = logged(tmp_path / "other", MLmodel=b"flavors: other")
    shutil.copy(sign(other, key), model / SIGNATURE)


def by_another_key(model: Path, key: Path, tmp_path: Path) -> None:
    sign(model, write_key(tmp_path, "stranger"))


def with_another_hint(model: Path, key: Path, tmp_path: Path) -> None:
    """The signature of a stranger says that it is by the key."""
    hints = [sha256(one.with_suffix(".pub").read_bytes()).hexdigest() for one in tmp_path.glob("*.pem")]
    sign(model, write_key(tmp_path, "stranger"))
    hint = sha256((tmp_path / "stranger.pub").read_bytes()).hexdigest()
    text = (model / SIGNATURE).read_text("utf-8")
    assert hint in text
    (model / SIGNATURE).write_text(text.replace(hint, hints[0]), "utf-8")


def not_whole(model: Path, key: Path, tmp_path: Path) -> None:
    (model / SIGNATURE).write_bytes((model / SIGNATURE).read_bytes()[:-100])


def a_page(model: Path, key: Path, tmp_path: Path) -> None:
    (model / SIGNATURE).write_bytes(b"<html>We are back soon</html>")


def nothing(model: Path, key: Path, tmp_path: Path) -> None:
    (model / SIGNATURE).write_bytes(b"")


def other_json(model: Path, key: Path, tmp_path: Path) -> None:
    (model / SIGNATURE).write_bytes(b'{"verificationMaterial": {}}')


@pytest.mark.parametrize(
    ("act", "part"),
    [
        (of_another_version, "the file MLmodel is not the one that was signed; "),
        (by_another_key, "its signature model.sig is not by the key in "),
        (with_another_hint, "its signature model.sig is not by the key in "),
        (not_whole, "its signature model.sig is not by the key in "),
        (a_page, "its signature model.sig is not by the key in "),
        (nothing, "its signature model.sig is not by the key in "),
        (other_json, "its signature model.sig is not by the key in "),
    ],
)
def test_only_the_signature_of_these_files_by_this_key_counts(
    model: Path, key: Path, tmp_path: Path, act: Callable[[Path, Path, Path], None], part: str
) -> None:
    act(model, key, tmp_path)
    fault = check(model, key)
    assert fault is not None
    assert (fault.kind, str(fault).startswith(part), len(str(fault).splitlines())) == ("altered", True, 1)


def test_a_signature_that_this_host_cannot_read_proves_nothing(model: Path, key: Path) -> None:
    files = listed(model)
    (model / SIGNATURE).unlink()
    (model / SIGNATURE).mkdir()
    with pytest.raises(IsADirectoryError):
        SignatureCheck(str(key.with_suffix(".pub")), SIGNATURE).fault(model, files)


def test_a_file_that_the_signer_left_out_is_not_covered(tmp_path: Path, key: Path) -> None:
    folder = logged(tmp_path / "model")
    sign(folder, key, "code")
    assert "the file code/loader.py is not covered by its signature" in str(check(folder, key))


@pytest.mark.parametrize(
    "hashed",
    [
        lambda config: config.use_shard_serialization(),
        lambda config: config.use_file_serialization(hashing_algorithm="blake2"),
        lambda config: config.use_file_serialization(hashing_algorithm="blake3"),
    ],
)
def test_a_signature_over_other_hashes_is_none_and_says_so(
    tmp_path: Path, key: Path, hashed: Hashing
) -> None:
    folder = logged(tmp_path / "model")
    sign(folder, key, hashed=hashed)
    fault = check(folder, key)
    assert fault is not None
    assert fault.kind == "unsigned"
    assert "does not hash whole files by SHA-256; sign it with the defaults" in str(fault)


def test_a_link_inside_the_folder_is_signed_as_the_file_that_it_leads_to(tmp_path: Path, key: Path) -> None:
    folder = logged(tmp_path / "model")
    (folder / "data/latest").symlink_to("weights")
    sign(folder, key, hashed=lambda config: config.set_allow_symlinks(True))
    assert check(folder, key) is None
    (folder / "data/latest").unlink()
    (folder / "data/latest").symlink_to("../MLmodel")
    assert "the file data/latest is not the one that was signed" in str(check(folder, key))


def test_a_version_without_the_file_is_unsigned(model: Path, key: Path) -> None:
    (model / SIGNATURE).unlink()
    fault = check(model, key)
    assert fault is not None
    assert (fault.kind, "it has no signature model.sig among its files" in str(fault)) == ("unsigned", True)


def test_a_key_that_is_replaced_counts_from_the_next_check(model: Path, key: Path, tmp_path: Path) -> None:
    assert check(model, key) is None
    new = write_key(tmp_path, "new")
    shutil.copy(new.with_suffix(".pub"), key.with_suffix(".pub"))
    assert "is not by the key in" in str(check(model, key))
    sign(model, new)
    assert check(model, key) is None


@pytest.mark.parametrize(
    "made",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate,
        lambda: ec.generate_private_key(ec.SECP256K1()),
    ],
)
def test_a_key_of_another_kind_is_a_fault_of_the_configuration(
    model: Path, tmp_path: Path, made: Callable[[], PrivateKeyTypes]
) -> None:
    with pytest.raises(Fault, match="is no public key of the curves P-256, P-384 or P-521") as caught:
        check(model, write_key(tmp_path, "odd", made()))
    assert caught.value.kind == "public_key"


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PUBLIC KEY-----\n"])
def test_a_file_that_is_no_key_is_a_fault_of_the_configuration(
    model: Path, key: Path, content: bytes
) -> None:
    key.with_suffix(".pub").write_bytes(content)
    with pytest.raises(Fault, match="is no public key of the curves") as caught:
        check(model, key)
    assert caught.value.kind == "public_key"
    assert cause_of("registry", "public_key").advice is Advice.FIX_CONFIG


async def named(registries: Registries) -> Version:
    found = (await registries.resolve()).found
    assert found is not None
    return found


async def fetched(uri: str, model: str, folder: Path, key: Path) -> list[File]:
    """Return the files of version 1 of *model* as a host with *key* fetches and checks them."""
    files = folder / "part" / "files"
    os.makedirs(files)  # noqa: PTH103  # nothing else runs on this loop
    signature = {"public_key": str(key)}
    options = {"model": model, "candidates": ["1"], "signature": signature}
    async with asking(folder / "scratch", uri, **options) as (registries, _):
        version = await named(registries)
        found = await registries.fetch(version, files, lambda *_: None)
        assert await registries.attest(version, files, found) is None
        return list(found)


@pytest.mark.timeout(600)
async def test_a_registry_gives_only_what_the_key_signed(
    newest: Shop, model: Path, key: Path, tmp_path: Path
) -> None:
    public = key.with_suffix(".pub")
    registered = Registrar(newest.uri, "signed")
    registered.register(model)
    found = await fetched(newest.uri, "signed", tmp_path / "right", public)
    assert {file.path for file in found} == {*FILES, SIGNATURE}
    with pytest.raises(FetchError, match=r"cannot read /nonexistent/signer.pub: No such file") as unreadable:
        await fetched(newest.uri, "signed", tmp_path / "no key", Path("/nonexistent/signer.pub"))
    assert (unreadable.value.kind, unreadable.value.is_of_version) == ("public_key", False)
    with pytest.raises(FetchError, match="is not by the key in") as stranger:
        await fetched(
            newest.uri, "signed", tmp_path / "stranger", write_key(tmp_path, "s").with_suffix(".pub")
        )
    assert (stranger.value.kind, stranger.value.step) == ("altered", "provenance")
    (stored,) = [path for path in newest.folder.rglob("loader.py") if path.read_bytes() == b"pass\n"]
    stored.write_bytes(b"evil\n")
    with pytest.raises(FetchError, match=r"code/loader.py is not the one that was signed") as changed:
        await fetched(newest.uri, "signed", tmp_path / "changed", public)
    assert changed.value.is_of_version


@pytest.mark.timeout(600)
async def test_nothing_of_an_unsigned_version_is_fetched(newest: Shop, key: Path, tmp_path: Path) -> None:
    registered = Registrar(newest.uri, "unsigned")
    registered.register(logged(tmp_path / "model"))
    with Meddler(newest.uri) as meddler:
        meddler.meddle("data/weights", meddling.status(500))
        with pytest.raises(FetchError, match=r"it has no signature model.sig among its files") as caught:
            await fetched(meddler.uri, "unsigned", tmp_path / "host", key.with_suffix(".pub"))
        assert not [asked for asked in meddler.asked if "data/weights" in asked.path]
    assert (caught.value.kind, caught.value.is_of_version) == ("unsigned", True)


@pytest.mark.timeout(600)
async def test_a_folder_with_links_is_checked_as_the_files_that_come(
    embedded: Shop, key: Path, tmp_path: Path
) -> None:
    folder = logged(tmp_path / "linked")
    (folder / "data/latest").symlink_to("weights")
    sign(folder, key, hashed=lambda config: config.set_allow_symlinks(True))
    copied(embedded.uri, str(folder), "linked")
    found = await fetched(embedded.uri, "linked", tmp_path / "host", key.with_suffix(".pub"))
    assert "data/latest" in {file.path for file in found}
    (folder / "data/latest").unlink()
    (folder / "data/latest").symlink_to("/etc/hostname")
    with pytest.raises(FetchError, match="is a link that leads out of the version's folder"):
        await fetched(embedded.uri, "linked", tmp_path / "outside", key.with_suffix(".pub"))


@pytest.mark.timeout(600)
async def test_without_the_package_the_command_that_installs_it_is_named_and_no_version_blamed(
    newest: Shop, model: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Registrar(newest.uri, "not installed").register(model)
    (tmp_path / "empty").mkdir()
    code = "raise ModuleNotFoundError(\"No module named 'model_signing'\", name='model_signing')\n"
    (tmp_path / "empty/model_signing.py").write_text(code, "ascii")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "empty"))
    with pytest.raises(FetchError, match=r"-m pip install 'mlopsd\[signing\]'") as caught:
        await fetched(newest.uri, "not installed", tmp_path / "host", key.with_suffix(".pub"))
    assert (caught.value.kind, caught.value.is_of_version) == ("import_error", False)
    assert cause_of("registry", "import_error").advice is Advice.FIX_CONFIG


@pytest.mark.timeout(600)
async def test_files_on_disk_are_held_against_the_key_of_today(
    newest: Shop, model: Path, key: Path, tmp_path: Path
) -> None:
    Registrar(newest.uri, "on disk").register(model)
    options = {"model": "on disk", "signature": {"public_key": str(key.with_suffix(".pub"))}}
    async with asking(tmp_path / "scratch", newest.uri, candidates=["1"], **options) as (registries, _):
        version, files = await named(registries), listed(model)
        assert await registries.attest(version, model, files) is None
        shutil.copy(write_key(tmp_path, "new").with_suffix(".pub"), key.with_suffix(".pub"))
        assert "is not by the key in" in str(await registries.attest(version, model, files))
        key.with_suffix(".pub").unlink()
        with pytest.raises(RegistryError, match="cannot read"):
            await registries.attest(version, model, files)
