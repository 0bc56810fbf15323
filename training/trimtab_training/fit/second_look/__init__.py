"""A second look at the best documents: a map of documents, trained beside an adapter."""
