"""What MLflow's pages show first: an experiment's kind, its note, and the columns that a sweep's table opens with."""

from __future__ import annotations

import json
from collections.abc import Mapping

from bakeoff.tracking.run_store import RunStore

VIEW = "sweep"
"""The key of the sweep's view, `viewStateShareKey` in an address."""
NOTE = "mlflow.note.content"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of every experiment: without them MLflow takes it for one of language models."""
TRAINING = "workflowType=machine_learning"
"""In an address: the pages for training, where the others open without any runs."""


def runs_page(experiment: str) -> str:
    """The address, below the server's, of an experiment's runs beside their curves."""
    return f"#/experiments/{experiment}/runs?{TRAINING}&compareRunsMode=CHART"


def introduce(store: RunStore, experiment: str, *, summary: str, tags: Mapping[str, str]) -> None:
    """Give a sweep's experiment the question, links to the report and the table, and the columns of that table.

    Args:
        store: The store.
        experiment: MLflow's id of the experiment.
        summary: MLflow's id of the sweep's summary run.
        tags: The tags of the summary run.
    """
    report = f"#/experiments/{experiment}/runs/{summary}/artifacts/report/index.html"
    table = f"#/experiments/{experiment}/runs?{TRAINING}&viewStateShareKey={VIEW}"
    links = f"[Report]({report}) (once the sweep is over) · [Curves]({runs_page(experiment)}) · [Table]({table})"
    store.set_experiment_tag(experiment, NOTE, f"{links}\n\n{tags.get(NOTE, '')}".strip())
    store.set_experiment_tag(experiment, f"mlflow.sharedViewState.{VIEW}", json.dumps(_view(tags)))


def _view(tags: Mapping[str, str]) -> dict[str, object]:
    """State of MLflow's table of runs: what a sweep's runs differ in and what came out."""
    tuned = [f"params.`{key}`" for key in tags.get("sweep.tuned", "").split(",") if key]
    metrics = [f"metrics.`{name}`" for name in ("val/accuracy", "test/accuracy", "val/loss")]
    shown = [*(f"tags.`{name}`" for name in ("arm", "block", "stage")), *tuned, *metrics]
    return {"selectedColumns": shown, "runsHiddenMode": "FIRST_20_RUNS"}
