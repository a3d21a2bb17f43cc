"""`nextpage`: the command line. What is heavy is imported by the command that needs it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pipelines.local import Run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

FULL_TRAINING = "training.steps=4200"

Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Override of the recipe, section.key=value; may be repeated.")
]
Recipe = Annotated[str, typer.Option(help="A shipped recipe, or the path of a YAML file.")]
Data = Annotated[str, typer.Option(help="completejourney, movielens, amazon, or columns.")]
Options = Annotated[str, typer.Option("--data-options", help='Options of the source as JSON, {"households": 600}.')]
Rollout = Annotated[
    str, typer.Option(help="YAML file of a rollout (components/deploy/README.md); empty: no deployment.")
]
Parameters = Annotated[
    list[str] | None, typer.Option("--parameter", help="Another field of the run form, name=value; may be repeated.")
]
Folder = Annotated[Path, typer.Argument(help="The release folder.", exists=True, file_okay=False)]


@app.command()
def run(
    name: Annotated[str, typer.Option(help="The run's folder under --runs, and the release's name.")] = "local",
    recipe: Recipe = "genrec",
    data: Data = "completejourney",
    data_options: Options = "{}",
    settings: Settings = None,
    rollout: Rollout = "",
    parameters: Parameters = None,
    full: Annotated[bool, typer.Option("--full", help="Train three times as long as the demo.")] = False,
    runs: Annotated[Path, typer.Option(help="Where run folders lie.")] = Path("runs"),
) -> None:
    """Run the pipeline on this machine: from a raw log to a release, with summary.json and report.html."""
    from pipelines.local import Run, RunFailed, run_locally
    from pipelines.summary import collect

    folder = runs / name
    longer = [FULL_TRAINING] if full else []
    arguments = _arguments(recipe, data, data_options, [*longer, *(settings or [])]) | {
        "release_name": name,
        "rollout": _text(rollout),
        "checkpoints": str((folder / "checkpoints").absolute()),
        **_fields(parameters),
    }
    try:
        done = run_locally(folder, arguments)
    except RunFailed as error:
        if (folder / "artifacts").is_dir():
            collect(Run(folder=folder))
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from error
    _show(done, collect(done))


@app.command()
def experiment(
    folder: Annotated[Path, typer.Argument(help="The folder of a finished run.", exists=True, file_okay=False)],
    requests: Annotated[int, typer.Option(help="Requests to replay at least.", min=1)] = 20_000,
) -> None:
    """A/B tests on this machine: the run's release and planted bad ones, before users of its held-out weeks."""
    from components.report.experiments import add_experiments
    from pipelines.experiment import ExperimentConfig, run_experiments
    from pipelines.local import Run
    from pipelines.summary import add_verdicts

    if not (folder / "release").is_dir():
        typer.secho(f"{folder} holds no release: name the folder of a run that came to its end", fg="red", err=True)
        raise typer.Exit(1)
    result = run_experiments(Run(folder=folder), ExperimentConfig(requests=requests))
    add_verdicts(folder, result)
    add_experiments(folder / "report.html", result)
    replayed = result["replay"]
    typer.echo(f"\n{replayed['sent']:,} requests, {sum(replayed['failed'].values())} failed, {result['seconds']:.0f} s")
    for name, found in result["verdicts"].items():
        typer.echo(f"{name:<18} {found['verdict']:<9} {folder / found['card']}")
    if missed := [name for name, found in result["verdicts"].items() if name != "ab" and not found["passed"]]:
        typer.secho(f"planted, and not found: {', '.join(missed)}", fg="red", err=True)
        raise typer.Exit(1)


@app.command()
def rollout(
    settings: Annotated[Path, typer.Argument(help="YAML file of the rollout.", exists=True, dir_okay=False)],
    resume: Annotated[bool, typer.Option("--resume", help="Finish what a process that died had begun.")] = False,
    roll_back: Annotated[str, typer.Option(help="Take the new release back, for this reason.")] = "",
) -> None:
    """Where a rollout stands; with an option, a hand on it."""
    from pipelines.standing import standing

    try:
        typer.echo(standing(settings.read_text(), resume=resume, roll_back=roll_back))
    except (RuntimeError, ValueError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from error


@app.command()
def drain(
    url: Annotated[str, typer.Argument(help="Of Redis: redis://host:6379/0.")],
    folder: Annotated[Path, typer.Argument(help="The event log that attribution and gates read.", file_okay=False)],
) -> None:
    """Move what servers logged to Redis into a folder of Parquet files. A rollout's looks do so by themselves."""
    from redis import RedisError

    from serving.sinks import drain as moved

    try:
        for kind, rows in moved(url, folder).items():
            typer.echo(f"{rows:>12,}  {kind}")
    except RedisError as error:
        typer.secho(f"{url}: {error}: what was not moved is still there, run again", fg="red", err=True)
        raise typer.Exit(1) from error


@app.command()
def compile(
    output: Annotated[Path, typer.Option(help="Folder for the YAML.")] = Path("build/pipelines"),
) -> None:
    """Write the pipelines as YAML for the Kubeflow UI."""
    from pipelines.compiler import compile_pipelines

    for path in compile_pipelines(output):
        typer.echo(path)


@app.command()
def submit(
    host: Annotated[str, typer.Option(help="The Kubeflow Pipelines endpoint.", envvar="KF_PIPELINES_ENDPOINT")],
    name: Annotated[str, typer.Option(help="Names the run and the release.")] = "nextpage",
    recipe: Recipe = "genrec",
    data: Data = "completejourney",
    data_options: Options = "{}",
    settings: Settings = None,
    rollout: Rollout = "",
    parameters: Parameters = None,
    experiment: Annotated[str, typer.Option(help="Experiment in the UI.")] = "nextpage",
    namespace: Annotated[str | None, typer.Option(help="Profile, where Kubeflow has many users.")] = None,
    token: Annotated[
        str | None, typer.Option(help="Bearer token, where one is asked.", envvar="KF_PIPELINES_TOKEN")
    ] = None,
) -> None:
    """Start the pipeline on a Kubeflow cluster."""
    from pipelines.compiler import submit_run

    arguments = _arguments(recipe, data, data_options, settings or [])
    arguments |= {"release_name": name, "rollout": _text(rollout), **_fields(parameters)}
    started = submit_run(host, name, arguments, experiment=experiment, namespace=namespace, token=token)
    typer.echo(started)


@app.command()
def serve(
    release: Folder,
    features: Annotated[Path | None, typer.Option(help="The features folder; by default the one beside it.")] = None,
    port: Annotated[int, typer.Option(help="REST; gRPC takes the next one.")] = 8080,
    catalogue: Annotated[Path | None, typer.Option(help="Folder to watch for other catalogues of the release.")] = None,
) -> None:
    """Serve a release with KServe on 127.0.0.1: v1 and v2, REST and gRPC."""
    from pipelines.serving import serve_locally

    serve_locally(release, _features(release, features), port, catalogue)


@app.command()
def recommend(
    release: Folder,
    user: Annotated[str, typer.Option(help="A user of the feature store.")],
    k: Annotated[int, typer.Option(help="How many items.", min=1, max=200)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    features: Annotated[Path | None, typer.Option(help="The features folder; by default the one beside it.")] = None,
) -> None:
    """Recommend a user's next page."""
    from pipelines.serving import recommend_for

    found = recommend_for(release, _features(release, features), user, k)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for item in found["items"]:
        typer.echo(f"{item['position'] + 1:>3}  {item['item_id']:<12} {item['score']:>8.3f}  {item['text']}")
    if found["degraded"]:
        typer.echo(f"     by popularity: {found['reason']}")


@app.command()
def capacity(
    users: Annotated[int, typer.Option(help="Users whose histories are kept.", min=1)],
    items: Annotated[int, typer.Option(help="Items of the catalogue.", min=1)],
    requests: Annotated[float, typer.Option(help="Requests a second, at the busiest.", min=0.001)],
    p99_ms: Annotated[float, typer.Option(help="Milliseconds that 99% of requests should keep.")] = 100.0,
    machine: Annotated[str, typer.Option(help="cpu (two cores), H200, H100, A100, L40S or L4.")] = "cpu",
    context: Annotated[int, typer.Option(help="Items of a history that the model reads.", min=1)] = 128,
    recipe: Recipe = "genrec",
    settings: Settings = None,
    measured: Annotated[str, typer.Option(help="share,batch_ms,request_ms of benchmarks/capacity.py there.")] = "",
    price: Annotated[float, typer.Option(help="Of one machine, an hour; any currency.", min=0)] = 0.0,
) -> None:
    """How many replicas, how much memory and money a demand takes (docs/capacity.md)."""
    from nextpage.capacity.plan import Demand
    from nextpage.recipes import read_recipe
    from pipelines.capacity import estimate

    chosen = read_recipe(recipe).with_settings(settings or [])
    demand = Demand(users=users, requests=requests, p99_s=p99_ms / 1000)
    try:
        said = estimate(demand, chosen, items=items, context=context, machine=machine, measured=measured, price=price)
    except ValueError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from error
    typer.echo(said)


@app.command()
def catalogue(
    release: Folder,
    new_items: Annotated[Path, typer.Argument(help="Parquet or CSV: item_id, text, attributes.", exists=True)],
    output: Annotated[Path, typer.Option(help="The catalogue folder; what it holds is gone on from.")],
    leaving: Annotated[Path | None, typer.Option(help="Parquet or CSV with the item_id of items that leave.")] = None,
) -> None:
    """Items come and go without another release: seal a catalogue that servers with --catalogue take up."""
    from nextpage.catalogue_folder import CatalogueRefused
    from nextpage.release import ReleaseRefused
    from nextpage.renew_catalogue import read_items, renew_catalogue

    try:
        gone = read_items(leaving)["item_id"].to_pylist() if leaving else []
        sealed = renew_catalogue(release, output, arriving=read_items(new_items), leaving=gone)
    except (ReleaseRefused, CatalogueRefused, ValueError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{sealed.items:,} items, {sealed.departed:,} departed, in {output}\nhash {sealed.hash}")


@app.command()
def inspect(release: Folder) -> None:
    """Check a release's hashes and say what it holds."""
    from nextpage.release import ReleaseRefused, verify

    try:
        manifest = verify(release)
    except ReleaseRefused as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{manifest.name}: every file as sealed on {manifest.created}")
    typer.echo(f"hash {manifest.hash}\nrecipe {manifest.recipe}\nfeature service {manifest.feature_service.name}")
    for path in manifest.files:
        typer.echo(f"{(release / path).stat().st_size:>12,}  {path}")


def _arguments(recipe: str, data: str, options: str, settings: list[str]) -> dict[str, Any]:
    """Pipeline parameters."""
    return {"recipe": _text(recipe), "source": data, "source_options": options, "settings": " ".join(settings)}


def _fields(given: list[str] | None) -> dict[str, Any]:
    """Fields that have no option of their own, whole numbers as such."""
    fields = dict(one.partition("=")[::2] for one in given or [])
    if nameless := [one for one in given or [] if "=" not in one]:
        raise typer.BadParameter(f"{nameless[0]!r} is no name=value: --parameter data_engine=spark")
    return {name: int(value) if value.isdecimal() else value for name, value in fields.items()}


def _text(named: str) -> str:
    """A YAML file travels as its text: the cluster does not see this machine's disk."""
    return Path(named).read_text() if Path(named).suffix in (".yaml", ".yml") else named


def _features(release: Path, features: Path | None) -> Path:
    folder = features or release.parent / "features"
    if not folder.is_dir():
        raise typer.BadParameter(f"{folder} is no features folder: name the one of the release's run by --features")
    return folder


def _show(run: "Run", summary: dict[str, Any]) -> None:
    """Recommendations for a sample user, and where everything lies."""
    from components.report.samples import read_samples

    sample = read_samples(run.output("monitor", "predictions"), run.output("validate", "clean"))[0]
    typer.echo(f"\nFor user {sample['user_id']}, the next page (✓ was really chosen):")
    for place, item in enumerate(sample["recommended"], start=1):
        typer.echo(f"{place:>3} {'✓' if item['item_id'] in sample['hits'] else ' '} {item['text']}")
    path = Path(summary["release"]["path"])
    typer.echo(f"\nrelease  {path}\nreport   {path.parent / 'report.html'}\nsummary  {path.parent / 'summary.json'}")
    typer.echo(f"\nServe it:  nextpage serve {path}")
    typer.echo(f"Ask it:    nextpage recommend {path} --user {sample['user_id']} --k 10")


if __name__ == "__main__":
    app()
