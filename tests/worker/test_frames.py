"""What a reading is on its way from a process of a probe."""

import pytest

from mlopsd.probe import Finding, Reading, Sample, Status
from mlopsd.worker import frames

FINE = Finding("door", Status.HEALTHY, "shut")
CARDS = [
    Sample(name, float(card), (("gpu", str(card)), ("sensor", "edge")))
    for name in ("temperature_celsius", "power_watts")
    for card in range(8)
]


def over_the_wire(*samples: Sample) -> Reading:
    frame = frames.encode(frames.from_reading(Reading(findings=[FINE], samples=samples)))
    return frames.to_reading(frames.decode(frame[frames.LENGTH.size :]))


def test_samples_arrive_as_they_were_and_in_their_order() -> None:
    assert over_the_wire(*CARDS, CARDS[0]).samples == (*CARDS, CARDS[0])
    assert over_the_wire().samples == ()


def test_what_is_equal_goes_over_the_wire_once_and_is_kept_once() -> None:
    packed = frames.from_reading(Reading(findings=[FINE], samples=CARDS))["samples"]
    assert len(packed["names"]) == 2
    assert len(packed["labels"]) == 8
    assert len(packed["pairs"]) == 9
    arrived = over_the_wire(*CARDS).samples
    assert arrived[0].labels is arrived[8].labels
    assert arrived[0].labels[1] is arrived[1].labels[1]
    assert arrived[0].name is arrived[7].name


def test_labels_that_cannot_be_told_apart_arrive_for_the_metrics_to_refuse() -> None:
    odd = Sample("open", 1.0, (("rack", ["a", "b"]),))  # type: ignore[arg-type]
    assert over_the_wire(odd, CARDS[0]).samples == (odd, CARDS[0])


@pytest.mark.parametrize(
    "change",
    [
        {"name_of": [5]},
        {"labels_of": [1]},
        {"labels_of": []},
        {"values": [1.0, 2.0]},
        {"labels": [[2]]},
        {"labels": [0]},
        {"labels": [[["gpu", "0"]]]},
        {"pairs": [["gpu"], ["sensor"]]},
        {"pairs": None},
        {"pairs": None, "labels": [[["gpu"]]]},
        {"name_of": ["0"]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_place_that_does_not_exist_is_no_reading(change: dict[str, object]) -> None:
    frame = frames.from_reading(Reading(findings=[FINE], samples=CARDS[:1]))
    frame["samples"] |= change
    with pytest.raises(frames.BadFrame, match="no reading"):
        frames.to_reading(frame)
