"""The configure step as a KFP component."""

from kfp import dsl

from components.images import BASE_IMAGE


@dsl.component(base_image=BASE_IMAGE, install_kfp_package=False)
def configure(
    recipe: str,
    resolved: dsl.Output[dsl.Artifact],
    card: dsl.Output[dsl.Markdown],
    settings: str = "",
    encoder: str = "",
    training_steps: int = 0,
    rollout: str = "",
) -> bool:
    """Resolve the recipe that every later step reads; see components/configure/README.md.

    Whether the release is to be rolled out.

    Args:
        recipe: The name of a recipe that ships with Nextpage, or a whole recipe as YAML text.
        resolved: The recipe with the overrides, YAML.
        card: The same, for people.
        settings: Overrides, "section.key=value" each, apart by spaces; they win over the ones below.
        encoder: Text encoder; empty: as the recipe says.
        training_steps: Steps of training; 0: as the recipe says.
        rollout: Settings of a rollout, read here so that a wrong one stops the run at once; empty: none.
    """
    from pathlib import Path

    from components.configure.step import resolve
    from components.deploy.config import read_rollout

    named = {"tokenizer.encoder": encoder, "training.steps": training_steps}
    overrides = [f"{key}={value}" for key, value in named.items() if value]
    chosen = resolve(recipe, [*overrides, *settings.split()])
    chosen.write(Path(resolved.path))
    Path(card.path).write_text(f"# Recipe {chosen.name}\n\n```yaml\n{chosen.to_yaml()}```\n")
    return bool(rollout and read_rollout(rollout))
