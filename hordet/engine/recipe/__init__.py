"""A config's `recipe`: how a training deals with its data and its time."""

from hordet.engine.recipe.apply import apply_recipe, fit_recipe_to_data

__all__ = ["apply_recipe", "fit_recipe_to_data"]
