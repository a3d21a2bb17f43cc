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
    codebook_size: int = 0,
    history_events: int = 0,
    training_steps: int = 0,
    learning_rate: float = 0.0,
    beam_width: int = 0,
) -> None:
    """Resolve the recipe that every later step reads; see components/configure/README.md.

    Args:
        recipe: The name of a recipe that ships with Nextpage, or a whole recipe as YAML text.
        resolved: The recipe with the overrides, YAML.
        card: The same, for people.
        settings: Overrides, "section.key=value" each, apart by spaces; they win over the ones below.
        encoder: Text encoder; empty: as the recipe says. 0 says the same for the numbers.
        codebook_size: Codes of each level of a semantic ID.
        history_events: Events of a history.
        training_steps: Steps of training.
        learning_rate: Its peak.
        beam_width: Beams of the search.
    """
    from pathlib import Path

    from components.configure.step import resolve

    named = {
        "tokenizer.encoder": encoder,
        "tokenizer.quantiser.codes": codebook_size,
        "features.events": history_events,
        "training.steps": training_steps,
        "training.learning_rate": learning_rate,
        "decoding.beam_width": beam_width,
    }
    overrides = [f"{key}={value}" for key, value in named.items() if value]
    chosen = resolve(recipe, [*overrides, *settings.split()])
    chosen.write(Path(resolved.path))
    Path(card.path).write_text(f"# Recipe {chosen.name}\n\n```yaml\n{chosen.to_yaml()}```\n")
