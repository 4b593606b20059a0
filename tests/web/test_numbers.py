"""The numbers of a probe in one line: sums, the mean, the highest, and those of its predictions."""

from mlopsd.probe import Column, Metric, Reading, Sample, SubjectTable
from mlopsd.trends import Traffic, Trends
from mlopsd.web.api.numbers import numbers_of
from tests.fakes import Clock
from tests.web.fakes import House

BUSY = Metric("busy_ratio", "Busy.", unit="ratio", labels=("gpu",))
MEMORY = Metric("memory_bytes", "Memory.", unit="bytes", labels=("gpu",))
TOTAL = Metric("total_bytes", "All memory.", unit="bytes", labels=("gpu",))
HEAT = Metric("heat_celsius", "Heat.", unit="celsius", labels=("gpu",))
LIMIT = Metric("limit_celsius", "Limit.", unit="celsius", labels=("gpu",))
TABLE = SubjectTable(
    "gpu",
    (Column("Busy", BUSY), Column("Memory", MEMORY, limit=TOTAL), Column("Heat", HEAT, limit=LIMIT)),
)


def numbers(*samples: Sample, traffic: Traffic | None = None) -> dict[str, tuple[float, float | None]]:
    house, trends = House(), Trends()
    house.watch("gpu", Reading(samples=samples))
    trends.follow({"gpu": TABLE})
    found = numbers_of(house.board["gpu"], trends, traffic or Traffic())
    return {one["title"]: (one["value"], one.get("limit")) for one in found}


def of(gpu: str, busy: float, memory: float, heat: float) -> list[Sample]:
    return [
        BUSY.sample(busy, gpu=gpu),
        MEMORY.sample(memory, gpu=gpu),
        TOTAL.sample(100, gpu=gpu),
        HEAT.sample(heat, gpu=gpu),
        LIMIT.sample(90, gpu=gpu),
    ]


async def test_shares_are_averaged_temperatures_compared_and_the_rest_added() -> None:
    assert numbers(*of("0", 0.2, 30, 50), *of("1", 0.6, 12, 70)) == {
        "Busy": (0.4, None),
        "Memory": (42, 200),
        "Heat": (70, None),
    }


async def test_what_no_card_reports_is_left_out() -> None:
    assert numbers(MEMORY.sample(5, gpu="0")) == {"Memory": (5, None)}
    assert numbers() == {}


async def test_predictions_are_numbers_too() -> None:
    clock = Clock()
    traffic = Traffic(clock)
    traffic.follow(["gpu"])
    assert numbers(traffic=traffic) == {"Requests": (0, None), "Errors": (0, None)}
    for failed in (False, False, True):
        traffic.observe("gpu", 0.05, has_failed=failed)
    clock.now += 10
    found = numbers(traffic=traffic)
    assert found["Requests"] == (0.3, None)
    assert found["Errors"] == (1, None)
    assert 0.04 < found["p99"][0] < 0.07
