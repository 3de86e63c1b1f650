"""Training above the backends: recipes, the loop, the folder of a run."""
