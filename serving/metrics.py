"""What Prometheus sees. KServe's server shows these on `/metrics` beside its own."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:  # it imports torch, which a transformer does not need
    from nextpage.decoding.prompt_cache import PromptCache

LATENCY = Histogram(
    "nextpage_request_seconds",
    "Time from a decoded call to its encoded answer.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
REQUESTS = Counter("nextpage_requests", "Calls by how they ended.", ["outcome"])
IN_FLIGHT = Gauge("nextpage_inflight_requests", "Calls being answered now.")
DEGRADED = Counter("nextpage_degraded", "Slates answered from popularity, by reason.", ["reason"])
INVALID_ITEMS = Counter(
    "nextpage_invalid_items",
    "Items that the search returned though they are repeated, not in the catalogue or not allowed. Must stay 0.",
)
BATCH_SIZE = Histogram(
    "nextpage_batch_size", "Requests that one run of the model answered.", buckets=(1, 2, 4, 8, 16, 32, 64)
)
EXPECTED_WAIT = Gauge("nextpage_expected_wait_seconds", "Until all that waits now is answered, as expected.")
EVENTS = Counter("nextpage_events", "Logged rows by kind and fate (written, dropped).", ["kind", "fate"])
RELEASE = Gauge("nextpage_release_info", "1 for the release that is served.", ["name", "hash"])
CATALOGUE = Gauge("nextpage_catalogue_info", "1 for the catalogue that is served, if not the release's own.", ["hash"])
CATALOGUE_ITEMS = Gauge("nextpage_catalogue_items", "Items that can be recommended.")
CATALOGUE_SINCE = Gauge("nextpage_catalogue_since_seconds", "When the catalogue was taken up, in seconds since 1970.")
CATALOGUES = Counter("nextpage_catalogues", "Catalogues that came, by fate.", ["fate"])
ENGINE = Gauge("nextpage_engine_info", "1 for the engine that decodes.", ["engine"])
ENGINE_FALLBACKS = Counter(
    "nextpage_engine_fallbacks", "Engines that were passed over when the release was opened.", ["engine", "reason"]
)

for outcome in ("ok", "invalid", "overloaded", "late", "unavailable", "error", "cancelled"):
    REQUESTS.labels(outcome)  # a counter that is there at 0 can be alerted on
for fate in ("served", "refused"):
    CATALOGUES.labels(fate)
for kind in ("exposures", "feedback", "requests"):
    EVENTS.labels(kind, "written")
    EVENTS.labels(kind, "dropped")


class PromptCacheMetrics(Collector):
    """What a prompt cache has counted itself."""

    def __init__(self, cache: "PromptCache[Any, Any]") -> None:
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        fates = CounterMetricFamily("nextpage_prompts", "Prompts by what was known of them.", labels=["fate"])
        fates.add_metric(["hit"], self._cache.hits)
        fates.add_metric(["extension"], self._cache.extensions)
        fates.add_metric(["miss"], self._cache.misses)
        yield fates
        yield GaugeMetricFamily("nextpage_prompt_cache_bytes", "Of what is kept of prompts.", self._cache.nbytes)
