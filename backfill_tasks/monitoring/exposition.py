"""The metrics: their names and meanings, and how they are built from readings. No source is read here."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from backfill_tasks.drain.answers import Result
from backfill_tasks.drain.ledger import State
from backfill_tasks.drain.overview import Overview
from backfill_tasks.engine.admission.bound import Bound
from backfill_tasks.engine.admission.indicators import Answer, Reading, Unit
from backfill_tasks.engine.ledger import WatchedRun
from backfill_tasks.engine.rate import Rate
from backfill_tasks.engine.states import LaneState, RunState
from backfill_tasks.forecast.answer import Forecast
from backfill_tasks.monitoring.page_times import BUCKETS
from backfill_tasks.monitoring.roads import RunRoad
from backfill_tasks.monitoring.stalls import Stall
from backfill_tasks.scoring.overview import Overview as Scoring
from backfill_tasks.scoring.states import SessionState

Source = Literal["ledger", "host", "redis", "workers", "lanes", "jobs"]
_Family = GaugeMetricFamily | CounterMetricFamily

#: Every metric with its meaning; docs/reference/metrics.md says more.
MEANINGS: Mapping[str, str] = {
    "backfill_source_up": "1 if the source was read in this scrape, 0 if its metrics are left out",
    "backfill_scrape_duration_seconds": "Duration of this scrape's readings",
    "backfill_run_state": "1 for the run's state, 0 for the others",
    "backfill_run_started_timestamp_seconds": "Start time of the run",
    "backfill_run_finished_timestamp_seconds": "End time of the run",
    "backfill_run_expected_items": "Items that the run will read, if they were counted before its start",
    "backfill_lanes": "Lanes of the run by state",
    "backfill_lanes_held": "Lanes whose next page is postponed, with the reason in the ledger",
    "backfill_lane_idle_seconds": "Time since the lane last moved, unless its next page is postponed",
    "backfill_lane_stalled_seconds": "Time since the lane last moved, with the kind of reason",
    "backfill_lanes_seeded_total": "Seedings of the run's lanes, including the first of each lane",
    "backfill_pages_total": "Committed pages",
    "backfill_items_read_total": "Items read by pages",
    "backfill_items_total": "Items by class, without the quarantine",
    "backfill_quarantined_items": "Items in quarantine",
    "backfill_eligible_items": "Items that the run is about; a lower bound if they were not counted before its start",
    "backfill_enqueued_items": "Items whose job a page of the run has written",
    "backfill_done_items": "Items of the run that have their result, by who gave it",
    "backfill_waiting_items": "Enqueued items whose job has yet to end, by what it waits for",
    "backfill_without_result_items": "Enqueued items that got no result, by reason",
    "backfill_taken_over_items": "Enqueued items that a later run has enqueued again",
    "backfill_forecast_seconds": "Forecast of the time until the run's last item has its result: an 80 % interval",
    "backfill_forecast_binds": "1 for the constraint that decides the forecast",
    "backfill_page_duration_seconds": "Duration of the pages since this exporter started",
    "backfill_pressure_state": "1 for the indicator's answer, 0 for the others",
    "backfill_pressure_seconds": "Value of an indicator that measures time",
    "backfill_pressure_sessions": "Value of an indicator that counts sessions",
    "backfill_pressure_ratio": "Value of an indicator that measures a share, 0 to 1",
    "backfill_drain_state": "1 for the drain's state, 0 for the others",
    "backfill_drain_stopped": "1 with the kind of the reason while the drain is stopped",
    "backfill_drain_calls_total": "Calls of the host's runner by result",
    "backfill_drain_jobs_total": "Jobs that the host reported for these calls, by what became of them",
    "backfill_scoring_state": "1 for the state of the newest session of scoring here, 0 for the others",
    "backfill_scoring_slots_alive": "Slots of the running session that show life; 0 if no session is running",
    "backfill_waiting_jobs": "Our waiting jobs: due, or reserved for scoring here",
    "backfill_reserved_due_seconds": "Time until the first reserved job comes due for the host's runner",
    "backfill_jobs_ahead": "Jobs in the host's queue ahead of a job that this backfill would add now",
    "backfill_bound_jobs": "Most jobs that may be due at the host's next call, if the bound is sized to the drain",
    "backfill_host_call_jobs": "Jobs that one call of the host takes, as measured for the bound",
    "backfill_host_call_period_seconds": "Time between two calls of the host, as measured for the bound",
    "backfill_starved_seconds": "Time for which live jobs have left no room for ours, as measured for the bound",
    "backfill_queue_messages": "Messages waiting in the queue",
    "backfill_dead_letters": "Messages that no worker could process, kept until an operator clears them",
    "backfill_rate_limit_pages_per_second": "Rate limit of all workers together; absent without a limit",
    "backfill_workers": "Workers online",
    "backfill_rate_waiting_pages": "Pages in workers that wait for the rate limit",
}


@dataclass
class Readings:
    """The readings of one scrape. A source that could not be read leaves its values None or empty, and is not `up`."""

    up: dict[Source, bool] = field(default_factory=dict)
    seconds: float | None = None
    runs: Sequence[WatchedRun] = ()
    page_times: Mapping[str, tuple[Sequence[int], float]] = field(default_factory=dict)
    pressure: Sequence[tuple[Reading, Unit]] = ()
    drain: Overview | None = None
    scoring: Scoring | None = None
    ahead: Mapping[str, int] = field(default_factory=dict)
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    stalls: Sequence[Stall] = ()
    roads: Sequence[RunRoad] = ()
    queued: int | None = None
    dead_letters: int | None = None
    rate: Rate | None = None
    workers: Mapping[str, int] | None = None


def families(found: Readings) -> Iterator[Metric]:
    """Yield the readings as Prometheus metric families."""
    yield _gauge("backfill_source_up", ["source"], (((source,), up) for source, up in found.up.items()))
    if found.seconds is not None:
        yield _gauge("backfill_scrape_duration_seconds", [], [([], found.seconds)])
    yield from _of_runs(found.runs)
    yield from _of_lanes(found.runs)
    stalled = [((each.run, each.backfill, str(each.lane), each.kind), each.seconds) for each in found.stalls]
    yield _gauge("backfill_lane_stalled_seconds", [*_OF_RUN, "lane", "reason"], stalled)
    yield from _of_items(found.runs)
    yield from _of_roads(found.roads)
    yield _page_durations(found.page_times)
    yield from _pressure(found.pressure)
    yield from _of_the_drain(found.drain)
    yield from _scoring(found.scoring)
    yield _gauge("backfill_jobs_ahead", ["backfill"], (((name,), jobs) for name, jobs in found.ahead.items()))
    yield from _bounds(found.bounds)
    if found.queued is not None:
        yield _gauge("backfill_queue_messages", [], [([], found.queued)])
    if found.dead_letters is not None:
        yield _gauge("backfill_dead_letters", [], [([], found.dead_letters)])
    if found.rate is not None and found.rate.interval:
        yield _gauge("backfill_rate_limit_pages_per_second", [], [([], 1 / found.rate.interval)])
    if found.workers is not None:
        yield _gauge("backfill_workers", [], [([], len(found.workers))])
        yield _gauge("backfill_rate_waiting_pages", [], [([], sum(found.workers.values()))])


_Samples = Iterable[tuple[Sequence[str], float]]
_OF_RUN = ("run", "backfill")


def _of_runs(runs: Sequence[WatchedRun]) -> Iterator[Metric]:
    states = [((run.id, run.backfill, state), run.state == state) for run in runs for state in get_args(RunState)]
    yield _gauge("backfill_run_state", [*_OF_RUN, "state"], states)
    started = [((run.id, run.backfill), run.started_at.timestamp()) for run in runs]
    yield _gauge("backfill_run_started_timestamp_seconds", _OF_RUN, started)
    finished = [((run.id, run.backfill), run.finished_at.timestamp()) for run in runs if run.finished_at]
    yield _gauge("backfill_run_finished_timestamp_seconds", _OF_RUN, finished)
    expected = [((run.id, run.backfill), run.expected) for run in runs if run.expected is not None]
    yield _gauge("backfill_run_expected_items", _OF_RUN, expected)


def _of_lanes(runs: Sequence[WatchedRun]) -> Iterator[Metric]:
    states = [
        ((run.id, run.backfill, state), sum(lane.state == state for lane in run.lanes))
        for run in runs
        for state in get_args(LaneState)
    ]
    yield _gauge("backfill_lanes", [*_OF_RUN, "state"], states)
    held = [((run.id, run.backfill), sum(lane.held for lane in run.lanes)) for run in runs if run.state == "running"]
    yield _gauge("backfill_lanes_held", _OF_RUN, held)
    idle = [
        ((run.id, run.backfill, str(lane.number)), lane.idle)
        for run in runs
        for lane in run.lanes
        if lane.idle is not None
    ]
    yield _gauge("backfill_lane_idle_seconds", [*_OF_RUN, "lane"], idle)
    seeded = [((run.id, run.backfill), sum(lane.generation for lane in run.lanes)) for run in runs]
    yield _counter("backfill_lanes_seeded_total", _OF_RUN, seeded)
    pages = [((run.id, run.backfill), sum(lane.page for lane in run.lanes)) for run in runs]
    yield _counter("backfill_pages_total", _OF_RUN, pages)


def _of_items(runs: Sequence[WatchedRun]) -> Iterator[Metric]:
    """Yield the metrics of items by class.

    Items leave the quarantine for another class, so their number can fall: it is a gauge, not a counter.
    """
    read = [((run.id, run.backfill), run.counts["read"]) for run in runs]
    yield _counter("backfill_items_read_total", _OF_RUN, read)
    classes = [
        ((run.id, run.backfill, name), count)
        for run in runs
        for name, count in sorted(run.counts.items())
        if name not in {"read", "quarantined"}
    ]
    yield _counter("backfill_items_total", [*_OF_RUN, "class"], classes)
    quarantined = [((run.id, run.backfill), run.counts["quarantined"]) for run in runs]
    yield _gauge("backfill_quarantined_items", _OF_RUN, quarantined)


def _of_roads(roads: Sequence[RunRoad]) -> Iterator[Metric]:
    """Yield how far the items of each run have come. What can't be counted is left out."""
    eligible = [((each.run, each.backfill), each.road.eligible) for each in roads]
    yield _gauge("backfill_eligible_items", _OF_RUN, eligible)
    with_jobs = [(each, each.road) for each in roads if each.road.has_jobs]
    enqueued = [((each.run, each.backfill), road.enqueued) for each, road in with_jobs]
    yield _gauge("backfill_enqueued_items", _OF_RUN, enqueued)
    counted = [(each, each.road.outcome) for each in roads if each.road.outcome is not None]
    done = [((each.run, each.backfill, "at_once"), each.road.at_once) for each in roads]
    done += [((each.run, each.backfill, by), n) for each, outcome in counted for by, n in outcome.done_by.items()]
    yield _gauge("backfill_done_items", [*_OF_RUN, "by"], done)
    waiting = [((each.run, each.backfill, at), n) for each, outcome in counted for at, n in outcome.waiting.items()]
    yield _gauge("backfill_waiting_items", [*_OF_RUN, "state"], waiting)
    without = [((each.run, each.backfill, why), n) for each, outcome in counted for why, n in outcome.without.items()]
    yield _gauge("backfill_without_result_items", [*_OF_RUN, "reason"], without)
    taken_over = [((each.run, each.backfill), outcome.taken_over) for each, outcome in counted]
    yield _gauge("backfill_taken_over_items", _OF_RUN, taken_over)
    yield from _forecasts([(each, each.forecast) for each in roads if each.forecast is not None])


def _forecasts(found: Sequence[tuple[RunRoad, Forecast]]) -> Iterator[Metric]:
    bounds = [
        ((each.run, each.backfill, bound), seconds)
        for each, forecast in found
        for bound, seconds in (("earliest", forecast.earliest_seconds), ("latest", forecast.latest_seconds))
        if seconds is not None
    ]
    yield _gauge("backfill_forecast_seconds", [*_OF_RUN, "bound"], bounds)
    binds = [((each.run, each.backfill, forecast.binds), 1) for each, forecast in found]
    yield _gauge("backfill_forecast_binds", [*_OF_RUN, "constraint"], binds)


def _page_durations(times: Mapping[str, tuple[Sequence[int], float]]) -> Metric:
    name = "backfill_page_duration_seconds"
    family = HistogramMetricFamily(name, MEANINGS[name], labels=["backfill"])
    bounds = [*map(str, BUCKETS), "+Inf"]
    for backfill, (counts, seconds) in times.items():
        family.add_metric([backfill], list(zip(bounds, counts, strict=True)), seconds)
    return family


def _pressure(readings: Sequence[tuple[Reading, Unit]]) -> Iterator[Metric]:
    states = [((each.indicator, answer), each.answer == answer) for each, _ in readings for answer in get_args(Answer)]
    yield _gauge("backfill_pressure_state", ["indicator", "state"], states)
    for unit in get_args(Unit):
        measured = [
            ((each.indicator,), each.measured)
            for each, its_unit in readings
            if its_unit == unit and each.measured is not None
        ]
        yield _gauge(f"backfill_pressure_{unit}", ["indicator"], measured)


def _of_the_drain(found: Overview | None) -> Iterator[Metric]:
    drain = None if found is None else found.drain
    if found is None or drain is None:
        return
    states = [((state,), state == drain.state) for state in get_args(State)]
    yield _gauge("backfill_drain_state", ["state"], states)
    stopped = [((drain.kind,), 1)] if drain.state == "stopped" else []
    yield _gauge("backfill_drain_stopped", ["kind"], stopped)
    # Zeros, too: an increase from nothing at all is no increase to Prometheus.
    calls = {**dict.fromkeys(get_args(Result), 0), **{total.result: total.calls for total in found.totals}}
    yield _counter("backfill_drain_calls_total", ["result"], (((name,), count) for name, count in calls.items()))
    jobs = [((name,), count) for name, count in found.jobs.items()]
    yield _counter("backfill_drain_jobs_total", ["outcome"], jobs)


def _scoring(found: Scoring | None) -> Iterator[Metric]:
    if found is None:
        return
    now = found.session and found.session.state
    states = [((state,), state == now) for state in get_args(SessionState)] if now else []
    yield _gauge("backfill_scoring_state", ["state"], states)
    yield _gauge("backfill_scoring_slots_alive", [], [([], found.alive)])
    waiting = [(("due",), found.due), (("reserved",), found.reserved)]
    yield _gauge("backfill_waiting_jobs", ["kind"], waiting)
    yield _gauge(
        "backfill_reserved_due_seconds", [], [([], due) for due in [found.first_due_seconds] if due is not None]
    )


def _bounds(bounds: Mapping[str, Bound]) -> Iterator[Metric]:
    """Yield what is known of the host's drain, by backfill."""
    yield _gauge("backfill_bound_jobs", ["backfill"], (((name,), each.offer) for name, each in bounds.items()))
    yield _gauge("backfill_host_call_jobs", ["backfill"], (((name,), each.capacity) for name, each in bounds.items()))
    periods = (((name,), each.calls.seconds) for name, each in bounds.items())
    yield _gauge("backfill_host_call_period_seconds", ["backfill"], periods)
    starved = (((name,), each.starved_seconds) for name, each in bounds.items())
    yield _gauge("backfill_starved_seconds", ["backfill"], starved)


def _gauge(name: str, labels: Sequence[str], samples: _Samples) -> Metric:
    return _filled(GaugeMetricFamily(name, MEANINGS[name], labels=labels), samples)


def _counter(name: str, labels: Sequence[str], samples: _Samples) -> Metric:
    return _filled(CounterMetricFamily(name, MEANINGS[name], labels=labels), samples)


def _filled(family: _Family, samples: _Samples) -> Metric:
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family
