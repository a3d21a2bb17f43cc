"""KServe's model server on one address, with a feedback route, bounded bodies and a clean end.

KServe 0.21 binds 0.0.0.0 and [::] whatever it is told; here `host` decides, for REST and gRPC alike. The ports open
only after the release is loaded and warm, so an open port is a ready server.
"""

import asyncio
import gc
import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fastapi
import uvicorn
from fastapi.responses import JSONResponse
from grpc import aio
from kserve import ModelServer
from kserve.errors import InvalidInput
from kserve.model_server import FASTAPI_APP_IMPORT_STRING
from kserve.predictor_config import PredictorConfig
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from prometheus_client import REGISTRY

from serving.batching import BatchingConfig
from serving.body import BoundedBody
from serving.endpoint import Endpoint
from serving.errors import Refused, Unsupported
from serving.events import EventLog, EventLogConfig
from serving.feedback import feedback_route
from serving.history import HistorySource, require_same_features
from serving.metrics import ENGINE, ENGINE_FALLBACKS, PromptCacheMetrics
from serving.release_info import RELEASE_ROUTE, fetch_release, release_route
from serving.sinks import make_sink
from serving.transformer import Transformer

if TYPE_CHECKING:  # torch and the model come only where a release is loaded
    from nextpage.recommender import Recommender

logger = logging.getLogger(__name__)


CUT_S = 1
"""What is still under way when the grace is over, such as an answer that is being sent, is cut after this."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int | None = 8081  # None: REST only
    model_name: str = "nextpage"
    catalogue: Path | None = None  # folder that is watched for other catalogues of the release
    events: str | Path | None = None  # folder of the event log, or URL of Redis; None: nothing is logged
    budget_ms: float = 100.0  # of a history look-up
    engine: str | None = None  # of nextpage.decoding.engines.choice; None: the recipe's decoding.engine
    threads: int = 0  # of an engine on the CPU; 0: one a core
    prompt_cache_mb: int = 256  # of what is kept of prompts between requests; 0: nothing
    grace_s: int = 20  # for calls in flight when the server is told to end
    most_body_bytes: int = 4_000_000
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    event_log: EventLogConfig = field(default_factory=EventLogConfig)


class Route(NamedTuple):
    """A route beside KServe's."""

    path: str
    handler: Callable[..., Any]
    method: str


def serve(release: Path, config: ServerConfig, histories: HistorySource | None = None) -> None:
    """Serve a release until SIGTERM or SIGINT; with `histories`, users by their id.

    Raises what loading raises where the release is damaged, and ValueError where `histories` offers other features
    than the release was trained on.
    """
    from nextpage.recommender import load_recommender

    recommender = load_recommender(release, engine=config.engine, threads=config.threads)
    engine = recommender.chosen.name
    ENGINE.labels(engine).set(1)
    for fallback in recommender.chosen.fallbacks:
        ENGINE_FALLBACKS.labels(fallback.engine, fallback.reason).inc()
        logger.warning("%s decodes: %s", engine, fallback.message)
    if config.prompt_cache_mb:
        recommender.cache_prompts(config.prompt_cache_mb * 2**20)
    if recommender.prompt_cache is not None:
        REGISTRY.register(PromptCacheMetrics(recommender.prompt_cache))
    serve_recommender(recommender, config, histories)


def serve_recommender(recommender: "Recommender", config: ServerConfig, histories: HistorySource | None = None) -> None:
    """As `serve`, with the release already loaded."""
    from serving.catalogue_watch import CatalogueWatch
    from serving.predictor import Predictor

    if histories is not None:
        require_same_features(recommender.feature_service, histories.service)
    events = _event_log(config)
    predictor = Predictor(config.model_name, recommender, config.batching, events=None if histories else events)
    predictor.load()
    model: Endpoint = predictor
    if histories is not None:
        model = Transformer(
            config.model_name,
            histories,
            release=predictor.release,
            predictor=predictor,
            budget_ms=config.budget_ms,
            events=events,
        )
        model.load()
    about = Route(RELEASE_ROUTE, release_route(predictor.release), "GET")
    watch = CatalogueWatch(config.catalogue, predictor.release.hash, predictor.swap) if config.catalogue else None
    with closing(watch) if watch else nullcontext():
        _run(model, config, events, routes=[about], on_end=predictor.close)


def serve_transformer(predictor_host: str, config: ServerConfig, histories: HistorySource) -> None:
    """Serve users by their id through a predictor elsewhere (`host:port`), whose release must match `histories`."""
    release = fetch_release(predictor_host)
    require_same_features(release.feature_service, histories.service)
    events = _event_log(config)
    model = Transformer(
        config.model_name, histories, release=release, predictor=None, budget_ms=config.budget_ms, events=events
    )
    model.load()
    _run(model, config, events, predictor_host=predictor_host)


def _event_log(config: ServerConfig) -> EventLog | None:
    return None if config.events is None else EventLog(make_sink(config.events), config.event_log)


def _run(
    model: Endpoint,
    config: ServerConfig,
    events: EventLog | None,
    *,
    routes: Sequence[Route] = (),
    predictor_host: str | None = None,
    on_end: Callable[[], None] = lambda: None,
) -> None:
    if events is not None:
        routes = [*routes, Route("/v1/feedback", feedback_route(events), "POST")]
    server = NextpageServer(config, routes, PredictorConfig(predictor_host, predictor_request_timeout_seconds=10))
    for chatty in ("kserve", "kserve.trace", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's, not ours to change
    print(
        f"serving {model.name!r} at http://{config.host}:{config.http_port}/v1/models/{model.name}:predict", flush=True
    )
    gc.collect()
    gc.freeze()  # a full collection over all that was loaded would hold up every call for half a second
    try:
        server.start([model])
    finally:
        on_end()
        if events is not None:
            events.close()


class NextpageServer(ModelServer):
    """One model, one address. On SIGTERM it is no longer ready and new calls get 503; calls in flight end, as long as
    the grace lasts; then ports close and the process ends."""

    def __init__(self, config: ServerConfig, routes: Sequence[Route], predictor: PredictorConfig) -> None:
        super().__init__(
            http_port=config.http_port,
            grpc_port=config.grpc_port or 0,
            enable_grpc=config.grpc_port is not None,
            enable_latency_logging=False,
            predictor_config=predictor,
        )
        self.dataplane = _Readiness(self.registered_models)
        self.model_repository_extension = _OneRelease(self.registered_models)
        self._config = config
        self._routes = routes

    def start(self, models: list[Any]) -> None:
        self._register_and_check_atleast_one_model_is_ready(models)
        (self._model,) = models
        self._rest_server = _Rest(self, self._config, self._routes)
        self.servers.append(self._rest_server.start())
        if self.enable_grpc:
            self._grpc_server = _Grpc(self, self._config)
            self.servers.append(self._grpc_server.start(self.max_threads))
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        await self._model.warm_up()
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        await asyncio.gather(*self.servers, self._end(told))

    async def _end(self, told: asyncio.Event) -> None:
        await told.wait()
        self._model.ending = True
        until = asyncio.get_running_loop().time() + self._config.grace_s
        while self._model.in_flight and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)
        self._rest_server.end()
        if self.enable_grpc:
            await self._grpc_server.stop()


class _Readiness(DataPlane):
    """KServe's says that it is ready as long as it runs."""

    async def ready(self) -> bool:
        return all([await model.healthy() for model in self.model_registry.get_models().values()])


class _OneRelease(ModelRepositoryExtension):
    """A server serves one release for its life: KServe's routes to load and unload models are refused."""

    async def load(self, model_name: str) -> None:
        raise Unsupported(f"{model_name!r} cannot be loaded anew: start a server on the other release")

    async def unload(self, model_name: str) -> None:
        raise Unsupported(f"{model_name!r} cannot be unloaded: end its server")


class _Rest(RESTServer):
    def __init__(self, server: ModelServer, config: ServerConfig, routes: Sequence[Route]) -> None:
        super().__init__(
            FASTAPI_APP_IMPORT_STRING,
            server.dataplane,
            server.model_repository_extension,
            config.http_port,
            grace_period=CUT_S,
            timeout_keep_alive=server.timeout_keep_alive,
        )
        self.config.host = config.host
        self._server = _Uvicorn(self.config)
        self._most_body_bytes = config.most_body_bytes
        self._routes = routes

    def end(self) -> None:
        self._server.should_exit = True

    def _register_endpoints(self, app: fastapi.FastAPI) -> None:
        super()._register_endpoints(app)
        for route in self._routes:
            app.add_api_route(route.path, route.handler, methods=[route.method])

    def _add_exception_handlers(self, app: fastapi.FastAPI) -> None:
        super()._add_exception_handlers(app)
        app.add_exception_handler(Refused, _refuse)
        app.add_exception_handler(InvalidInput, _refuse)  # KServe's own prints a traceback for a typing error

    def _add_middlewares(self, app: fastapi.FastAPI) -> None:
        """KServe's times every call into its log; `/metrics` has that, so only bodies are bounded."""
        app.add_middleware(BoundedBody, most=self._most_body_bytes)


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: when to end is NextpageServer's to say."""
        yield


class _Grpc(GRPCServer):
    def __init__(self, server: ModelServer, config: ServerConfig) -> None:
        super().__init__(config.grpc_port, server.dataplane, server.model_repository_extension, {}, CUT_S)
        self._address = f"{config.host}:{config.grpc_port}"
        self._most_body_bytes = config.most_body_bytes

    async def start(self, max_workers: int) -> None:
        self._server = aio.server(
            futures.ThreadPoolExecutor(max_workers=max_workers),
            interceptors=(ExceptionToStatusInterceptor(),),
            options=[
                ("grpc.max_receive_message_length", self._most_body_bytes),
                ("grpc.so_reuseport", 0),  # else a second server would share the port without a word
            ],
        )
        servicer = InferenceServicer(self._data_plane, self._model_repository_extension)
        grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        self._server.add_insecure_port(self._address)
        await self._server.start()
        await self._server.wait_for_termination()


async def _refuse(_: fastapi.Request, refusal: Exception) -> JSONResponse:
    status = refusal.http_status if isinstance(refusal, Refused) else 400
    wait_s = refusal.retry_after_s if isinstance(refusal, Refused) else None
    headers = {"Retry-After": str(wait_s)} if wait_s is not None else None
    return JSONResponse({"error": str(refusal)}, status, headers)
