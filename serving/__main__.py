"""`python -m serving`: what the container runs. KServe's controller adds `--model_name`, `--http_port` and, for a
transformer, `--predictor_host`; with that last one no release is loaded here."""

import argparse
import os
import sys
from pathlib import Path

from kserve import model_server

from nextpage.release import FeatureService, ReleaseRefused
from serving.batching import BatchingConfig
from serving.events import EventLogConfig
from serving.history import FeastServerHistory
from serving.server import ServerConfig, serve, serve_transformer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m serving", parents=[model_server.parser], description=__doc__)
    parser.add_argument("--release", type=Path, default=Path("/mnt/models"), help="The release folder to serve.")
    parser.add_argument("--host", default="127.0.0.1", help="The address to listen on; 0.0.0.0 in a container.")
    parser.add_argument("--feature_server", help="URL of Feast's feature server, to serve users by their id.")
    parser.add_argument("--feature_service", help="Name of the feature service to read there.")
    parser.add_argument("--feature_service_hash", help="Its hash, which must be the release's.")
    parser.add_argument("--budget_ms", type=float, default=100.0, help="Longest wait for a user's history.")
    parser.add_argument("--target_ms", type=float, default=1000.0, help="Longest wait for an answer; 0: any.")
    parser.add_argument("--engine", help="auto, torch, onnx, onnx-int8, cuda or tensorrt; else what the recipe says.")
    parser.add_argument("--threads", type=int, default=0, help="Of an engine on the CPU; 0: one a core.")
    parser.add_argument("--prompt_cache_mb", type=int, default=256, help="Memory for prompts that were read; 0: none.")
    parser.add_argument("--catalogue", type=Path, help="Folder to watch for other catalogues of the release.")
    parser.add_argument("--events", help="Folder, or redis://…, for the log of requests, exposures and feedback.")
    parser.add_argument("--events_flush_s", type=float, default=10.0, help="Longest wait of a row before it is kept.")
    args = parser.parse_args()
    config = ServerConfig(
        host=args.host,
        http_port=args.http_port,
        grpc_port=args.grpc_port if args.enable_grpc else None,
        model_name=args.model_name,
        catalogue=args.catalogue,
        events=args.events or os.environ.get("NEXTPAGE_EVENTS"),
        budget_ms=args.budget_ms,
        engine=args.engine,
        threads=args.threads,
        prompt_cache_mb=args.prompt_cache_mb,
        batching=BatchingConfig(target_ms=args.target_ms),
        event_log=EventLogConfig(flush_s=args.events_flush_s),
    )
    histories = None
    if args.feature_server:
        if not (args.feature_service and args.feature_service_hash):
            parser.error("--feature_server needs --feature_service and --feature_service_hash")
        service = FeatureService(name=args.feature_service, hash=args.feature_service_hash)
        histories = FeastServerHistory(args.feature_server, service)
    try:
        if args.predictor_host:
            if histories is None:
                parser.error("--predictor_host makes this a transformer: it needs --feature_server")
            serve_transformer(args.predictor_host, config, histories)
        else:
            serve(args.release, config, histories)
    except (ReleaseRefused, ValueError, OSError) as failure:
        sys.exit(f"not serving: {failure}")


if __name__ == "__main__":
    main()
