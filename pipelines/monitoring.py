"""The recurring pipeline of a release that serves: hold the newest log against the one it was learnt from, and retrain.

Run it once a day, say. Nothing that looks at the world is cached. It ends well where nothing serves yet, where there is
too little to compare, and where drift started a run.
"""

from typing import Any

from kfp import dsl, kubernetes

from components.ingest.component import ingest
from components.monitor.component import monitor
from components.require.component import require
from components.retrain.component import retrain
from components.served.component import served
from components.validate.component import validate
from pipelines.machines import acting

PIPELINE = "nextpage-monitoring"
ENDPOINT = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"


@dsl.pipeline(name=PIPELINE, description="Watches the log for drift against the release that serves, and retrains.")
def monitoring(
    source: str = "completejourney",
    source_options: str = "{}",
    release: str = "",
    rollout: str = "",
    settings: str = "",
    data_engine: str = "duckdb",
    retraining: dict[str, Any] = {},  # noqa: B006 - KFP reads the default from the signature
    cooldown_days: float = 7.0,
    endpoint: str = ENDPOINT,
) -> None:
    """Watches the log for drift against the release that serves, and retrains.

    Args:
        source: Where the newest log comes from, as in nextpage-recommender.
        source_options: Options of the source as JSON.
        release: Where the release lies that is watched (s3, gs, file). Empty: the one that the rollout says serves.
        rollout: The rollout's settings, YAML or JSON text; retrained releases are rolled out by them. Empty: none.
        settings: Overrides of the released recipe, for example validation.max_age_days=2 monitoring.input_bound=0.2.
        data_engine: Where rows are judged: duckdb in the step's own pod, or spark.
        retraining: Further parameters of the retraining run as JSON, such as nodes, accelerator, feature_environment.
        cooldown_days: Days between the beginnings of two retrainings, at least.
        endpoint: Kubeflow Pipelines' API, where runs are started. Empty: none is started.
    """
    serving = acting(served(uri=release, rollout=rollout, settings=settings), "find the release that serves")
    recipe = serving.outputs["recipe"]
    with dsl.If(serving.outputs["Output"] == True, name="where one serves"):  # noqa: E712 - KFP's own operator
        ingested = ingest(source=source, options=source_options)
        ingested.set_caching_options(False).set_display_name("ingest the newest log")
        validated = validate(recipe=recipe, raw=ingested.outputs["raw"], engine=data_engine)
        validated.set_caching_options(False).set_display_name("validate the log")  # it asks how old the log is
        sound = require(verdict=validated.outputs["verdict"]).set_caching_options(False)
        sound.set_display_name("require sound data")

        watched = monitor(
            recipe=recipe,
            clean=validated.outputs["clean"],
            tokenizer=serving.outputs["release"],
            release=serving.outputs["release"],
        ).after(sound)
        watched.set_caching_options(False).set_display_name("watch for drift")

        retrained = retrain(
            findings=watched.outputs["findings"],
            recipe=recipe,
            release=serving.outputs["release"],
            source=source,
            source_options=source_options,
            data_engine=data_engine,
            rollout=rollout,
            further=retraining,
            endpoint=endpoint,
            cooldown_days=cooldown_days,
        )
        retrained.set_caching_options(False).set_display_name("retrain where it drifted")
        kubernetes.add_pod_label(retrained, "access-ml-pipeline", "true")
