"""The pipeline: from a raw log to a sealed release, a report and a watch on drift.

`align` has a gate that stops nothing: where an aligned model does not pass it, its base goes on. With `rollout` the
release gets its first users, and the run waits some minutes for the canary; the A/B test's days are `rollout.py`'s.
"""

from kfp import dsl

from components.align.component import align
from components.configure.component import configure
from components.deploy.component import act, deploy
from components.evaluate.component import evaluate
from components.features.component import features
from components.gate.component import canary
from components.ingest.component import ingest
from components.monitor.component import monitor
from components.place.component import place
from components.release.component import release
from components.report.component import report
from components.require.component import require
from components.tokenize.component import tokenize
from components.train.component import train
from components.validate.component import validate
from pipelines.machines import CHECKPOINTS, run_at

PIPELINE = "nextpage-recommender"


@dsl.pipeline(name=PIPELINE, description="From an interaction log to a released generative recommender.")
def recommender(
    source: str = "completejourney",
    source_options: str = "{}",
    recipe: str = "genrec",
    settings: str = "",
    encoder: str = "",
    training_steps: int = 0,
    release_name: str = "nextpage",
    feature_environment: str = "local",
    checkpoints: str = CHECKPOINTS,
    accelerator: str = "",
    node_pool: str = "",
    nodes: int = 1,
    training_processes: int = 1,
    served_from: str = "RELEASE",
    rollout: str = "",
) -> None:
    """From an interaction log to a released generative recommender.

    Args:
        source: Where the log comes from: completejourney, movielens, amazon or columns.
        source_options: Options of the source as JSON; for example {"households": 600}.
        recipe: Name of a shipped recipe (genrec), or a whole recipe as YAML text.
        settings: Overrides of the recipe, section.key=value, apart by spaces; they win over the ones below. Alignment
            is set here: alignment.objective=none leaves the model as it was trained.
        encoder: Text encoder of the items; empty: as the recipe says.
        training_steps: Steps of training; 0: as the recipe says.
        release_name: Names the release and its feature services.
        feature_environment: Feast's stores: local (DuckDB, SQLite) or cluster (Redis).
        checkpoints: A folder that outlives a killed train or align step, so that its retry goes on.
        accelerator: What a GPU is called in the cluster, such as nvidia.com/gpu. Empty: training runs on CPUs.
        node_pool: A label of the nodes that train, key=value, whose taint is tolerated. Empty: any node.
        nodes: Nodes of training and of alignment; more than one are a TrainJob of Kubeflow Trainer.
        training_processes: Processes of training and of alignment on each node, one a GPU.
        served_from: The release's path in the command that the report shows.
        rollout: Where and how the release is rolled out, YAML or JSON text as in components/deploy/README.md. Empty: it
            is not deployed.
    """
    configured = configure(
        recipe=recipe, settings=settings, encoder=encoder, training_steps=training_steps, rollout=rollout
    )
    resolved = configured.outputs["resolved"]
    ingested = ingest(source=source, options=source_options)
    validated = validate(recipe=resolved, raw=ingested.outputs["raw"])
    sound = require(verdict=validated.outputs["verdict"]).set_display_name("require sound data")
    clean = validated.outputs["clean"]

    featured = features(recipe=resolved, clean=clean, version=release_name, environment=feature_environment)
    featured.after(sound).set_caching_options(False)  # it fills the online store
    store = featured.outputs["features"]

    tokenized = tokenize(recipe=resolved, clean=clean).after(sound)
    healthy = require(verdict=tokenized.outputs["verdict"]).set_display_name("require healthy codes")
    tokenizer = tokenized.outputs["tokenizer"]

    placed = place(accelerator=accelerator, node_pool=node_pool, nodes=nodes, processes=training_processes)
    machines = {"accelerator": accelerator, "node_pool": node_pool, "nodes": nodes, "processes": training_processes}

    trained = train(
        recipe=resolved,
        features=store,
        tokenizer=tokenizer,
        clean=clean,
        checkpoints=checkpoints,
        **machines,
    ).after(healthy)
    run_at(trained, placed.outputs)

    aligned = align(
        base=trained.outputs["candidate"],
        features=store,
        clean=clean,
        checkpoints=checkpoints,
        **machines,
    )
    run_at(aligned, placed.outputs)
    candidate = aligned.outputs["candidate"]

    evaluated = evaluate(candidate=candidate, features=store, clean=clean)
    good = require(verdict=evaluated.outputs["recall"]).set_display_name("require recall")
    valid = require(verdict=evaluated.outputs["invalid_items"]).set_display_name("require valid items")

    released = release(
        candidate=candidate,
        figures=evaluated.outputs["figures"],
        model_card=evaluated.outputs["card"],
        name=release_name,
    ).after(good, valid)

    # A bool of configure and not the text: the local runner skips a condition that it cannot read, and a text with a
    # line break is one.
    with dsl.If(configured.outputs["Output"] == True, name="with a rollout"):  # noqa: E712 - KFP's own operator
        deployed = deploy(release=released.outputs["release"], rollout=rollout).set_caching_options(False)
        looked = canary(rollout=rollout, wait=True).after(deployed).set_caching_options(False)
        looked.set_display_name("operational canary")
        moved = act(canary=looked.outputs["record"], rollout=rollout).set_caching_options(False)
        moved.set_display_name("move traffic")

    watched = monitor(
        recipe=resolved,
        clean=clean,
        tokenizer=tokenizer,
        release=released.outputs["release"],
        features=store,
    ).set_caching_options(False)  # it judges the world as it is now

    report(
        name=release_name,
        served_from=served_from,
        clean=clean,
        quarantine=validated.outputs["quarantine"],
        tokenizer=tokenizer,
        model=trained.outputs["model"],
        figures=evaluated.outputs["figures"],
        model_card=evaluated.outputs["card"],
        release=released.outputs["release"],
        predictions=watched.outputs["predictions"],
        findings=watched.outputs["findings"],
        alignment=aligned.outputs["outcome"],
        data_verdict=validated.outputs["verdict"],
        tokenizer_verdict=tokenized.outputs["verdict"],
        alignment_verdict=aligned.outputs["verdict"],
        recall_verdict=evaluated.outputs["recall"],
        invalid_items_verdict=evaluated.outputs["invalid_items"],
        ingest_metrics=ingested.outputs["metrics"],
        validate_metrics=validated.outputs["metrics"],
        features_metrics=featured.outputs["metrics"],
        tokenize_metrics=tokenized.outputs["metrics"],
        train_metrics=trained.outputs["metrics"],
        align_metrics=aligned.outputs["metrics"],
        evaluate_metrics=evaluated.outputs["metrics"],
        release_metrics=released.outputs["metrics"],
        monitor_metrics=watched.outputs["metrics"],
    )
    # After the report has been asked for: a monitor that hears noise is still to be seen.
    require(verdict=watched.outputs["verdict"]).set_display_name("require a quiet monitor")
