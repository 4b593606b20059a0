"""Answer the daemon's frames: predictions, batched if possible, and canaries in their turn."""

from __future__ import annotations

import platform
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from . import wire
from .batchable import Batchable, join
from .batching import Batcher
from .canary import Canary
from .canary_rules import CanaryRules
from .lanes import Answer, Job, Lanes
from .libraries import mlflow
from .prediction_stats import PredictionStats
from .request import ModelInput, Request, RequestRejected
from .scoring import JSON, Scorer, print_without_data

PROOF_SECONDS = 1.0  # longest trial of batching
PROOF_PAUSE = 1.0  # seconds; to judge each answer would cost callers time
GPU_FILES = "/dev/nvidia"
LATE = "it was not its turn in time"


@dataclass
class Asked:
    """A request of the daemon, its rows if it can be batched, and its deadline.

    The deadline is a time of the host's monotonic clock, which all processes share. An overloaded model must
    skip requests whose callers have stopped waiting, or it never catches up.
    """

    id: int
    request: Request
    form: Batchable | None
    until: float


class ServingLoop:
    """Answers the requests on *channel* with *model*."""

    def __init__(self, channel: socket.socket, model: Any, opening: dict[str, Any]) -> None:
        self._channel = channel
        self._scorer = Scorer(model, opening["max_rows"], opening["features"])
        self._batcher = Batcher(self._scorer, opening["batching"], mismatched=opening["batching_mismatch"])
        self._canary = Canary(self._scorer, Path(opening["folder"]), opening["canary"])
        self._proof = _Proof(self._canary.rules)
        self._values = PredictionStats(opening["buckets"])
        self._dropped: set[int] = set()  # ids of requests whose callers have gone
        self._sending = threading.Lock()
        self._lanes = Lanes(channel, opening["threads"], read=self._jobs, send=self._send)

    def serve(self) -> None:
        """Report that the model is loaded, and answer until the daemon closes the channel."""
        self._send([({"loaded": self._facts()}, b"")])
        self._lanes.run()

    def _send(self, answers: Sequence[Answer]) -> None:
        whole = b"".join(wire.packed(*answer) for answer in answers)
        with self._sending:
            self._channel.sendall(whole)

    def _jobs(self, frames: Sequence[wire.Frame]) -> Iterator[Job]:
        """Yield the jobs in *frames*, in the order in which they are due."""
        if not self._lanes.waiting:
            self._dropped.clear()
        self._dropped.update(header["id"] for header, _ in frames if header["do"] == "drop")
        waiting: list[Asked] = []
        for header, body in frames:
            if header["do"] == "canary":
                yield from self._predictions(waiting)
                waiting = []
                yield Job(None, partial(self._canary_answers, header, body))
            elif header["do"] == "predict":
                try:
                    waiting.append(self._read(header, body))
                except RequestRejected as rejection:
                    yield _rejected([header["id"]], rejection)
                except Exception as error:  # noqa: BLE001  # an unforeseen body must not fail the other requests
                    print_without_data(error)
                    what = f"it cannot be read: {type(error).__name__}"
                    yield _rejected([header["id"]], RequestRejected(400, what))
        yield from self._predictions(waiting)

    def _read(self, header: dict[str, Any], body: bytes) -> Asked:
        if header["until"] < time.monotonic():
            raise RequestRejected(504, LATE)
        request = self._scorer.read(body, header["type"])
        form = self._batcher.form(request)
        if form is not None:
            for feature in self._scorer.ranges:
                if feature in form.columns:
                    at = form.columns.index(feature)
                    self._scorer.check_range(feature, [row[at] for row in form.rows])
        return Asked(header["id"], request, form, header["until"])

    def _predictions(self, waiting: Sequence[Asked]) -> Iterator[Job]:
        for group in self._grouped(waiting):
            rows = [asked.request.rows for asked in group]
            size = None if None in rows else sum(rows)  # type: ignore[arg-type]  # as the condition says
            yield Job(size, partial(self._timely, group))

    def _timely(self, group: Sequence[Asked]) -> Iterator[list[Answer]]:
        """Answer *group*, without those that nobody waits for any more."""
        now = time.monotonic()
        late = [asked for asked in group if asked.until < now or asked.id in self._dropped]
        if late:
            yield [_rejection(asked.id, RequestRejected(504, LATE)) for asked in late]
        yield from self._group([asked for asked in group if asked not in late])

    def _group(self, group: Sequence[Asked]) -> Iterator[list[Answer]]:
        """Predict *group*; halve it if it fails, so that one bad request costs few extra predictions."""
        if not group:
            return
        if len(group) == 1 or not self._batcher.most_rows:
            yield from ([self._alone(asked)] for asked in group)
        elif (answers := self._joined(group)) is not None:
            yield answers
        elif not self._batcher.most_rows:  # a sample has just ended batching
            yield [({"batching": "mismatch"}, b"")]
            yield from self._group(group)
        else:
            yield from self._group(group[: len(group) // 2])
            yield from self._group(group[len(group) // 2 :])

    def _grouped(self, waiting: Sequence[Asked]) -> list[list[Asked]]:
        groups: list[list[Asked]] = []
        filling: dict[Any, tuple[list[Asked], int]] = {}
        for asked in waiting:
            size = len(asked.form.rows) if asked.form is not None else 0
            key = asked.form.key if asked.form is not None else None
            group, rows = filling.get(key, ([], 0))
            if key is not None and group and rows + size <= self._batcher.most_rows:
                group.append(asked)
            else:
                group, rows = [asked], 0
                groups.append(group)
            if key is not None:
                filling[key] = (group, rows + size)
        return groups

    def _joined(self, group: Sequence[Asked]) -> list[Answer] | None:
        """Return the answers to *group*, predicted in one batch; None if the batch failed."""
        forms = [asked.form for asked in group if asked.form is not None]
        try:
            question = self._scorer.question(join(forms), limited=False)
            answer = self._scorer.predict(question)
            parts = self._batcher.parts(answer, [len(form.rows) for form in forms])
            if parts is None:
                return None
            try:
                if self._batcher.is_mismatch(forms, answer, parts):
                    return None
            except Exception:  # noqa: BLE001  # a row that fails alone leaves nothing to compare
                return [self._alone(asked) for asked in group]
            bodies = [self._scorer.encode_jsonable(part, bare=False) for part in parts]
            answers = [
                _success(asked, asked.request.rows, body) for asked, body in zip(group, bodies, strict=True)
            ]
            answers[0][0].update(self._values.count(answer) | self._proof.of(question, answer))
        except Exception:  # noqa: BLE001  # one request may be at fault; it gets its error when predicted alone
            return None
        return answers

    def _alone(self, asked: Asked) -> Answer:
        try:
            question = self._scorer.question(asked.request)
            answer = self._scorer.predict(question)
            body = self._scorer.encode(answer, bare=question.bare)
            header, _ = _success(asked, question.rows, body)
            header.update(self._values.count(answer) | self._proof.of(question, answer))
        except RequestRejected as rejection:
            if rejection.__cause__ is not None:
                print_without_data(rejection.__cause__)
            return _rejection(asked.id, rejection)
        except Exception as error:  # noqa: BLE001  # numpy or pandas may fail on a model's answer
            print_without_data(error)
            return _rejection(asked.id, RequestRejected(500, f"the model failed: {type(error).__name__}"))
        return header, body

    def _canary_answers(self, header: dict[str, Any], body: bytes) -> Iterator[list[Answer]]:
        given, expected = body[: header["input"]], body[header["input"] :]
        result, question = self._canary.predict((given, header["type"]) if header["type"] else None, expected)
        if question is not None and self._batcher.is_open:
            self._batcher.verify(question, min(PROOF_SECONDS, header["patience"] / 4))
        yield [({"id": header["id"], "canary": result, "facts": self._facts()}, b"")]

    def _facts(self) -> dict[str, Any]:
        scorer = self._scorer
        facts: dict[str, Any] = {
            "flavor": str(scorer.model.loader_module),
            "mlflow": mlflow.__version__,
            "python": platform.python_version(),
            "signature": scorer.schema is not None,
            "batching": self._batcher.why,
            "cuda": _uses_gpu(),
        }
        if scorer.schema is not None and scorer.schema.has_input_names():
            known = set(scorer.schema.input_names())
            if unknown := [feature for feature in scorer.ranges if feature not in known]:
                facts["unknown_features"] = unknown
        return facts


class _Proof:
    """Judges callers' answers by the *rules* of the canary, at most one in `PROOF_PAUSE` seconds."""

    def __init__(self, rules: CanaryRules) -> None:
        self._rules = rules
        self._next = 0.0

    def of(self, question: ModelInput, answer: Any) -> dict[str, bool]:
        """Return ``proof`` for the header of *answer* if it is judged and passes.

        A fault is none of the version's: callers may send what has no good answer.
        """
        now = time.monotonic()
        if now < self._next or not question.rows:
            return {}
        self._next = now + PROOF_PAUSE
        return {"proof": True} if not self._rules.judge(question, answer, {}) else {}


def _success(asked: Asked, rows: int | None, body: bytes) -> Answer:
    return {"id": asked.id, "code": 200, "type": JSON, "rows": rows}, body


def _rejected(numbers: Sequence[int], rejection: RequestRejected) -> Job:
    return Job(0, lambda: [[_rejection(number, rejection) for number in numbers]])


def _rejection(number: int, rejection: RequestRejected) -> Answer:
    return {"id": number, "code": rejection.code, "detail": rejection.detail}, b""


def _uses_gpu() -> bool:
    """Return whether this process has a file of an NVIDIA driver open."""
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if str(entry.readlink()).startswith(GPU_FILES):
                return True
        except OSError:  # the descriptor of the listing itself
            continue
    return False
