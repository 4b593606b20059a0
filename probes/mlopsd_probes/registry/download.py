"""The download of a version's files; runs in the process of its registry."""

import os
import re
import shutil
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from urllib3.util import parse_url

from mlopsd_probes.registry.errors import classify
from mlopsd_probes.registry.fault import Fault
from mlopsd_probes.registry.meter import Meter
from mlopsd_probes.registry.options import without_credentials
from mlopsd_probes.registry.provenance import Evidence, changing
from mlopsd_probes.registry.redirects import RedirectGuard
from mlopsd_probes.registry.reuse import CachedFiles
from mlopsd_probes.registry.stores import HttpStore, LocalStore, store_of
from mlopsd_probes.registry.transfer import Transfer
from mlopsd_probes.registry.version import File, digest_of

PULSE_SECONDS = 0.25
MLMODEL = "MLmodel"
DEEPEST = 100  # folders in a path
UNSAFE = re.compile(r"[\\\x00-\x1f\x7f\ud800-\udfff]")  # a surrogate is of a name that is not UTF-8
TCP_INFO_SIZE = 256
BYTES_RECEIVED = struct.Struct("128xQ")  # tcpi_bytes_received of struct tcp_info, linux/tcp.h
NOT_THERE = frozenset({"absent", "not_found"})  # faults that may mean that a file is gone
CREDENTIALS = (
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
)

Pulse = Callable[[Mapping[str, int | None]], None]
Others = Callable[[], Iterable[str]]
Fetched = tuple[str, int, str]  # path, size and SHA-256


class Download:
    """The download of all files below *uri*, of the registry *tracking_uri*, into *folder*.

    *folder* may have the files of an earlier attempt; the download goes on from them. *others* yields the
    URIs of other versions; the store may list them while it lists nothing for this one. Files that are in
    *cached* are linked where the store names their content.
    """

    def __init__(
        self,
        uri: str,
        tracking_uri: str,
        folder: Path,
        at_a_time: int = 4,
        *,
        cached: Iterable[File] = (),
        others: Others = lambda: (),
    ) -> None:
        self._folder = folder
        self._at_a_time = at_a_time
        self._tracking_uri = tracking_uri
        self._others = others
        self._evidence = Evidence()
        self._repository = _repository(uri)
        _keep_credentials_from_others(self._repository, tracking_uri)
        self._store = store_of(_innermost(self._repository))
        self._meter = Meter()
        self._cached = CachedFiles(cached)
        self._total: int | None = None
        self._has_begun = False
        self._wire = _Wire()

    def checked_by(self, evidence: Evidence) -> None:
        """Hold *evidence* against the files that come."""
        self._evidence = evidence

    def watched_by(self, guard: RedirectGuard) -> None:
        """Let *guard* check the server of the files, which the registry has named."""
        if urlsplit(_uri(self._repository)).scheme in ("http", "https"):
            guard.watch(urlsplit(self._tracking_uri).hostname or "")

    @property
    def store(self) -> str | None:
        """The URI of the store of files, without credentials; None if the registry itself has them."""
        uri = _uri(self._repository)
        is_registry = uri.startswith("http") and _server(uri) == _server(self._tracking_uri)
        return None if is_registry else without_credentials(uri)

    def run(self, pulse: Pulse) -> list[Fetched]:
        """Fetch all files; return path, size and SHA-256 of each. Call *pulse* regularly with the progress.

        Raises:
            Fault: ``missing``, ``truncated`` or one of provenance if the version is proven to be at fault.
            Exception: any other exception of the store's client.
        """
        self._repository = _without_logged_models(self._repository)
        self._transfer = Transfer(
            self._repository,
            self._store,
            self._folder,
            self._cached,
            self._meter,
            at_a_time=self._at_a_time,
        )
        with closing(self._transfer), self._pulsing(pulse):
            try:
                files = list(self._all())
                self._check(files)
                _remove_others(self._folder, files)
                with ThreadPoolExecutor(self._at_a_time) as pool:
                    list(pool.map(self._transfer.prepare, files))
                self._check_room(files)
                return self._registered(files)
            except Exception as error:  # a store's client may raise anything; `classify` sorts it
                if self._fault(error).kind in NOT_THERE and (unmounted := self._unmounted()) is not None:
                    raise unmounted from error
                raise

    def _all(self) -> Iterator[FileInfo]:
        merges_two_folders = isinstance(self._repository, RunsArtifactRepository)
        if isinstance(self._store, LocalStore) and not merges_two_folders:
            found = self._store.list()
        else:
            found = self._listed()
        for file in found:
            _reject_outside(file.path)
            yield file

    def _listed(self, path: str | None = None) -> Iterator[FileInfo]:
        for found in self._repository.list_artifacts(path):
            if found.path == path:
                continue
            _reject_outside(found.path)
            if found.is_dir:
                yield from self._listed(found.path)
            else:
                yield found

    def _check(self, files: list[FileInfo]) -> None:
        fix = "check its store of files; if that is right, log and register the version again"
        if not files and (unmounted := self._unmounted()) is not None:
            raise unmounted
        if not files and (listed := self._listed_elsewhere()) is not None:
            text = f"its store lists no files for it, while it lists those of {listed}"
            raise Fault("missing", f"{text}; log and register the version again")
        if not files:
            raise Fault("bad_response", f"the registry lists no files for it; {fix}")
        if not any(file.path == MLMODEL for file in files):
            raise Fault("bad_response", f"there is no {MLMODEL} among its {len(files)} files; {fix}")
        if len({file.path for file in files}) < len(files):
            raise Fault("bad_response", f"the registry lists a file twice; {fix}")
        if any((file.file_size or 0) < 0 for file in files):
            raise Fault("bad_response", f"the registry lists a file with a negative size; {fix}")
        if all(file.file_size is not None for file in files):  # a store may not know
            self._total = sum(file.file_size or 0 for file in files)

    def _check_room(self, files: list[FileInfo]) -> None:
        if self._total is None:
            return
        missing = self._total - self._transfer.here(files)
        if missing > (free := shutil.disk_usage(self._folder).free):
            raise Fault(
                "disk_full", f"it takes {missing} bytes, {free} are free in {self._folder}; make room"
            )

    def _listed_elsewhere(self) -> str | None:
        """Return another version that the same store lists while it lists nothing for this one, asked again.

        A folder on this host proves nothing: part of a tree may not be mounted.
        """
        if _local_root(self._repository) is not None:
            return None
        for uri in self._others():
            other = _repository(uri)
            is_same = _place(other) == _place(self._repository)
            if is_same and any(file.path == MLMODEL for file in _innermost(other).list_artifacts()):
                return None if any(self._listed()) else without_credentials(_uri(other))
        return None

    def _registered(self, files: list[FileInfo]) -> list[Fetched]:
        """Fetch *files*; fetch them again from their beginning if they are not the registered ones.

        Raises:
            Fault: ``altered`` if they came the same twice, ``bad_response`` if they came differently;
                ``unsigned`` if no signature is listed, asked twice.
        """
        if self._evidence.precheck(file.path for file in files) is not None:
            missing = self._evidence.precheck(file.path for file in self._all())
            raise missing or Fault("bad_response", "the registry lists other files than a moment ago")
        first = self._fetched(files)
        if self._evidence.fault(self._folder, _listed(first)) is None:
            return first
        for file in files:
            self._transfer.forget(file)
        second = self._fetched(files)
        if (fault := self._evidence.fault(self._folder, _listed(second))) is None:
            return second
        if first != second:
            raise changing(digest_of(_listed(first)), digest_of(_listed(second)))
        if len({sha256 for _, _, sha256 in second}) == 1:  # a proxy's page for every file
            raise Fault(
                "bad_response", "all files of the version have the same content; check which server answers"
            )
        raise fault

    def _fetched(self, files: list[FileInfo]) -> list[Fetched]:
        self._has_begun = True
        pool = ThreadPoolExecutor(self._at_a_time)
        try:
            waiting: list[Future[Fetched]] = [
                pool.submit(self._file, file, _sibling(file, files)) for file in files
            ]
            return sorted(done.result() for done in as_completed(waiting))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _file(self, file: FileInfo, sibling: FileInfo | None) -> Fetched:
        """Fetch *file*; fetch it again from its beginning if its size differs from the listed one.

        Raises:
            Fault: ``truncated`` or ``bad_response``, see `_size_fault`, or a fault of `_get_there`.
        """
        sizes: list[int] = []
        for _ in range(2):
            fetched = self._get_there(file, sibling)
            sizes.append(fetched[1])
            if file.file_size is None or sizes[-1] == file.file_size:
                return fetched
            self._transfer.forget(file)
        raise self._size_fault(file, sibling, *sizes)

    def _size_fault(self, file: FileInfo, sibling: FileInfo | None, first: int, then: int) -> Fault:
        """Return the fault of a *file* that came with *first* and *then* bytes, and not with its listed size.

        The version is at fault only if three things hold:

        - Both sizes are the same.
        - The store still lists the same size; for a file that is being copied it lists another.
        - *sibling* comes with its listed size; a proxy's page has one size for every file.
        """
        if first != then or self._listed_size(file) != file.file_size:
            text = f"{file.path} has {first} and then {then} bytes, and {file.file_size} were listed before"
            return Fault("bad_response", f"{text}; the store of files is changing")
        text = f"{file.path} has {first} bytes twice, the registry lists {file.file_size}"
        if sibling is None or not self._is_whole(sibling):
            fix = "check which server answers there"
            return Fault("bad_response", f"{text}, and no other file has its size; {fix}")
        return Fault(
            "truncated", f"{text}, while {sibling.path} is whole; log and register the version again"
        )

    def _listed_size(self, file: FileInfo) -> int | None:
        """Return the size that the store lists now; None without one."""
        folder = str(PurePosixPath(file.path).parent)
        listed = self._repository.list_artifacts(None if folder == "." else folder)
        return next((one.file_size for one in listed if one.path == file.path), None)

    def _get_there(self, file: FileInfo, sibling: FileInfo | None) -> Fetched:
        """Fetch *file*; an absent file proves a fault of the version only if *sibling* is there.

        Raises:
            Fault: ``missing``.
        """
        try:
            return self._transfer.fetch(file)
        except Exception as error:  # a store's client may raise anything
            if self._fault(error).kind not in NOT_THERE or sibling is None or not self._is_there(sibling):
                raise
        try:
            return self._transfer.fetch(file)
        except Exception as error:  # a store's client may raise anything
            if (fault := self._fault(error)).kind not in NOT_THERE:
                raise
            if isinstance(self._store, HttpStore) and not self._store.has_listed(file.path):
                text = f"{file.path} is not there, and the server lists it by another name"
                raise Fault("bad_response", f"{text}; rename the file in the version") from error
            text = f"{file.path} is listed and is not there ({fault}), while {sibling.path} is"
            raise Fault("missing", f"{text}; log and register the version again") from error

    def _is_there(self, file: FileInfo) -> bool:
        return self._size_of(file) is not None

    def _is_whole(self, file: FileInfo) -> bool:
        return file.file_size is not None and self._size_of(file) == file.file_size

    def _size_of(self, file: FileInfo) -> int | None:
        """Return the size with which *file* comes; None if it cannot be fetched."""
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as aside:  # the folder of this process
            try:
                return self._transfer.size_of(file, Path(aside, "file"))
            except Exception:  # noqa: BLE001  # no exception of the store's client proves anything here
                return None

    def _fault(self, error: Exception) -> Fault:
        return classify(error, ours=[self._folder, Path.cwd()])

    def _unmounted(self) -> Fault | None:
        """Return the fault if the folder of the store does not exist on this host."""
        root = _local_root(self._repository)
        if root is None or root.is_dir():
            return None
        return Fault("not_mounted", f"there is no folder {root} on this host; mount it")

    @contextmanager
    def _pulsing(self, pulse: Pulse) -> Iterator[None]:
        ended = threading.Event()
        beating = threading.Thread(target=self._beat, args=(pulse, ended))
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()

    def _beat(self, pulse: Pulse, ended: threading.Event) -> None:
        while not ended.wait(PULSE_SECONDS):
            pulse(self._state())
        pulse(self._state())

    def _state(self) -> Mapping[str, int | None]:
        """Return the progress: ``bytes`` and ``total`` to show.

        ``moved`` grows with each byte of a file, None before the first; ``alive`` grows with any byte at all.
        """
        meter, unseen, wire = self._meter, self._transfer.unseen(), self._wire.received()
        moved = max(meter.moved + unseen, wire if self._store is None else 0) + meter.hashed
        return {
            "bytes": meter.here + unseen,
            "total": self._total,
            "moved": moved if self._has_begun else None,
            "alive": moved + wire,
        }


class _Wire:
    """Counts the bytes that this process' TCP connections received, also those still in a buffer."""

    def __init__(self) -> None:
        self._received: dict[str, int] = {}  # by the socket's inode, also of closed sockets

    def received(self) -> int:
        for link in Path("/proc/self/fd").iterdir():
            try:
                name = str(link.readlink())
                if name.startswith("socket:"):
                    self._received[name] = max(self._received.get(name, 0), _received_by(int(link.name)))
            except OSError:  # closed meanwhile, or not TCP
                continue
        return sum(self._received.values())


def _received_by(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as one:
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
    return int(BYTES_RECEIVED.unpack_from(info)[0]) if len(info) >= BYTES_RECEIVED.size else 0


def _listed(fetched: Iterable[Fetched]) -> list[File]:
    return [File(*one) for one in fetched]


def _repository(uri: str) -> ArtifactRepository:
    """Return the repository that has the files of *uri*; ask no store of files."""
    repository: ArtifactRepository = get_artifact_repository(uri)
    return repository


def _without_logged_models(repository: ArtifactRepository) -> ArtifactRepository:
    """Return the repository of a run alone if it has the files itself; else *repository*.

    For ``runs:/`` MLflow 3 also asks for logged models, and a server before 3 answers that with 404.
    """
    if isinstance(repository, RunsArtifactRepository):
        of_run: ArtifactRepository = repository.repo
        if any(file.path == MLMODEL for file in of_run.list_artifacts()):
            return of_run
    return repository


def _reject_outside(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts:
        raise Fault("bad_response", f"the registry lists a file outside of the version: {path}")
    is_plain = path == str(PurePosixPath(path))  # two names of one file would be written to at once
    if not is_plain or UNSAFE.search(path) or len(parts) > DEEPEST:
        raise Fault("bad_response", f"the registry lists a file with a name that no model needs: {path!r}")


def _remove_others(folder: Path, files: list[FileInfo]) -> None:
    """Remove files of an earlier attempt that the registry does not list any more."""
    listed = {folder / file.path for file in files}
    for here, _, names in os.walk(folder):
        for name in names:
            if (path := Path(here, name)) not in listed:
                path.unlink()


def _sibling(file: FileInfo, files: list[FileInfo]) -> FileInfo | None:
    """Return another, small file of the version: its MLmodel, or the smallest one."""
    others = [one for one in files if one.path != file.path]
    return min(others, key=lambda one: (one.path != MLMODEL, one.file_size or 0), default=None)


def _uri(repository: ArtifactRepository) -> str:
    return str(_innermost(repository).artifact_uri)


def _place(repository: ArtifactRepository) -> tuple[str, str]:
    """Return the store of *repository*: its scheme and its server or bucket."""
    parts = urlsplit(_uri(repository))
    return parts.scheme, parts.netloc.rpartition("@")[2]


def _local_root(repository: ArtifactRepository) -> Path | None:
    """Return the folder on this host that has the files; None if a server has them."""
    inner = _innermost(repository)
    return Path(inner.artifact_dir) if isinstance(inner, LocalArtifactRepository) else None


def _innermost(repository: ArtifactRepository) -> ArtifactRepository:
    """Return the repository behind ``runs:/`` and ``models:/``."""
    while (inner := getattr(repository, "repo", None)) is not None:
        repository = inner
    return repository


def _keep_credentials_from_others(repository: ArtifactRepository, tracking_uri: str) -> None:
    """Remove the registry's credentials if the files are on another host: MLflow would send them there."""
    files = urlsplit(_uri(repository))
    if files.scheme in ("http", "https") and _server(files.geturl()) != _server(tracking_uri):
        for name in CREDENTIALS:
            os.environ.pop(name, None)
        os.environ["HOME"] = str(Path.cwd())  # MLflow reads a password in ~/.mlflow/credentials


def _server(uri: str) -> tuple[str | None, str | None, int | None]:
    """Return scheme, host and port as `requests` reads them, which sends to a host that it finds itself."""
    parts = parse_url(uri)
    return parts.scheme, parts.host, parts.port or {"http": 80, "https": 443}.get(parts.scheme or "")
