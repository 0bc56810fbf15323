"""Labels and texts: datasets, qrels, splits and folds, the built-in set, other formats read."""
