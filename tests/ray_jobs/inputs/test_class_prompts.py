"""Prompts by name of a data set and from a file reach the classifier of a job and of an evaluation."""

from __future__ import annotations

import json

import pytest
from torch.nn.functional import normalize

from fewshot.backbones import ClipSpec, load_clip
from fewshot.classes import LabelSpace
from ray_jobs.inputs.examples import support_labels
from ray_jobs.job_file.reading import read_job
from tests.ray_jobs.place import CLASSES


def write_prompts(place, sentences):
    path = place.folder / "cupl.json"
    path.write_text(json.dumps(sentences))
    return str(path)


def test_prompts_of_a_file_are_those_of_the_classes(place):
    path = write_prompts(place, {label: [f"{label} is a colour.", "It is bright."] for label in CLASSES})
    place.write_job(support={"prompts": path}, clip={"templates": "eurosat"})
    job, _ = read_job(place.job)
    assert job.clip.templates == ("a centered satellite photo of {}.",)
    space = support_labels(job.support).space
    clip = load_clip(ClipSpec(model=str(place.clip)))
    texts = ["a centered satellite photo of amber.", "amber is a colour.", "It is bright."]
    expected = normalize(normalize(clip.embed_texts(texts), dim=1).mean(dim=0), dim=0)
    assert (clip.prototypes(space, job.clip.templates)[0] - expected).abs().max() < 1e-6
    assert clip.prototypes(space).ne(clip.prototypes(LabelSpace(CLASSES, CLASSES, ("",) * 3))).any()


@pytest.mark.slow
def test_other_sentences_give_another_classifier(place):
    first = place.classify('classifier.method="zero_shot"')
    path = write_prompts(place, {label: [f"{label} is a colour."] for label in CLASSES})
    second = place.classify('classifier.method="zero_shot"', f'support.prompts="{path}"')
    assert (first.code, second.code) == (0, 0)
    assert len(list((place.output / "classifiers" / "zero_shot").iterdir())) == 2


def test_a_class_without_sentences_stops_the_job(place):
    path = write_prompts(place, {"amber": []})
    outcome = place.classify(f'support.prompts="{path}"')
    assert outcome.code == 2
    assert "[support] prompts: " in outcome.messages
    assert "cupl.json has no sentences for 2 of 3 classes: 'blue', 'cyan'" in outcome.messages


def test_mistakes_in_prompts_and_other_keys_are_listed_together(place):
    outcome = place.classify('support.prompts="no.json"', 'support.validation="no"', 'archive.uri="no"')
    assert outcome.code == 2
    for key in ("[archive] uri", "[support] validation", "[support] prompts"):
        assert f"{key}: " in outcome.messages
    assert "[support] uri" not in outcome.messages


@pytest.mark.parametrize("name", ["eurosad", "EuroSAT"])
def test_a_misspelled_data_set_gets_a_suggestion(place, name):
    outcome = place.classify(f'clip.templates="{name}"')
    assert outcome.code == 2
    assert "Did you mean 'eurosat'" in outcome.messages


def test_a_template_without_a_list_is_told_from_a_data_set(place):
    outcome = place.classify('clip.templates="a {}"')
    assert outcome.code == 2
    assert "[clip] templates: expected a list of templates" in outcome.messages
    assert "use ['a {}']" in outcome.messages
