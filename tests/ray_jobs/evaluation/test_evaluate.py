"""The table of an evaluation matches independent arithmetic, and a rerun trains only what is missing."""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch

from fewshot.backbones import ClipSpec, load_clip
from fewshot.classes import LabelSpace
from fewshot.images import decode
from fewshot.methods.linear_probe.method import TEXT_WEIGHTS
from ray_jobs.evaluation.design import Evaluation
from ray_jobs.job_file.reading import read_job
from tests.ray_jobs.place import CLASSES, Place, fewshot, kill_again_and_again, picture, put, written

pytestmark = pytest.mark.slow
TRAINED = "clip_adapter"
"""A method that descends gradients."""

SHOTS, SEEDS = [1, 2], [1, 2]


def write_splits(folder, *, coop=False):
    """A labelled set: per class six images to train on and five to test on."""
    splits = {"train": [], "val": [], "test": []}
    for index, label in enumerate(CLASSES):
        for number in range(11):
            path = f"{label}/{number}.jpg"
            put(folder / "images" / path, picture(label, 100 * index + number))
            splits["train" if number < 6 else "test"].append([path, index, label][: 3 if coop else 2])
    if not coop:
        splits["classes"] = list(CLASSES)
    (folder / "splits.json").write_text(json.dumps(splits))
    return splits


def evaluation(folder, clip, **keys):
    place = Place(folder, clip)
    section = {"splits": str(folder / "splits.json"), "images": str(folder / "images"), "shots": SHOTS, "seeds": SEEDS}
    place.write_job(evaluate=section | {"methods": ["zero_shot", "tip_adapter"]} | keys)
    return place


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_clip):
    """A finished evaluation and its outcome. Shared: leave it as it is."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_splits(folder)
    place = evaluation(folder, tiny_clip)
    outcome = fewshot("evaluate", place.job)
    assert outcome.code == 0
    return place, outcome


def cells(place):
    return written(place.output / "evaluations")


def test_the_table_has_means_and_deviations_over_seeds(done):
    _, outcome = done
    assert outcome.result["complete"] is True
    rows = pq.read_table(outcome.run / "cells.parquet").to_pylist()
    assert len(rows) == 2 * len(SHOTS) * len(SEEDS)
    for entry in outcome.result["table"]:
        mine = [row for row in rows if (row["method"], row["shots"]) == (entry["method"], entry["shots"])]
        assert entry["seeds"] == len(mine) == len(SEEDS)
        for number in ("accuracy", "macro_f1", "ece"):
            values = [row[number] for row in mine]
            if (number, entry["shots"], entry["method"]) == ("ece", 1, "tip_adapter"):
                assert {*values, entry["ece_mean"], entry["ece_std"]} == {None}
                continue
            assert entry[f"{number}_mean"] == pytest.approx(statistics.fmean(values))
            assert entry[f"{number}_std"] == pytest.approx(statistics.stdev(values))
        assert {row["labels_consumed"] for row in mine} == {entry["shots"] * len(CLASSES)}
        assert {row["test_images"] for row in mine} == {15}


def test_zero_shot_matches_the_backbone_alone(done):
    place, outcome = done
    clip = load_clip(ClipSpec(model=str(place.clip), batch_size=4))
    space = LabelSpace(CLASSES, CLASSES, ("",) * len(CLASSES))
    hits = []
    for path, label in json.loads((place.folder / "splits.json").read_text())["test"]:
        image = decode((place.folder / "images" / path).read_bytes(), min_side=64)
        feature = torch.nn.functional.normalize(clip.embed_images(clip.crop(image)[None]), dim=-1)
        hits.append(int((feature @ clip.prototypes(space).T).argmax()) == label)
    messages = [row["accuracy_mean"] for row in outcome.result["table"] if row["method"] == "zero_shot"]
    assert messages == pytest.approx([np.mean(hits)] * len(SHOTS))


def test_an_evaluation_reads_the_sentences_of_classes(done, tmp_path):
    place, _ = done
    path = tmp_path / "cupl.json"
    path.write_text(json.dumps({label: [f"{label} is a colour."] for label in CLASSES}))
    plain, _ = read_job(place.job)
    job, _ = read_job(place.job, [f'support.prompts="{path}"'])
    evaluations = [Evaluation.from_job(each) for each in (plain, job)]
    found = [evaluation.splits.label_space.descriptions for evaluation in evaluations]
    assert found == [("",) * 3, tuple(f"{label} is a colour." for label in CLASSES)]
    path.write_text("{}")
    outcome = fewshot("evaluate", place.job, "--set", f'support.prompts="{path}"')
    assert outcome.code == 2
    assert "[support] prompts: " in outcome.messages


def test_the_files_hold_the_printed_table(done):
    _, outcome = done
    parquet = pq.read_table(outcome.run / "table.parquet").to_pylist()
    csv = pa_csv.read_csv(outcome.run / "table.csv").to_pylist()
    messages = [{name: row[name] for name in parquet[0]} for row in outcome.result["table"]]
    assert parquet == messages
    assert csv == messages


def test_a_rerun_trains_only_the_cells_that_are_missing(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip)
    first = fewshot("evaluate", place.job)
    before = cells(place)
    lost = sorted(before)[:2]
    for name in lost:
        (place.output / "evaluations" / name).unlink()
    second = fewshot("evaluate", place.job)
    after = cells(place)
    assert second.result["table"] == first.result["table"]
    assert sorted(name for name in before if after[name] != before[name]) == lost
    fewshot("evaluate", place.job, "--set", 'evaluate.methods=["zero_shot", "tip_adapter", "ape"]')
    assert {name: cells(place)[name] for name in after} == after


@pytest.mark.parametrize("damaged", [b"", b"{}", b"[]", b"\xff", b'{"format_version": 2, "method": "zero_shot"}'])
def test_a_damaged_cell_is_removed_and_a_rerun_measures_it_anew(tmp_path, tiny_clip, damaged):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=["zero_shot"], shots=[1], seeds=[1])
    expected = fewshot("evaluate", place.job).result["table"]
    (cell,) = (place.output / "evaluations").rglob("*.json")
    cell.write_bytes(damaged)
    broken = fewshot("evaluate", place.job)
    assert broken.code != 0
    assert f"{cell} was damaged and is gone; run again" in broken.messages
    assert not cell.exists()
    assert fewshot("evaluate", place.job).result["table"] == expected


def test_a_split_file_of_coop_is_read_unchanged(tmp_path, tiny_clip, done):
    write_splits(tmp_path, coop=True)
    place = evaluation(tmp_path, tiny_clip)
    outcome = fewshot("evaluate", place.job)
    assert outcome.code == 0
    assert outcome.result["table"] == done[1].result["table"]


def test_a_class_without_test_images_is_null_in_json(tmp_path, tiny_clip):
    splits = write_splits(tmp_path)
    splits["test"] = [entry for entry in splits["test"] if entry[1] != 2]
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    place = evaluation(tmp_path, tiny_clip, methods=["zero_shot"], shots=[1], seeds=[1])
    outcome = fewshot("evaluate", place.job)
    assert outcome.code == 0
    (cell,) = (place.output / "evaluations").rglob("*.json")
    per_class = json.loads(cell.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert per_class["per_class_accuracy"][2] is None


def test_duplicates_in_the_job_file_count_once(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=["zero_shot", "zero_shot"], shots=[1, 1], seeds=[1, 1])
    (row,) = fewshot("evaluate", place.job).result["table"]
    assert row["seeds"] == 1


def test_unreadable_images_are_left_out_of_train_and_test(tmp_path, tiny_clip):
    write_splits(tmp_path)
    put(tmp_path / "images/amber/0.jpg", b"")
    put(tmp_path / "images/amber/9.jpg", b"")
    place = evaluation(tmp_path, tiny_clip, methods=["tip_adapter"], shots=[16], seeds=[1])
    refused = fewshot("evaluate", place.job)
    assert (refused.code, place.output.exists()) == (2, False)
    assert f"{tmp_path}/images/amber/0.jpg (amber): empty file" in refused.messages
    outcome = fewshot("evaluate", place.job, "--set", "support.skip_unreadable=true")
    (row,) = pq.read_table(outcome.run / "cells.parquet").to_pylist()
    assert (row["test_images"], row["labels_consumed"]) == (14, 17)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_set_without_train_or_test_is_refused(tmp_path, tiny_clip, split):
    splits = write_splits(tmp_path) | {split: []}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    outcome = fewshot("evaluate", evaluation(tmp_path, tiny_clip).job)
    assert (outcome.code, outcome.result) == (2, None)
    assert "needs images in train and in test" in outcome.messages


def trainings(place):
    return written(place.output / "trainings")


def test_escalate_is_checked_before_anything_runs_where_it_applies(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, shots=[1], seeds=[1], methods=["zero_shot"])
    wrong = ["--set", "escalate.model=/no/such/folder", "--set", "escalate.hyperparameters={step=3}"]
    outcome = fewshot("evaluate", place.job, *wrong)
    assert outcome.code == 2
    assert "no folder '/no/such/folder'" in outcome.messages
    assert "Did you mean 'steps'" in outcome.messages
    assert not (place.output / "features").exists()
    assert fewshot("evaluate", place.job, *wrong, "--protocol", "base-to-new").code == 0


def test_another_seed_keeps_all_files_but_the_latest(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=["tip_adapter", TRAINED], seeds=[1])
    fewshot("evaluate", place.job)
    before = written(place.output)
    outcome = fewshot("evaluate", place.job, "--set", "evaluate.seeds=[1, 2]", "--set", "evaluate.shots=[2, 1]")
    assert outcome.code == 0
    after = written(place.output)
    assert {name for name in before if after[name] != before[name]} == {"latest.json"}
    assert len(cells(place)) == 2 * len(cells_of(before))


def cells_of(names):
    return [name for name in names if name.startswith("evaluations/")]


def test_cells_find_the_trainings_of_their_folds(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=[TRAINED], shots=[4], seeds=[1])
    fewshot("evaluate", place.job)
    parts = [json.loads(path.read_text()) for path in (place.output / "fold-pretrainings").rglob("*.json")]
    pretrained = {f"{key}.safetensors" for part in parts for key in part["trainings"]}
    kept = {name.rpartition("/")[2] for name in trainings(place)}
    assert pretrained < kept
    assert len(kept - pretrained) == 1  # what is trained on all the shots


def test_methods_that_are_compared_find_the_trainings_of_their_folds_and_pairs_of_folds(tmp_path, tiny_clip):
    write_splits(tmp_path)
    candidates = 'classifier.hyperparameters={candidates=["nearest_mean", "linear_probe"]}'
    place = evaluation(tmp_path, tiny_clip, methods=["auto"], shots=[4], seeds=[1])
    outcome = fewshot("evaluate", place.job, "--set", "classifier.method=auto", "--set", candidates)
    assert outcome.code == 0
    parts = [json.loads(path.read_text()) for path in (place.output / "fold-pretrainings").rglob("*.json")]
    pretrained = [f"{key}.safetensors" for part in parts for key in part["trainings"]]
    assert len(pretrained) == len(set(pretrained)) == len(TEXT_WEIGHTS) * (4 + 6)
    kept = {name.rpartition("/")[2] for name in trainings(place)}
    assert {name for name in kept if name.startswith("linear_probe_path")} == set(pretrained)


def test_a_killed_evaluation_ends_with_the_same_table(tmp_path, tiny_clip):
    write_splits(tmp_path)
    methods = {"methods": ["zero_shot", TRAINED], "shots": [2, 4], "seeds": [1, 2]}
    place = evaluation(tmp_path, tiny_clip, **methods)
    expected = fewshot("evaluate", place.job).result["table"]
    output = tmp_path / "killed"
    survived: dict[str, int] = {}

    def nothing_is_made_twice():
        now = written(output)
        assert {name: now[name] for name in survived} == survived
        survived.update({name: at for name, at in now.items() if not name.startswith("runs/")})

    here, when = f"job.output={output}", {"chance": random.Random(1), "parts": (6, 20), "runs": 20}
    assert kill_again_and_again("evaluate", place.job, here, **when, after=nothing_is_made_twice) >= 2
    assert fewshot("evaluate", place.job, "--set", here).result["table"] == expected


def test_new_classes_without_examples_are_measured_by_each_protocol(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=["nearest_mean", "zero_shot"], shots=[4])
    joint = fewshot("evaluate", place.job, "--protocol", "generalized-zero-shot")
    halves = fewshot("evaluate", place.job, "--protocol", "base-to-new")
    assert (joint.code, halves.code) == (0, 0)
    rows = pq.read_table(halves.run / "cells.parquet").to_pylist()
    assert {row["labels_consumed"] for row in rows} == {2 * 4}
    for row in rows:
        assert row["new_accuracy"] == 1.0  # one new class has nothing to be confused with
    for entry in halves.result["table"]:
        mean = {name: entry[f"{name}_mean"] for name in ("base_accuracy", "new_accuracy", "harmonic_mean")}
        expected = 2 / (1 / mean["base_accuracy"] + 1 / mean["new_accuracy"])
        assert mean["harmonic_mean"] == pytest.approx(expected)
        of_draws = statistics.fmean(row["harmonic_mean"] for row in rows if row["method"] == entry["method"])
        assert entry["harmonic_mean_of_draws_mean"] == pytest.approx(of_draws)
    for row in pq.read_table(joint.run / "cells.parquet").to_pylist():
        seen = np.mean(row["per_class_accuracy"][:2])
        assert (row["seen_accuracy"], row["unseen_accuracy"]) == pytest.approx((seen, row["per_class_accuracy"][2]))


def test_new_classes_can_be_named_and_a_wrong_name_is_refused(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=["zero_shot"], shots=[1], protocol="base-to-new")
    named = fewshot("evaluate", place.job, "--set", 'evaluate.new_classes=["amber"]')
    assert named.result["table"][0]["new_accuracy_mean"] == 1.0
    wrong = fewshot("evaluate", place.job, "--set", 'evaluate.new_classes=["ambre"]')
    assert wrong.code == 2
    assert "ambre" in wrong.messages


def test_the_accuracy_of_each_class_is_written(done):
    _, outcome = done
    rows = pq.read_table(outcome.run / "per_class.parquet").to_pylist()
    assert rows == pa_csv.read_csv(outcome.run / "per_class.csv").to_pylist()
    measured = pq.read_table(outcome.run / "cells.parquet").to_pylist()
    for row in rows:
        mine = [c for c in measured if (c["method"], c["shots"]) == (row["method"], row["shots"])]
        values = [cell["per_class_accuracy"][CLASSES.index(row["class"])] for cell in mine]
        assert row["accuracy_mean"] == pytest.approx(np.mean(values))


def test_the_markdown_table_has_the_best_in_bold(done):
    _, outcome = done
    head, rule, *rows = (outcome.run / "table.md").read_text().splitlines()
    assert head == "| method | 1 shot | 2 shots |"
    assert rule == "| --- | --- | --- |"
    assert [row.split("`")[1] for row in rows] == ["zero_shot", "tip_adapter"]
    best = max(row["accuracy_mean"] for row in outcome.result["table"] if row["shots"] == 2)
    assert f"| **{100 * best:.1f} ± " in (outcome.run / "table.md").read_text()


def test_the_page_shows_every_method_and_class(done):
    _, outcome = done
    page = Path(outcome.result["report"]).read_text()
    assert all(f"<td>{name}</td>" in page for name in ("zero_shot", "tip_adapter"))
    assert all(label in page for label in CLASSES)


def test_a_missing_page_is_written_anew(done):
    place, outcome = done
    path = Path(outcome.result["report"])
    messages = {"run": outcome.run.name, "path": str(path)}
    assert messages in fewshot("report", place.output).result["reports"]
    page = path.read_bytes()
    path.unlink()
    assert messages in fewshot("report", place.output).result["reports"]
    assert path.read_bytes() == page


def test_unreadable_test_images_are_not_counted(tmp_path, tiny_clip):
    splits = write_splits(tmp_path)
    (tmp_path / "images" / splits["test"][0][0]).write_bytes(b"this is no image")
    place = evaluation(tmp_path, tiny_clip, methods=["zero_shot"], shots=[1], seeds=[1])
    assert (
        f"{len(splits['test']) - 1} test images (1 could not be read)" in fewshot("evaluate", place.job).result["title"]
    )


def test_more_shots_than_examples_are_reported(done):
    place, outcome = done
    assert "fewer examples" not in outcome.messages
    messages = fewshot("evaluate", place.job, "--set", "evaluate.shots=[6, 7]", "--set", "evaluate.seeds=[1]").messages
    assert "7 shots: 3 of 3 classes have fewer examples in train (the smallest 6)" in messages
    assert "6 shots: " not in messages  # As many as there are.


def test_the_job_file_lies_beside_the_table(done):
    _, outcome = done
    job, problems = read_job(outcome.run / "job.toml", needs=["evaluate"])
    assert problems == []
    assert job.evaluate.shots == tuple(SHOTS)


@pytest.mark.ray
def test_ray_measures_the_same_as_one_process(ray_session, tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=["zero_shot", TRAINED], shots=[4])
    alone = fewshot("evaluate", place.job)
    spread = ("--set", "cluster.mode=ray", "--set", "cluster.clip_workers=2", "--set", f"job.output={tmp_path / 'ray'}")
    assert fewshot("evaluate", place.job, *spread).result["table"] == alone.result["table"]


def test_methods_that_learn_from_the_archive_learn_from_the_test_images_without_labels(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=["gda", "gda_u"], shots=[3], seeds=[1])
    outcome = fewshot("evaluate", place.job)
    assert outcome.code == 0, outcome.messages
    rows = {row["method"]: row for row in pq.read_table(outcome.run / "cells.parquet").to_pylist()}
    candidates = {name: json.loads(row["held_out"])["candidates"] for name, row in rows.items()}
    assert candidates["gda"] is None
    assert {each["method"] for each in candidates["gda_u"]} == {"gda", "gda_u"}


def write_splits_with_val(folder):
    """A labelled set as `write_splits` makes, two images a class moved from train to val."""
    splits = write_splits(folder)
    splits["val"] = [entry for entry in splits["train"] if entry[0].endswith(("4.jpg", "5.jpg"))]
    splits["train"] = [entry for entry in splits["train"] if entry not in splits["val"]]
    (folder / "splits.json").write_text(json.dumps(splits))
    return splits


def cell_rows(outcome):
    return pq.read_table(outcome.run / "cells.parquet").to_pylist()


def test_a_validation_split_is_chosen_on_and_counted(tmp_path, tiny_clip):
    splits = write_splits_with_val(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=["tip_adapter", TRAINED], seeds=[1])
    inside = fewshot("evaluate", place.job)
    few = fewshot("evaluate", place.job, "--set", 'evaluate.validation="few-shot"')
    full = fewshot("evaluate", place.job, "--set", 'evaluate.validation="full"')
    assert [inside.code, few.code, full.code] == [0, 0, 0]
    for outcome, images in ((few, len(CLASSES)), (full, len(splits["val"]))):
        for row in cell_rows(outcome):
            images_used = images * min(row["shots"], 2) if outcome is few else images
            assert row["labels_consumed"] == row["shots"] * len(CLASSES) + images_used
            assert json.loads(row["held_out"])["source"] == "val"
            assert json.loads(row["held_out"])["images"] == images_used
    assert {json.loads(row["held_out"])["source"] for row in cell_rows(inside)} == {"text", "folds"}
    assert "full validation" in full.result["title"]


def test_validation_none_keeps_the_names_and_bytes_of_cells(tmp_path, tiny_clip):
    splits = write_splits_with_val(tmp_path)
    place = evaluation(tmp_path, tiny_clip, methods=["tip_adapter"], shots=[2], seeds=[1])
    fewshot("evaluate", place.job)
    before = cells(place)
    (tmp_path / "splits.json").write_text(json.dumps(splits | {"val": []}))
    fewshot("evaluate", place.job, "--set", 'evaluate.validation="none"')
    assert cells(place) == before


def test_validation_leaves_out_the_images_of_new_classes(tmp_path, tiny_clip):
    write_splits_with_val(tmp_path)
    keys = {"protocol": "base-to-new", "new_classes": [CLASSES[0]], "validation": "full", "methods": ["tip_adapter"]}
    outcome = fewshot("evaluate", evaluation(tmp_path, tiny_clip, shots=[1], seeds=[1], **keys).job)
    (row,) = cell_rows(outcome)
    assert json.loads(row["held_out"])["images"] == 2 * (len(CLASSES) - 1)


def test_validation_without_a_split_is_refused_before_any_work(tmp_path, tiny_clip):
    write_splits(tmp_path)
    place = evaluation(tmp_path, tiny_clip, validation="full")
    outcome = fewshot("evaluate", place.job)
    assert outcome.code == 2
    assert "[evaluate] validation" in outcome.messages
    assert "has no images in val" in outcome.messages
    assert not (place.output / "features").exists()


@pytest.mark.parametrize(("split", "key"), [("val", "validation"), ("train", "protocol")])
def test_a_split_of_new_classes_alone_is_refused_before_any_work(tmp_path, tiny_clip, split, key):
    splits = write_splits_with_val(tmp_path)
    splits[split] = [entry for entry in splits[split] if entry[1] == 0]
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    keys = {"protocol": "base-to-new", "new_classes": [CLASSES[0]], "validation": "full"}
    place = evaluation(tmp_path, tiny_clip, shots=[1], seeds=[1], **keys)
    outcome = fewshot("evaluate", place.job)
    assert outcome.code == 2
    assert f"[evaluate] {key}: in {split}, " in outcome.messages
    assert "has images of new classes alone" in outcome.messages
    assert not (place.output / "features").exists()


def test_a_validation_split_that_cannot_be_read_is_refused(tmp_path, tiny_clip):
    splits = write_splits_with_val(tmp_path)
    for image, _ in splits["val"]:
        put(tmp_path / "images" / image, b"")
    outcome = fewshot("evaluate", evaluation(tmp_path, tiny_clip, validation="full").job)
    assert outcome.code == 2
    assert "[evaluate] validation: no image can be read" in outcome.messages


def test_few_shot_validation_draws_at_most_four_images_a_class(tmp_path, tiny_clip):
    splits = {"classes": list(CLASSES), "train": [], "val": [], "test": []}
    for index, label in enumerate(CLASSES):
        for number in range(30):
            splits[("train", "val", "test")[number % 3]].append([f"{label}/{number}.jpg", index])
    put(tmp_path / "images" / splits["test"][0][0], picture(CLASSES[0], 1))
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    place = evaluation(tmp_path, tiny_clip, shots=[1, 2, 4, 8], validation="few-shot")
    job, _ = read_job(place.job, needs=["evaluate"])
    draws = Evaluation.from_job(job).validation_draws
    assert {shots: set(draws[shots, 1].counts.values()) for shots in (1, 2, 4, 8)} == {1: {1}, 2: {2}, 4: {4}, 8: {4}}
    assert draws[4, 1].images != draws[4, 2].images


def test_published_recipes_are_those_of_methods_that_have_one(tmp_path, tiny_clip):
    write_splits_with_val(tmp_path)
    methods = ["zero_shot", "tip_adapter", "clip_adapter"]
    place = evaluation(tmp_path, tiny_clip, methods=methods, shots=[1], seeds=[1], validation="full")
    ours = fewshot("evaluate", place.job)
    before = cells(place)
    keys = ("--set", 'evaluate.recipe="published"', "--set", 'evaluate.data_set="dtd"')
    published = fewshot("evaluate", place.job, *keys)
    assert (ours.code, published.code) == (0, 0)
    found = {row["method"]: json.loads(row["hyperparameters"]) for row in cell_rows(published)}
    assert (found["tip_adapter"]["recipe"], found["tip_adapter"]["data_set"]) == ("published", "dtd")
    assert (found["clip_adapter"]["residual_ratio"], found["clip_adapter"]["image_weight"]) == (0.2, 0.0)
    assert {name: cells(place)[name] for name in before} == before
    assert len(cells(place)) == len(before) + 2
