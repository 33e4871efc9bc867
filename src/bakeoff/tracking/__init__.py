"""MLflow: journals are replayed into a tracking store, and runs, curves and artifacts are read from it."""
