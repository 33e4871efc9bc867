"""What a run leaves on disk: its directory, its journal, its provenance and system metrics."""
