"""A recipe is a YAML file that picks parts; no part knows which recipe it is in."""

from nextpage.recipes.recipe import Recipe, read_recipe

__all__ = ["Recipe", "read_recipe"]
