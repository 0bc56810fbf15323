"""From a recipe to one adapter: split, trials, cross-validation, model selection, one fit."""
