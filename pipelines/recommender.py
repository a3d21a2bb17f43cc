"""The pipeline: from a raw log to a sealed release, a report and a watch on drift.

`align` has a gate that stops nothing: where an aligned model does not pass it, its base goes on. With `rollout` the
release gets its first users, and the run waits some minutes for the canary. However the run ends, `notify` says so.
"""

from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

from components.align.component import align
from components.configure.component import configure
from components.evaluate.component import evaluate
from components.features.component import features
from components.ingest.component import ingest
from components.monitor.component import monitor
from components.notify.component import notify
from components.optimise.component import optimise
from components.place.component import place
from components.release.component import release
from components.report.component import report
from components.require.component import require
from components.tokenize.component import tokenize
from components.train.component import train
from components.validate.component import validate
from pipelines.first_users import first_users
from pipelines.machines import CHECKPOINTS, at_checkpoints, run_at, secret_env

PIPELINE = "nextpage-recommender"


def _require(verdict: Any, title: str, run: Mapping[str, Any]) -> PipelineTask:
    """Stop the run where a gate failed; what the verdict was is left for the run's summary."""
    return at_checkpoints(require(verdict=verdict, **run)).set_display_name(title)


def _metrics(*steps: PipelineTask) -> dict[str, Any]:
    """Each step's metrics, by its name."""
    return {f"{step.name}_metrics": step.outputs["metrics"] for step in steps}


@dsl.pipeline(name=PIPELINE, description="From an interaction log to a released generative recommender.")
def recommender(
    source: str = "completejourney",
    source_options: str = "{}",
    recipe: str = "genrec",
    settings: str = "",
    release_name: str = "nextpage",
    data_engine: str = "duckdb",
    feature_environment: str = "local",
    checkpoints: str = CHECKPOINTS,
    accelerator: str = "",
    node_pool: str = "",
    nodes: int = 1,
    training_processes: int = 1,
    rollout: str = "",
    webhook: str = "",
) -> None:
    """From an interaction log to a released generative recommender.

    Args:
        source: Where the log comes from: completejourney, movielens, amazon or columns.
        source_options: Options of the source as JSON; for example {"households": 600}.
        recipe: Name of a shipped recipe (genrec), or a whole recipe as YAML text.
        settings: Overrides of the recipe, section.key=value, apart by spaces; for example training.steps=4200
            tokenizer.encoder=minilm alignment.objective=none.
        release_name: Names the release and its feature services.
        data_engine: Where rows are judged and histories made: duckdb in the steps' own pods, or spark.
        feature_environment: Feast's stores: local (DuckDB, SQLite) or cluster (Redis).
        checkpoints: A folder that outlives a killed step that learns, so that its retry goes on.
        accelerator: What a GPU is called in the cluster, such as nvidia.com/gpu. Empty: training runs on CPUs.
        node_pool: A label of the nodes that train, key=value, whose taint is tolerated. Empty: any node.
        nodes: Nodes of the steps that learn; more than one are a TrainJob of Kubeflow Trainer.
        training_processes: Processes of the steps that learn on each node, one a GPU.
        rollout: Where and how the release is rolled out, YAML or JSON text as in components/deploy/README.md. Empty: it
            is not deployed.
        webhook: URL that is told how the run ended, as JSON. Empty: the one of the Secret nextpage-webhook, where there
            is one; a URL that is a secret belongs there, for everybody sees this form.
    """
    run = {"notes": checkpoints, "run": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
    machines = {"accelerator": accelerator, "node_pool": node_pool, "nodes": nodes, "processes": training_processes}

    told = at_checkpoints(notify(name=release_name, webhook=webhook, **run)).set_display_name("tell how it ended")
    secret_env(told, "nextpage-webhook", url="NEXTPAGE_WEBHOOK")
    with dsl.ExitHandler(told, name="from log to release"):
        configured = configure(recipe=recipe, settings=settings, data_engine=data_engine, rollout=rollout)
        configured.set_display_name("resolve the recipe")
        resolved = configured.outputs["resolved"]
        placed = place(**machines).set_display_name("place on machines")
        learning = {"checkpoints": checkpoints, **machines}

        ingested = ingest(source=source, options=source_options).set_display_name("ingest the log")
        validated = validate(recipe=resolved, raw=ingested.outputs["raw"], engine=data_engine)
        validated.set_display_name("validate the log")
        clean = validated.outputs["clean"]
        sound = _require(validated.outputs["verdict"], "require sound data", run)

        featured = features(
            recipe=resolved, clean=clean, version=release_name, environment=feature_environment, engine=data_engine
        ).after(sound)
        featured.set_caching_options(False).set_display_name("fill the feature store")
        secret_env(featured, "nextpage-feast", registry="NEXTPAGE_FEAST_REGISTRY", redis="NEXTPAGE_FEAST_REDIS")
        store = featured.outputs["features"]

        tokenized = tokenize(recipe=resolved, clean=clean, **learning).after(sound)
        run_at(tokenized.set_display_name("learn semantic IDs"), placed.outputs)
        tokenizer = tokenized.outputs["tokenizer"]
        healthy = _require(tokenized.outputs["verdict"], "require healthy codes", run)

        trained = train(recipe=resolved, features=store, tokenizer=tokenizer, clean=clean, **learning).after(healthy)
        run_at(trained.set_display_name("train the model"), placed.outputs)
        aligned = align(base=trained.outputs["candidate"], features=store, clean=clean, **learning)
        run_at(aligned.set_display_name("align the model"), placed.outputs)
        candidate = aligned.outputs["candidate"]

        evaluated = evaluate(candidate=candidate, features=store, clean=clean).set_display_name("evaluate the model")
        good = _require(evaluated.outputs["recall"], "require recall", run)
        valid = _require(evaluated.outputs["invalid_items"], "require valid items", run)

        figures, model_card = evaluated.outputs["figures"], evaluated.outputs["card"]
        released = release(candidate=candidate, figures=figures, model_card=model_card, name=release_name, **run)
        at_checkpoints(released.after(good, valid).set_display_name("seal the release"))

        # Engines lie beside the release's sealed files; where none is right, the release goes on as it is.
        optimised = optimise(sealed=released.outputs["release"], features=store, clean=clean)
        optimised.set_display_name("build engines")
        shipped = optimised.outputs["release"]

        watched = monitor(
            recipe=resolved,
            clean=clean,
            tokenizer=tokenizer,
            release=shipped,
            features=store,
        )
        watched.set_caching_options(False).set_display_name("watch for drift")  # it judges the world as it is now

        reported = report(
            name=release_name,
            clean=clean,
            quarantine=validated.outputs["quarantine"],
            tokenizer=tokenizer,
            model=trained.outputs["model"],
            figures=figures,
            model_card=model_card,
            release=shipped,
            predictions=watched.outputs["predictions"],
            findings=watched.outputs["findings"],
            alignment=aligned.outputs["outcome"],
            data_verdict=validated.outputs["verdict"],
            tokenizer_verdict=tokenized.outputs["verdict"],
            alignment_verdict=aligned.outputs["verdict"],
            recall_verdict=evaluated.outputs["recall"],
            invalid_items_verdict=evaluated.outputs["invalid_items"],
            **_metrics(
                ingested, validated, featured, tokenized, trained, aligned, evaluated, released, optimised, watched
            ),
        )
        reported.set_display_name("report on the run")

        # After the report, which is to be seen of a run that a noisy monitor or a rollback fails. A bool of configure
        # and not the text: the local runner skips a condition that it cannot read, and a text with a line break is one.
        with dsl.If(configured.outputs["Output"] == True, name="with a rollout"):  # noqa: E712 - KFP's own operator
            first = first_users(release=shipped, clean=clean, rollout=rollout).after(reported)
            first.set_display_name("give it first users")
        _require(watched.outputs["verdict"], "require a quiet monitor", run)
