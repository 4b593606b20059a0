"""What a reading is on its way from a process of a probe."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mlopsd.probe import Advice, Finding, Reading, Sample, Status
from mlopsd.process import frames
from mlopsd.worker.codec import Incoming, Outgoing

FINE = Finding("door", Status.HEALTHY, "shut")
CARDS = [
    Sample(name, float(card), (("gpu", str(card)), ("sensor", "edge")))
    for name in ("temperature_celsius", "power_watts")
    for card in range(8)
]


def sent(frame: dict[str, Any]) -> dict[str, Any]:
    """*frame* as it arrives."""
    return frames.decode(frames.pack(frame)[frames.HEAD.size :])


def over_the_wire(*samples: Sample) -> Reading:
    return Incoming().reading(sent(Outgoing().frame(Reading(findings=[FINE], samples=samples))))


class Wire:
    """From a process to the daemon, reading after reading."""

    def __init__(self) -> None:
        self.outgoing, self.incoming = Outgoing(), Incoming()

    def carry(self, *samples: Sample) -> tuple[set[str], Sequence[Sample]]:
        """What of *samples* went over, and what arrived."""
        frame = sent(self.outgoing.frame(Reading(findings=[FINE], samples=samples), self.incoming.known))
        return set(frame["samples"]), self.incoming.reading(frame).samples


ALL = {"layout", "values", "names", "pairs", "labels", "name_of", "labels_of"}
VALUES = {"layout", "values"}


def test_samples_arrive_as_they_were_and_in_their_order() -> None:
    assert over_the_wire(*CARDS, CARDS[0]).samples == (*CARDS, CARDS[0])
    assert over_the_wire().samples == ()


def test_what_is_equal_goes_over_the_wire_once_and_is_kept_once() -> None:
    packed = Outgoing().frame(Reading(findings=[FINE], samples=CARDS))["samples"]
    assert len(packed["names"]) == 2
    assert len(packed["labels"]) == 8
    assert len(packed["pairs"]) == 9
    arrived = over_the_wire(*CARDS).samples
    assert arrived[0].labels is arrived[8].labels
    assert arrived[0].labels[1] is arrived[1].labels[1]
    assert arrived[0].name is arrived[7].name


def test_labels_that_are_equal_arrive_for_the_metrics_to_refuse() -> None:
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
    frame = Outgoing().frame(Reading(findings=[FINE], samples=CARDS[:1]))
    frame["samples"] |= change
    with pytest.raises(frames.BadFrame, match="not a reading"):
        Incoming().reading(frame)


def test_names_and_labels_go_over_again_only_when_they_are_others() -> None:
    wire = Wire()
    hotter = [replace(sample, value=sample.value + 40) for sample in CARDS]
    assert wire.carry(*CARDS) == (ALL, tuple(CARDS))
    assert wire.carry(*hotter) == (VALUES, tuple(hotter))
    assert wire.carry(CARDS[0], *hotter[1:]) == (VALUES, (CARDS[0], *hotter[1:]))
    assert wire.carry(*hotter[:-1]) == (ALL, tuple(hotter[:-1])), "a card has gone"
    assert wire.carry(*CARDS[:-1]) == (VALUES, tuple(CARDS[:-1]))
    assert wire.carry(*reversed(CARDS[:-1])) == (ALL, tuple(reversed(CARDS[:-1]))), "in another order"
    assert wire.carry() == (ALL, ())
    assert wire.carry() == (VALUES, ())
    assert wire.carry(*CARDS) == (ALL, tuple(CARDS))


def test_a_layout_that_was_sent_and_not_taken_is_sent_again() -> None:
    wire = Wire()
    wire.carry(*CARDS)
    wire.outgoing.frame(Reading(findings=[FINE], samples=CARDS[:3]), wire.incoming.known)
    assert wire.carry(*CARDS[:3]) == (ALL, tuple(CARDS[:3]))


@pytest.mark.parametrize("known", [None, 1, 2])
def test_a_restarted_process_sends_everything_whatever_its_forerunner_had_sent(
    known: int | None,
) -> None:
    frame = Outgoing().frame(Reading(findings=[FINE], samples=CARDS), known)
    assert set(frame["samples"]) == ALL


@pytest.mark.parametrize(
    "samples",
    [
        {"layout": 1, "values": [1.0]},
        {"layout": None, "values": []},
        {"layout": 2, "values": [0.0] * len(CARDS)},
        {"values": [0.0] * len(CARDS)},
        {"layout": 1, "values": [0.0] * (len(CARDS) - 1)},
        {key: [] for key in sorted(ALL)} | {"layout": "one"},
        {"layout": 1, "values": [], "names": []},
    ],
    ids=str,
)
def test_values_of_a_layout_that_was_never_sent_are_no_reading(samples: dict[str, Any]) -> None:
    incoming = Incoming()
    frame = Outgoing().frame(Reading(findings=[FINE], samples=CARDS))
    incoming.reading(frame)
    with pytest.raises(frames.BadFrame, match="not a reading"):
        incoming.reading(frame | {"samples": samples})
    assert incoming.reading(frame).samples == tuple(CARDS)


@pytest.mark.parametrize("lasting", [True, False])
def test_a_finding_arrives_as_it_was(*, lasting: bool) -> None:
    finding = Finding("door", Status.UNHEALTHY, "gone", "front", 3, "doors", 4, Advice.REBOOT, lasting)
    arrived = Incoming().reading(sent(Outgoing().frame(Reading(findings=[finding]))))
    assert arrived.findings == (finding,)
