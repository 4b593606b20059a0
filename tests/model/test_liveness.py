"""Silence is counted only while the daemon itself was awake; a slow process neither hangs nor stalls."""

import os

import pytest

from mlopsd_probes.model.serving.liveness import HeartbeatPipe, Liveness, Reason, Silence, beat_interval


class Clock:
    """The steady clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A process that is looked at once a second, and that hangs after 60 s and stalls after 300 s."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.liveness = Liveness(60, 300, self.clock)

    def after(
        self, seconds: float, *, has_beaten: bool, waiting: int = 0, answered: int = 0
    ) -> Reason | None:
        """Return the diagnosis after so many seconds, with one check a second."""
        for _ in range(int(seconds)):
            self.clock.now += 1
            found = self.liveness.judge(has_beaten=has_beaten, waiting=waiting, answered=answered)
            if found is not None:
                return found[0]
        return None


def test_without_a_heartbeat_a_process_hangs() -> None:
    watched = Watched()
    assert watched.after(59, has_beaten=False) is None
    assert watched.after(1, has_beaten=False) == "hang"


def test_one_beat_restarts_the_silence() -> None:
    watched = Watched()
    for _ in range(5):
        assert watched.after(59, has_beaten=False) is None
        assert watched.after(1, has_beaten=True) is None


def test_a_process_that_beats_and_finishes_nothing_stalls() -> None:
    watched = Watched()
    assert watched.after(299, has_beaten=True, waiting=1) is None
    assert watched.after(1, has_beaten=True, waiting=1) == "stall"


def test_a_process_that_nobody_asks_or_that_answers_does_not_stall() -> None:
    watched = Watched()
    assert watched.after(1000, has_beaten=True) is None
    for answered in range(10):
        assert watched.after(200, has_beaten=True, waiting=5, answered=answered) is None


def test_a_daemon_that_was_stopped_does_not_take_its_own_absence_for_the_models() -> None:
    watched = Watched()
    assert watched.after(5, has_beaten=True, waiting=1) is None
    for _ in range(10):  # stopped ten times for an hour
        watched.clock.now += 3600
        assert watched.after(1, has_beaten=False, waiting=1) is None


def test_a_daemon_that_is_late_at_every_check_finds_out_all_the_same() -> None:
    clock = Clock()
    silence = Silence(2, clock)
    for _ in range(30):
        clock.now += 50
        silence.add(sign=False)
    assert silence.seconds == 60


def test_a_heartbeat_is_seen_once_however_often_it_was_sent() -> None:
    heartbeat = HeartbeatPipe()
    assert not heartbeat.has_beaten()
    os.write(heartbeat.write_end, bytes(3600))
    assert heartbeat.has_beaten()
    assert not heartbeat.has_beaten()
    heartbeat.close_write_end()
    assert not heartbeat.has_beaten()
    heartbeat.close()
    assert not heartbeat.has_beaten()
    heartbeat.close()


@pytest.mark.parametrize(("hang_timeout", "interval"), [(60, 1.0), (5, 1.0), (1, 0.2)])
def test_several_beats_fit_into_the_time_after_which_a_process_hangs(
    hang_timeout: float, interval: float
) -> None:
    assert beat_interval(hang_timeout) == interval
