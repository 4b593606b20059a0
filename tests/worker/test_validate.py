"""What a probe returned, before anybody believes it."""

import pytest

from mlopsd.probe import Finding, Reading, Status
from mlopsd.worker.validate import verified
from mlopsd.worker.worker import InvalidReading

H, D, N, U = Status.HEALTHY, Status.DEGRADED, Status.UNKNOWN, Status.UNHEALTHY


def reading(status: Status, *findings: Status) -> Reading:
    judged = [Finding(f"door {number}", found, "ajar") for number, found in enumerate(findings)]
    return Reading(judged, status=status, summary="as it says")


@pytest.mark.parametrize("status", [H, D])
def test_a_reading_that_is_well_without_a_finding_is_nonsense(status: Status) -> None:
    words = f"the reading is {status} without a finding; add a finding for the checked fact"
    with pytest.raises(InvalidReading, match=words):
        verified(reading(status))


@pytest.mark.parametrize(("status", "findings"), [(H, [H, D]), (D, [U, D]), (N, [H, U]), (H, [N])])
def test_a_reading_that_is_better_than_its_worst_finding_is_nonsense(
    status: Status, findings: list[Status]
) -> None:
    words = f"the reading is {status}, but its finding 'door .' is {max(findings)}; omit its status"
    with pytest.raises(InvalidReading, match=words):
        verified(reading(status, *findings))


@pytest.mark.parametrize(
    ("status", "findings"), [(N, []), (U, []), (H, [H]), (U, [H, D]), (D, [D, H]), (N, [D, N])]
)
def test_a_reading_may_be_worse_than_what_it_reports(status: Status, findings: list[Status]) -> None:
    assert verified(reading(status, *findings)).status is status


def test_a_finding_lasts_or_does_not() -> None:
    finding = Finding("door", U, "gone", lasting="until a reboot")  # type: ignore[arg-type]
    with pytest.raises(InvalidReading, match="finding 'door': lasting is neither True nor False"):
        verified(Reading([finding]))
