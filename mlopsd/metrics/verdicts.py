"""What the board says of itself, read from it when the page is asked for."""

from collections.abc import Iterable, Sequence

from aioprometheus.collectors import Registry

from mlopsd.board import Board
from mlopsd.metrics.exposition import number_text, series_text
from mlopsd.metrics.family import Family, TextAlone
from mlopsd.probe import Advice, Finding, Status

FINDINGS_PER_PROBE = 100  # the worst; eight GPUs in all the trouble that there is have about as many

Rows = Iterable[tuple[tuple[str, ...], float]]  # label values, value


class BoardFamily(TextAlone):
    """One of `BOARD_FAMILIES`, read from *board* and kept as text."""

    def __init__(self, family: Family, registry: Registry, board: Board) -> None:
        super().__init__(family, registry)
        self._board = board
        self._rows = BOARD_FAMILIES[family]
        self._text = ""

    def refresh(self) -> None:
        """Read the board again."""
        self._text = "".join(map(self._line, self._rows(self._board)))
        self.mark.set()

    def text(self) -> str:
        """The lines as of the last `refresh`."""
        return self._text

    def _line(self, row: tuple[tuple[str, ...], float]) -> str:
        key, value = row
        series = series_text(self.name, zip(self.family.labels, key, strict=True))
        return f"{series} {number_text(float(value))}\n"


def _verdict(board: Board) -> Rows:
    return [((str(status),), status == board.verdict.status) for status in Status]


def _statuses(board: Board) -> Rows:
    return [((entry.probe, str(status)), status == entry.status) for entry in board for status in Status]


def _last_checks(board: Board) -> Rows:
    return [((entry.probe,), entry.checked_at.timestamp()) for entry in board if entry.checked_at is not None]


def _advice(board: Board) -> Rows:
    return [((str(advice),), advice == board.verdict.advice) for advice in Advice]


def _findings(board: Board) -> Rows:
    """Of two findings alike in all labels there is one series."""
    rows: dict[tuple[str, ...], float] = {}
    for entry in board:
        for finding in _troubles(entry.reading.findings):
            rows[entry.probe, entry.plugin, *_labels(finding)] = 1
    return rows.items()


def _troubles(findings: Sequence[Finding]) -> Sequence[Finding]:
    troubles = [finding for finding in findings if finding.status != Status.HEALTHY]
    troubles.sort(key=lambda finding: (finding.status, finding.advice), reverse=True)
    return troubles[:FINDINGS_PER_PROBE]


def _labels(finding: Finding) -> tuple[str, str, str, str]:
    return finding.name, finding.subject or "", str(finding.status), str(finding.advice)


BOARD_FAMILIES = {
    Family(
        "mlopsd_health_status", "The host's status: 1 for the one that holds.", labels=("status",)
    ): _verdict,
    Family(
        "mlopsd_health_advice", "What should be done: 1 for the advice that holds.", labels=("advice",)
    ): _advice,
    Family(
        "mlopsd_probe_status",
        "The damped status of a probe: 1 for the one that holds.",
        labels=("probe", "status"),
    ): _statuses,
    Family(
        "mlopsd_probe_finding",
        "1 for each finding that is not healthy, of the last reading or lasting from an earlier one.",
        labels=("probe", "plugin", "finding", "subject", "status", "advice"),
    ): _findings,
    Family(
        "mlopsd_probe_last_check_timestamp_seconds",
        "When the last reading of a probe arrived, in seconds since 1970.",
        unit="seconds",
        labels=("probe",),
    ): _last_checks,
}
