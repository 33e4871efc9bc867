"""Tuning studies grow with the analyses of a plan, or are added to a plan of one; each has points, seeds and a split of its own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bakeoff.errors import BakeoffError, PlanError
from bakeoff.run_files.stored_plan import parse_stored_plan
from bakeoff.sweep import extend, interim
from bakeoff.sweep.candidates import study_seed, unit
from bakeoff.sweep.interim import Extent
from bakeoff.sweep.leases import Owner
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.sweep_dir import Summary
from bakeoff.sweep.trial_queue import TrialQueue
from bakeoff.sweep.trials import TrialLease, folder_of, run_of

Small = Callable[..., Plan]


def home(plan: Plan) -> Path:
    folder = Path("runs") / plan.title
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_all(plan: Plan) -> list[TrialLease]:
    """Decide everything that is open; later trials score better."""
    queue, leases = TrialQueue(plan, folder=home(plan)), []
    while (lease := queue.lease(Owner.here())) is not None:
        leases.append(lease)
        queue.tell(lease, {"status": "finished", "metrics": {"val/accuracy": 0.5 + 0.01 * lease.point}, "seconds": 1.0})
    assert queue.over()
    return leases


def started(plan: Plan) -> Plan:
    Summary(plan, root=Path("runs"), uri="").end("FINISHED")
    run_all(plan)
    return plan


def by_stage(leases: list[TrialLease], stage: str) -> set[tuple[int, int, int]]:
    """(arm, study, seed) of the leases of a stage."""
    return {(lease.arm_index, lease.study, lease.seed) for lease in leases if lease.stage == stage}


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The verdict that the report gives."""
    verdict = SimpleNamespace(grade="under-powered", headline="So it stands.")
    monkeypatch.setattr(extend, "current_report", lambda plan: SimpleNamespace(verdict=verdict))
    return verdict


def test_every_analysis_has_studies_and_seeds_of_its_own(small: Small) -> None:
    plan = small(budget={"trials": 4, "studies": 2}, confirm={"seeds": 4, "max_seeds": 12})
    assert [plan.studies_at(seeds) for seeds in plan.spec.confirm.analyses] == [2, 4, 6]
    places = [plan.study_of_place(place) for place in range(12)]
    assert places == [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5]
    for study_index, (_, study) in enumerate(plan.tuning_studies(6)):
        assert plan.seeds_of(study_index, 12) == tuple(1001 + place for place in range(12) if places[place] == study)
        assert plan.seeds_of(study_index, 4) == (plan.seeds_of(study_index, 12) if study < 2 else ())
    stored = plan.tree()
    assert (stored["budget"]["grow"], stored["budget"]["trials"]) == (True, 4)
    assert [len(arm["points"]) for arm in stored["cells"]] == [8, 8], "those of the first studies alone"


def test_later_studies_have_points_that_depend_on_their_number_alone(small: Small) -> None:
    plan = small(budget={"trials": 4, "studies": 2}, confirm={"seeds": 4})
    single = small(budget={"trials": 4}, confirm={"seeds": 4})
    lists = [plan.slice_of(2 * study) for study in range(10)]
    assert lists == [single.slice_of(2 * study) for study in range(10)] and len({repr(points) for points in lists}) == 10
    space = plan.planned_arms[0].spaces["optimizer.lr"]
    rates = [space.low * (space.high / space.low) ** at for [at] in unit(1, trials=4, sampler="halton", seed=study_seed(0, 7))]
    assert [point["optimizer.lr"] for point in lists[7]] == pytest.approx(rates, rel=1e-5)


def test_the_hash_tells_growing_plans_apart_and_leaves_single_studies_alone(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    single, grown = small(), small(budget={"trials": 3, "studies": 2})
    assert "grow" not in single.tree()["budget"], "as plans were before"
    recorded: list[dict[str, Any]] = []
    plain = json.dumps
    monkeypatch.setattr(json, "dumps", lambda tree, **options: (recorded.append(tree), plain(tree, **options))[1])
    assert (small().hash, small(budget={"trials": 3, "studies": 2}).hash) == (single.hash, grown.hash)
    assert [tree.get("grow") for tree in recorded if "cells" in tree] == [None, True]


def test_a_stored_plan_of_the_old_kind_does_not_grow(small: Small) -> None:
    tree = small(budget={"trials": 3, "studies": 2}).tree()
    assert parse_stored_plan(tree).budget.grow
    del tree["budget"]["grow"]
    assert not parse_stored_plan(tree).budget.grow and parse_stored_plan(tree).budget.studies == 2


@pytest.mark.parametrize(
    ("confirm", "near"), [({}, "confirm.seeds=10: .*budget.studies=4: 8 or 12"), ({"seeds": [7, 3, 9]}, r"seeds=\[7, 3, 9\]: .*=4: 4$")]
)
def test_seeds_must_come_out_even(small: Small, confirm: dict[str, Any], near: str) -> None:
    with pytest.raises(PlanError, match=near):
        small(confirm=confirm, budget={"studies": 4})


def test_tuning_seeds_of_all_studies_to_come_are_no_confirming_seeds(small: Small) -> None:
    # Ten studies up to the last analysis: tuning seeds 991 to 1000.
    assert small("seed=991", budget={"studies": 2}).spec.budget.studies == 2
    with pytest.raises(PlanError, match="seed=992: tuning would use the confirming seed 1001"):
        small("seed=992", budget={"studies": 2})
    assert small("seed=992", budget={"studies": 2}, confirm={"seeds": 2, "max_seeds": 2}).spec.budget.studies == 2


def test_each_study_tunes_on_a_split_of_its_own(small: Small) -> None:
    plan = small(budget={"trials": 2, "studies": 2})
    runs = [run_of(plan, TrialLease("tune", 0, 0, {}, study, 1, 0, study), threads=1) for study in range(4)]
    assert runs[0].data == plan.planned_arms[0].run.data and len({run.data.split_seed for run in runs}) == 4
    assert runs[3].data.split_seed == run_of(plan, TrialLease("audit", 1, 0, {}, 3, 1, 0, 3), threads=1).data.split_seed
    folded = small(budget={"trials": 2, "studies": 2}, fixed={"data": "digits", "data.folds": 3})
    runs = [run_of(folded, TrialLease("tune", 0, 0, {}, study, 1, 0, study), threads=1) for study in range(4)]
    assert [(run.data.split_seed, run.data.fold) for run in runs] == [(0, 0), (0, 1), (0, 2), (0, 0)]


def test_more_adds_studies_to_a_plan_that_grows(small: Small, report: SimpleNamespace) -> None:
    plan = started(small(budget={"trials": 2, "studies": 2}, confirm={"seeds": 4, "max_seeds": 12}))
    for what, seeds in (("asked", range(1005, 1009)), ("studies", range(1009, 1013))):
        queued = extend.extend_sweep(plan, what=what)  # type: ignore[arg-type]
        assert queued.seeds == tuple(seeds)
        assert queued.line == f"{plan.title}: queued 2 studies: 4 tuning and 4 confirm runs for each of 2 arms and blocks"
        state = interim.reached(plan, folder=home(plan))
        assert json.loads((home(plan) / interim.LOOKS).read_text()) == {"seeds": state.seeds}
        with pytest.raises(PlanError, match="--more: 16 runs of the current analysis are still to come"):
            extend.extend_sweep(plan)
        leases, first = run_all(plan), state.studies - 2
        assert by_stage(leases, "tune") == {(arm, study, study) for arm in (0, 1) for study in (first, first + 1)}
        assert by_stage(leases, "confirm") == {(arm, first + place % 2, seed) for arm in (0, 1) for place, seed in enumerate(seeds)}
        assert len(leases) == len({(lease.stage, lease.arm_index, lease.study, lease.point) for lease in leases}) == 16
    assert state == Extent(12, 6) and plan.runs_at(seeds=12, studies=6) == 2 * (12 + 12)
    progress = TrialQueue(plan, folder=home(plan)).arms_progress()
    assert [(arm.planned, arm.done, arm.seeds, arm.confirmed, len(arm.settings)) for arm in progress] == [(12, 12, 12, 12, 6)] * 2
    assert "the plan ends at confirm.max_seeds=12" in extend.extend_sweep(plan, what="studies").line and run_all(plan) == []


def test_studies_are_added_to_a_plan_that_holds_one(small: Small, report: SimpleNamespace) -> None:
    plan = started(small(budget={"trials": 2}, confirm={"seeds": 6, "max_seeds": 12}))
    report.grade = "supported"  # more studies are not asked for: the caller wants them
    start = 1013
    for studies in (5, 10, 15, 20, 25):
        first = studies - 5 or 1
        queued = extend.extend_sweep(plan, what="studies")
        count = studies - first
        seeds = range(start + 2 * (first - 1), start + 2 * (studies - 1))
        assert queued.line == (
            f"{plan.title}: queued {count} studies: {2 * count} tuning and {2 * count} confirm runs for each of 2 arms and blocks"
        )
        assert queued.seeds == tuple(seeds)
        assert json.loads((home(plan) / interim.LOOKS).read_text()) == {"seeds": 6, "studies": studies}
        leases = run_all(plan)
        assert by_stage(leases, "tune") == {(arm, study, study) for arm in (0, 1) for study in range(first, studies)}
        assert by_stage(leases, "confirm") == {(arm, 1 + (seed - start) // 2, seed) for arm in (0, 1) for seed in seeds}
        assert len(leases) == 2 * 4 * count
    assert extend.extend_sweep(plan, what="studies").seeds == ()
    assert "each arm has been tuned in 25 studies" in extend.extend_sweep(plan, what="studies").line
    report.grade = "under-powered"
    assert extend.extend_sweep(plan, what="seeds").seeds == (1007, 1008, 1009, 1010, 1011, 1012)
    leases = run_all(plan)
    assert {(lease.stage, lease.study) for lease in leases} == {("confirm", 0)} and len(leases) == 12
    assert interim.reached(plan, folder=home(plan)) == Extent(12, 25)


def test_added_studies_confirm_their_own_settings_under_their_own_tags(small: Small, report: SimpleNamespace) -> None:
    plan = started(small(budget={"trials": 2}, confirm={"seeds": 5}))
    extend.extend_sweep(plan, what="studies")
    for lease in run_all(plan):
        run = run_of(plan, lease, threads=1)
        job = folder_of(plan, lease, root=Path("runs"), threads=1, uri="").read_job()
        assert (job.tags["study"], job.tags["seed"], run.seed) == (str(lease.study), str(lease.seed), lease.seed)
        if lease.stage == "confirm":
            assert lease.params == plan.slice_of(lease.study_index(plan))[1] and run.data.split_seed == lease.seed and run.test
            assert not job.export_model
        else:
            assert job.tags["point"] == str(2 * lease.study + lease.point)
    counts = Counter(path.name.rpartition("-")[0] for path in home(plan).glob("[!.]*-*"))
    assert set(counts.values()) == {1}, "every run has a name of its own"


def test_added_studies_go_round_the_folds(small: Small) -> None:
    plan = small(fixed={"data": "digits", "data.folds": 3}, confirm={"seeds": 5, "max_seeds": 5})
    runs = [run_of(plan, TrialLease("confirm", 0, 0, {}, seed, 1, 0, study), threads=1) for study, seed in enumerate(range(1006, 1010), 1)]
    assert [plan.seeds_of(2 * study, 5) for study in range(1, 5)] == [(1006,), (1007,), (1008,), (1009,)]
    assert [(run.data.split_seed, run.data.fold) for run in runs] == [(1006, 0), (1006, 1), (1006, 2), (1009, 0)]


@pytest.mark.parametrize("grade", ["as tuned", "tie as tuned"])
def test_a_verdict_about_the_settings_as_tuned_asks_for_studies(small: Small, report: SimpleNamespace, grade: str) -> None:
    report.grade = grade
    plan = started(small(budget={"trials": 2}, confirm={"seeds": 5}))
    assert "nothing is asked for after 5 seeds: So it stands." in extend.extend_sweep(plan, what="seeds").line
    assert "queued 4 studies: 8 tuning and 4 confirm runs" in extend.extend_sweep(plan).line
    grown = started(small(budget={"trials": 2, "studies": 2}))
    assert "queued 2 studies: 4 tuning and 2 confirm runs" in extend.extend_sweep(grown).line


def test_what_cannot_have_more_studies_is_told(small: Small, report: SimpleNamespace) -> None:
    with pytest.raises(PlanError, match="has not been run yet"):
        extend.extend_sweep(small(), what="studies")
    untuned = started(small(tune=..., factors={"optimizer.lr": [0.1, 0.2]}))
    with pytest.raises(PlanError, match=r"--more studies: small-\w+ tunes nothing"):
        extend.extend_sweep(untuned, what="studies")
    # Up to 1010 confirm, 1011 to 1014 belong to the studies 1 to 4, which tune with the seeds 1012 to 1015.
    near = started(small("seed=1011"))
    with pytest.raises(PlanError, match="--more studies: tuning would use the confirming seed 1011: seed=1011 is too near"):
        extend.extend_sweep(near, what="studies")
    plan = small()
    Summary(plan, root=Path("runs"), uri="").end("FINISHED")
    with pytest.raises(PlanError, match="10 runs of the current analysis are still to come"):
        extend.extend_sweep(plan, what="studies")
    (home(plan) / interim.LOOKS).write_text('{"seeds": 2, "studies": 3}')
    with pytest.raises(BakeoffError, match="studies=3: --more studies never queues so many; choices: 1, 5, 10, 15, 20, 25"):
        interim.reached(plan, folder=home(plan))


def test_a_margin_that_the_test_images_cannot_show_is_told(small: Small) -> None:
    facts = [(1000, 40, 360), (1000, 40, 10000)]
    plan = small()
    assert plan.margin_warning is None and plan.examined([(1000, 40, 10000)] * 2).margin_warning is None
    assert plan.examined(facts).margin_warning == (
        "margin=0.005: 360 test images cannot show so little: two nets that disagree on 5 % of the images differ by +-2.3 points by the "
        "choice of images alone; take margin=0.024, or more test images"
    )
    assert small("margin=0.024").examined(facts).margin_warning is None
    with pytest.raises(PlanError, match=r"margin=0\.001: one of the 360 test images is 0\.28 points"):
        small("margin=0.001").examined(facts)
    assert small("margin=0.002").examined([(1000, 40, 500)] * 2).margin_warning is not None, "exactly one image"
    losses = small("margin=0.001", metric="val/loss")
    assert losses.examined(facts).margin_warning is None, "a loss is no share of the images"
    assert small("margin=0.001", "confirm.seeds=0").examined(facts).margin_warning is None, "no test image is looked at"
