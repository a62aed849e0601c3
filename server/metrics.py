"""What Prometheus sees at ``/metrics``: vLLM's names under our prefix, in a registry of our own.

Model labels are bounded: the first hundred names that were really served, the rest is ``other``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.types import Final

MAX_MODELS = 100
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600)
TOKEN_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


class Gauges(Collector):
    """Numbers that are read when somebody asks, not kept. ``read`` gives (name, help, {label: value})."""

    def __init__(self, read: Callable[[], Iterable[tuple[str, str, dict[str, float]]]]) -> None:
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, text, values in self._read():
            family = GaugeMetricFamily(f"llamada_{name}", text, labels=["model_name"])
            for label, value in values.items():
                family.add_metric([label], value)
            yield family

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._models: set[str] = set()
        ProcessCollector(registry=self.registry)
        self._prompt = self._counter("prompt_tokens", "Prompt tokens, cached ones included.")
        self._cached = self._counter("prefix_cache_hits", "Prompt tokens that the prefix cache spared.")
        self._output = self._counter("generation_tokens", "Generated tokens.")
        self._success = self._counter("request_success", "Answers that came to their end.", "finished_reason")
        self._ttft = self._histogram("time_to_first_token_seconds", "From request to first token.")
        self._latency = self._histogram("e2e_request_latency_seconds", "From request to last token.")
        self._queue = self._histogram("request_queue_time_seconds", "Waiting for a slot.")
        self._prefill = self._histogram("request_prefill_time_seconds", "Computing the prompt.")
        self._decode = self._histogram("request_decode_time_seconds", "Computing the answer.")
        self._load = self._histogram("model_load_seconds", "Until a loaded model was at hand.")
        self._per_token = self._histogram("inter_token_latency_seconds", "Mean time per token.", TOKEN_SECONDS)
        own = self.registry
        self._left = Counter("llamada_client_disconnects", "Requests whose client left.", registry=own)
        self._status = Counter("llamada_http_requests", "Answers by status.", ["status"], registry=own)
        self._rejected = Counter("llamada_rejections", "Requests turned away.", ["reason"], registry=own)
        self.lag = Gauge("llamada_eventloop_lag_seconds", "How late the server's event loop last was.", registry=own)

    def watch(self, read: Callable[[], Iterable[tuple[str, str, dict[str, float]]]]) -> None:
        """Adds gauges that are read at every scrape (resident models, slots, queues)."""
        self.registry.register(Gauges(read))

    def exposition(self) -> bytes:
        return generate_latest(self.registry)

    def answered(self, model: str, final: Final, *, ttft_ns: int, elapsed_ns: int) -> None:
        """One generation that came to its end."""
        label = self._label(model)
        self._success.labels(label, final.reason).inc()
        if final.reason in ("load", "unload"):
            return
        self._prompt.labels(label).inc(final.prompt_tokens)
        self._cached.labels(label).inc(final.cached_tokens)
        self._output.labels(label).inc(final.output_tokens)
        for histogram, ns in (
            (self._ttft, ttft_ns),
            (self._latency, elapsed_ns),
            (self._queue, final.queue_ns),
            (self._prefill, final.prompt_ns),
            (self._decode, final.decode_ns),
            (self._load, final.load_ns),
            (self._per_token, final.decode_ns / max(1, final.output_tokens)),
        ):
            histogram.labels(label).observe(ns / 1e9)

    def request_done(self, status: int) -> None:
        self._status.labels(str(status)).inc()
        if status == 499:
            self._left.inc()
        reason = {413: "too_large", 503: "busy", 403: "forbidden"}.get(status)
        if reason:
            self._rejected.labels(reason).inc()

    def _label(self, model: str) -> str:
        if model in self._models or len(self._models) < MAX_MODELS:
            self._models.add(model)
            return model
        return "other"

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"llamada_{name}", text, ["model_name", *labels], registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
        return Histogram(f"llamada_{name}", text, ["model_name"], buckets=buckets, registry=self.registry)
