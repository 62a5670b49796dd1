"""What every route stands on: the engine, the keys, the limits, the counters and the log of one worker."""

from __future__ import annotations

import asyncio
import collections
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import BinaryIO, Self, cast

import orjson
import structlog
from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import Receive
from structlog.typing import FilteringBoundLogger, Processor

from api.auth import Holder, Keys, allow
from api.exchange import Exchange, exchange_of, read_body, require
from engine.alarms import Alarms
from engine.arbiter import Arbiter, Caller, Reveals
from engine.errors import Conflict, SettingsError, TooMuch, did_you_mean
from engine.experiments import Standing

PREFIX = "ARBITER_API_"
FLUSH_SECONDS = 0.05
METERS = "meters"
"""What other workers are asked: their counters."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_VERDICT = b'"verdict":"'
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one worker takes on. Each is a setting: `ARBITER_API_EVENT_BYTES`, `ARBITER_API_RATE_PER_KEY` and so on."""

    event_bytes: int = 64 * 1024
    """Bytes of one event, also of one line of a batch."""
    batch_bytes: int = 8 * 1024 * 1024
    """Bytes of one batch; so much of it may stand in memory."""
    rulebook_bytes: int = 32 * 1024 * 1024
    """Bytes of one proposed rulebook, its papers included."""
    image_bytes: int = 10 * 1024 * 1024
    """Bytes of one image."""
    batch_lines_at_once: int = 32
    """Events of one batch decided at the same time."""
    batches_at_once: int = 8
    """Batches read at the same time; more are asked to come back."""
    body_seconds: int = 30
    """Seconds to wait for the next piece of a body."""
    rate_per_key: int = 5_000
    """Requests, and lines of batches, per second and key."""
    burst_per_key: int = 10_000
    """Requests at once, after a silence."""
    reveals_per_hour: int = 60
    """Times in an hour that one key may see personal data, in all workers together."""

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """The limits that `environ` sets. Raises SettingsError with the variable and its value."""
        known = {PREFIX + field.name.upper(): field.name for field in fields(cls)}
        given = {name: text for name, text in environ.items() if name.startswith(PREFIX)}
        for name in given.keys() - known.keys():
            raise SettingsError(f"{name} is not a setting; {did_you_mean(name, known) or ', '.join(known)}")
        return cls(**{known[name]: _positive(name, text) for name, text in given.items()})


def _positive(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text) > 0):
        raise SettingsError(f"{name} has the value '{text}': it must be a whole number above 0")
    return int(text)


Drifts = Mapping[tuple[str, str, str], float]
"""PSI by detector, segment and feature."""

DRIFT_LINE = 0.25
"""PSI from which a population is usually called another one (Siddiqi, "Credit Risk Scorecards", 2006)."""


class _Drift(Collector):
    """How far events of late differ from the training data, worked out when it is asked for."""

    def __init__(self, drift: Callable[[], Drifts]) -> None:
        self._drift = drift

    def describe(self) -> Iterable[Metric]:
        """Nothing before there is something to show."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """A gauge for each feature of each model, and the line at which to alert."""
        figures = self._drift()
        if figures:
            gauge = GaugeMetricFamily(
                "arbiter_model_drift",
                "Population stability index of the last 1,000 to 10,000 events against the training data.",
                labels=("detector", "segment", "feature"),
            )
            for labels, figure in sorted(figures.items()):
                gauge.add_metric(labels, figure)
            yield gauge
            yield GaugeMetricFamily("arbiter_model_drift_line", "The drift from which to alert.", value=DRIFT_LINE)


class _Store(Collector):
    """How often the store of windows did not answer."""

    def __init__(self, failures: Callable[[], int]) -> None:
        self._failures = failures

    def collect(self) -> Iterable[Metric]:
        """One counter."""
        text = "Events and corrections that the store of windows did not answer."
        yield CounterMetricFamily("arbiter_store_failures", text, value=self._failures())


class _Fired(Collector):
    """How often each rule gave a finding, live and in the shadow."""

    def __init__(self, fired: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        self._fired = fired

    def describe(self) -> Iterable[Metric]:
        """Nothing before there is something to show."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """One counter; a rule is there from its first finding on."""
        counter = CounterMetricFamily("arbiter_findings", "Findings of each rule.", labels=("rule", "mode"))
        for labels, count in sorted(self._fired().items()):
            counter.add_metric(labels, count)
        yield counter


class _Experiments(Collector):
    """How far experiments are, as of when somebody asked last."""

    def __init__(self, standings: Callable[[], Mapping[tuple[str, str], Standing]]) -> None:
        self._standings = standings

    def describe(self) -> Iterable[Metric]:
        """Nothing before there is something to show."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Units, how many are needed, and of what is finished the difference with its interval."""
        arms = ("tenant", "experiment", "arm")
        units = GaugeMetricFamily("arbiter_experiment_units", "Units of each arm.", labels=arms)
        needed = GaugeMetricFamily("arbiter_experiment_needed", "Units that each arm needs.", labels=arms)
        text = "Share live less share in the shadow, and the ends of its interval, once the sample is full."
        shown = GaugeMetricFamily("arbiter_experiment_difference", text, labels=("tenant", "experiment", "end"))
        for labels, each in sorted(self._standings().items()):
            for arm, count in each.units.items():
                units.add_metric((*labels, arm), count)
                needed.add_metric((*labels, arm), each.experiment.needed[arm])
            if each.result is not None:
                for end in ("low", "difference", "high"):
                    shown.add_metric((*labels, end), getattr(each.result, end))
        yield from (units, needed, shown)


class _Alerts(Collector):
    """How the alert lines stand, in the process that watches them."""

    def __init__(self, alarms: Callable[[], Alarms | None]) -> None:
        self._alarms = alarms

    def describe(self) -> Iterable[Metric]:
        """Nothing before there is something to show."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The figure of each line whose groups are few, and of each line how many alerts are raised."""
        alarms = self._alarms()
        if alarms is None or not alarms.watched:
            return
        text = "The figure that an alert line looks at: a share, basis points, a count, one an hour, or µs."
        figure = GaugeMetricFamily("arbiter_figure", text, labels=("tenant", "line", "metric", "group", "currency"))
        metrics = {line.id: line.metric.name for line in alarms.lines}
        for (tenant, name, group), figures in sorted(alarms.shown.items()):
            for each in figures:
                figure.add_metric((tenant, name, metrics[name], group, each.currency), each.value)
        raised = collections.Counter((tenant, name) for tenant, name, _ in alarms.raised)
        alert = GaugeMetricFamily("arbiter_alert", "Alerts that are raised.", labels=("tenant", "line", "severity"))
        for tenant in sorted({tenant for tenant, _, _ in (*alarms.shown, *alarms.raised)}):
            for line in alarms.lines:
                alert.add_metric((tenant, line.id, line.severity), raised[tenant, line.id])
        yield from (figure, alert)


class _Reveals(Collector):
    """Who saw personal data how often, and how often that was unusual."""

    def __init__(self, reveals: Callable[[], Reveals | None]) -> None:
        self._reveals = reveals

    def describe(self) -> Iterable[Metric]:
        """Nothing before there is something to show."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Two counters, each from its first look on."""
        reveals = self._reveals()
        if reveals is not None:
            looks = CounterMetricFamily("arbiter_reveals", "Looks at personal data.", labels=("purpose",))
            for purpose, count in sorted(reveals.counts.items()):
                looks.add_metric((purpose,), count)
            text = "Looks at personal data that are unusual for their key, and those refused by its limit."
            alarms = CounterMetricFamily("arbiter_reveals_unusual", text, labels=("why",))
            for why, count in sorted(reveals.alarms.items()):
                alarms.add_metric((why,), count)
            yield from (looks, alarms)


Family = tuple[str, str, str, Sequence[tuple[str, Mapping[str, str], float]]]
"""A metric: its name, what it is, its type, and its samples, each with name, labels and value."""


NOBODY: Mapping[int, Sequence[Family]] = {}


class _Merged(Collector):
    """The metrics of several workers."""

    def __init__(self, workers: Mapping[int, Sequence[Family]]) -> None:
        self._workers = workers

    def collect(self) -> Iterable[Metric]:
        """Each metric once, with the samples of all."""
        merged: dict[str, Metric] = {}
        for worker, families in sorted(self._workers.items()):
            for name, about, kind, samples in families:
                metric = merged.setdefault(name, Metric(name, about, kind))
                for sample, labels, value in samples:
                    metric.add_sample(sample, {**labels, "worker": str(worker)}, value)
        return merged.values()


class Meters:
    """Counters for /metrics, by route, method, status, verdict and problem code: few values each, none personal."""

    def __init__(
        self,
        drift: Callable[[], Drifts],
        store_failures: Callable[[], int] = int,
        reveals: Callable[[], Reveals | None] = lambda: None,
        fired: Callable[[], Mapping[tuple[str, str], int]] = dict,
        standings: Callable[[], Mapping[tuple[str, str], Standing]] = dict,
        alarms: Callable[[], Alarms | None] = lambda: None,
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Drift(drift))
        self._registry.register(_Store(store_failures))
        self._registry.register(_Reveals(reveals))
        self._registry.register(_Fired(fired))
        self._registry.register(_Experiments(standings))
        self._registry.register(_Alerts(alarms))
        ProcessCollector(registry=self._registry)  # memory, open files and processor time of this worker
        self._seconds = Histogram(
            "arbiter_request_seconds", "Time from request to answer.", ("method", "route"),
            buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self._requests = Counter(
            "arbiter_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._verdicts = Counter("arbiter_verdicts", "Verdicts given.", ("verdict",), registry=self._registry)
        self._problems = Counter("arbiter_problems", "Problems answered.", ("code",), registry=self._registry)
        # The labelled children, found in one look-up: `labels()` costs more than counting does.
        self._pairs: dict[tuple[str, str, int], tuple[Histogram, Counter]] = {}
        self._by_verdict: dict[bytes, Counter] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        pair = self._pairs.get((method, route, status)) or self._pair(method, route, status)
        pair[0].observe(seconds)
        pair[1].inc()

    def verdict(self, answer: bytes) -> bool:
        """Count the verdict in an answer's JSON; False when it holds none.

        No caller's string can pass for it: there, quotes are escaped.
        """
        start = answer.rfind(_VERDICT) + len(_VERDICT)
        if start < len(_VERDICT):
            return False
        name = answer[start : answer.index(b'"', start)]
        counter = self._by_verdict.get(name)
        if counter is None:
            counter = self._by_verdict[name] = self._verdicts.labels(name.decode())
        counter.inc()
        return True

    def problem(self, code: str) -> None:
        """Count one refused request or batch line."""
        self._problems.labels(code).inc()

    def text(self, worker: int = 0, others: Mapping[int, Sequence[Family]] = NOBODY) -> bytes:
        """All counters in Prometheus' text form. Where there are other workers, each sample has a label that says whose
        it is; one that is started anew begins at 0, as any process does."""
        if not others:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        together.register(_Merged({worker: self.families(), **others}))
        return generate_latest(together)

    def families(self) -> list[Family]:
        """All counters, as other workers pass them on."""
        return [
            (family.name, family.documentation, family.type, [(s.name, s.labels, s.value) for s in family.samples])
            for family in self._registry.collect()
        ]

    def _pair(self, method: str, route: str, status: int) -> tuple[Histogram, Counter]:
        label = method if method in _METHODS else "other"
        pair = self._seconds.labels(label, route), self._requests.labels(label, route, str(status))
        if label == method:
            self._pairs[method, route, status] = pair
        return pair


class Desk:
    """One worker's parts. `arbiter` is there from the end of the start-up on."""

    def __init__(self, arbiter: Arbiter | None, limits: Limits, log: FilteringBoundLogger) -> None:
        self._arbiter: Arbiter | None = None
        self.limits, self.log, self.meters = (
            limits,
            log,
            Meters(self._drift, self._store_failures, self._reveals, self._fired, self._standings, self._alarms),
        )
        self.keys = Keys(self._authenticate, limits.rate_per_key, limits.burst_per_key)
        self.batches = asyncio.Semaphore(limits.batches_at_once)
        self.seat(arbiter)

    @property
    def arbiter(self) -> Arbiter:
        """The engine."""
        assert self._arbiter is not None, "the lifespan has not run"
        return self._arbiter

    def _drift(self) -> Drifts:
        return self._arbiter.drift() if self._arbiter is not None else {}

    def _standings(self) -> Mapping[tuple[str, str], Standing]:
        return self._arbiter.standings if self._arbiter is not None else {}

    def _alarms(self) -> Alarms | None:
        return self._arbiter.alarms if self._arbiter is not None else None

    def _fired(self) -> Mapping[tuple[str, str], int]:
        return self._arbiter.fired if self._arbiter is not None else {}

    def _reveals(self) -> Reveals | None:
        return self._arbiter.reveals if self._arbiter is not None else None

    def _store_failures(self) -> int:
        return self._arbiter.store_failures if self._arbiter is not None else 0

    def seat(self, arbiter: Arbiter | None) -> None:
        """Put the engine in place, or take it away."""
        self._arbiter = arbiter
        if arbiter is not None:
            arbiter.team.on(METERS, lambda _: self.meters.families())

    async def others(self) -> dict[int, list[Family]]:
        """The counters of the other workers, of those that answer."""
        return await self.arbiter.team.ask(METERS)

    async def admit(self, exchange: Exchange, *scopes: str) -> Holder:
        """The holder of the key in the request, who has one of `scopes` (none: any key will do) and may go on now.

        Raises NotAllowed (no key, a wrong one, or a missing scope) and TooMuch.
        """
        holder = await self.keys.holder(exchange.headers)
        exchange.caller = holder.caller
        allow(holder.caller, *scopes)
        if wait := self.keys.wait(holder):
            raise TooMuch("This key asks faster than it may.", retry_after=int(wait) + 1)
        return holder

    async def decide(self, body: bytes, holder: Holder, deadline_ms: int | None) -> bytes:
        """The verdict on one event, as JSON. Raises what the engine raises; Conflict where there is none."""
        answer = await self.arbiter.decide(body, holder.caller, deadline_ms=deadline_ms)
        if not self.meters.verdict(answer):
            raise Conflict("This event was recorded without a verdict, and gets none later.")
        return answer

    async def body(self, receive: Receive, exchange: Exchange, limit: int | None = None) -> bytes:
        """The request's JSON body, of at most `limit` bytes, or as many as an event may have.

        Raises MediaTypeRefused, TooMuch, BodyLate, ClientDisconnect.
        """
        require(b"application/json", exchange.headers)
        most = limit or self.limits.event_bytes
        return await read_body(receive, exchange.headers, most, self.limits.body_seconds)

    async def _authenticate(self, secret: str) -> Caller:
        return await self.arbiter.authenticate(secret)


def desk_of(request: Request) -> Desk:
    """The desk of the worker that answers this request."""
    desk = request.app.state.desk
    assert isinstance(desk, Desk)
    return desk


async def read_json(request: Request, limit: int | None = None) -> bytes:
    """The JSON body of a request to an ordinary route; `limit` in bytes, without it that of an event."""
    return await desk_of(request).body(request.receive, exchange_of(request.scope), limit)


class Coalesced:
    """A stream that passes on what was written at most every 50 ms.

    A flush for each line would be a system call for each request, at which the writer thread takes the interpreter.
    What cannot be written, because the disk is full or nobody reads any more, must not cost a verdict: the lines are
    counted, and a line says how many they were as soon as there is room again.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._timer: asyncio.TimerHandle | None = None
        self._lost = 0

    def write(self, line: bytes) -> None:
        """Take in one line."""
        try:
            self._stream.write(line)
        except OSError:
            self._lost += 1

    def flush(self) -> None:
        """Soon, or at once where no event loop runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._now()
            return
        if self._timer is None:
            self._timer = loop.call_later(FLUSH_SECONDS, self._now)

    def _now(self) -> None:
        self._timer = None
        try:
            self._stream.flush()
            if self._lost:
                self._stream.write(b'{"event":"lines_lost","count":%d,"level":"error"}\n' % self._lost)
                self._lost = 0
                self._stream.flush()
        except OSError:
            return  # what waits stays in the stream's buffer until the next line


def use_json_log() -> None:
    """What the engine says goes where the requests go, in the same form."""
    structlog.configure(
        processors=list(_PROCESSORS),
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.BytesLoggerFactory(file=cast(BinaryIO, Coalesced(sys.stdout.buffer))),
    )


_PROCESSORS: Sequence[Processor] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.JSONRenderer(serializer=orjson.dumps),
)


def json_log(stream: BinaryIO | None = None, level: str = "info") -> FilteringBoundLogger:
    """A log of one JSON object per line, to `stream` or standard output."""
    log: FilteringBoundLogger = structlog.wrap_logger(
        structlog.BytesLogger(cast(BinaryIO, Coalesced(stream or sys.stdout.buffer))),
        processors=list(_PROCESSORS),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    return log


@dataclass(frozen=True, slots=True)
class Needs:
    """A FastAPI dependency: the caller, who has one of `scopes` (none: any key will do)."""

    scopes: tuple[str, ...]

    async def __call__(self, request: Request) -> Caller:
        return (await desk_of(request).admit(exchange_of(request.scope), *self.scopes)).caller
