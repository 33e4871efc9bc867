"""Everything that is known about a run: its folder, its journal, and the MLflow store that the journal is replayed into."""
