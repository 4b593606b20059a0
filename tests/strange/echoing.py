"""A stranger's predictor: it says what it is sent."""

import asyncio
from pathlib import Path

from mlopsd.predictor import Prediction, PredictionError, Predictor, PredictorOptions
from mlopsd.probe import Finding, Reading, Schedule, Status


class EchoOptions(PredictorOptions):
    """*voice* comes before the echo, which *takes* seconds, and is given once the file *gate* is there."""

    voice: str = "echo"
    takes: float = 0
    gate: Path | None = None


class Echo(Predictor[EchoOptions]):
    """A cave."""

    Options = EchoOptions
    schedule = Schedule(interval=0.2, timeout=5, fail_after=1, recover_after=1, critical=True)

    async def check(self) -> Reading:
        return Reading(findings=[Finding("cave", Status.HEALTHY, "the cave is empty")])

    @property
    def served_version(self) -> str | None:
        return self.options.voice

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        if content_type != "application/json":
            raise PredictionError(415, f"{content_type!r} has no echo; send application/json")
        await asyncio.sleep(self.options.takes)
        if self.options.gate is not None:
            self.options.gate.with_suffix(".asked").touch()
            while not self.options.gate.exists():
                await asyncio.sleep(0.01)
        return Prediction(b'{"%s": %s}' % (self.options.voice.encode(), body))
