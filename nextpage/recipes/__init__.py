"""A recipe is a YAML file that picks parts; no part knows which recipe it is in."""

from nextpage.recipes.recipe import Recipe, parse_recipe, read_recipe

__all__ = ["Recipe", "parse_recipe", "read_recipe"]
