"""The kit for authors of probes: the conformance tests, and a context for unit tests.

::

    from mlopsd.testing import ProbeConformance, context

    class TestDoor(ProbeConformance):
        name = "door"                                 # the entry point
        table = {"path": "/dev/door"}                 # its keys, if the defaults are not enough
        may_be_absent = frozenset({"door_celsius"})   # metrics that this machine may not have

    def test_a_door_is_counted() -> None:
        recorded = context()
        Door(DoorOptions(), recorded).check()
        assert recorded.instruments.count(OPENED) == 1
"""

from mlopsd.testing.conformance import ProbeConformance
from mlopsd.testing.recorded_context import RecordedContext, context

__all__ = ["ProbeConformance", "RecordedContext", "context"]
