"""Learned tokens give text rows that label images, and files that other programs read."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch.nn.functional import normalize

from fewshot.diffusion.tokens import TokenPrompts, merged_tokens, placeholder, token_file, token_rows
from fewshot.diffusion.tokens.token_classifier import TEXTS_IN_A_FORWARD, TokenClassifier, class_offsets
from fewshot.diffusion.tokens.token_prompts import encode_with_vectors, project_texts
from fewshot.errors import DataError
from tests.tiny_diffusion import WIDTH, tiny_diffusion, write_tiny_diffusion


@pytest.fixture(scope="module")
def tokens():
    return torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))


def test_a_row_is_the_unit_mean_over_all_prompts(tokens):
    backbone = tiny_diffusion()
    rows = token_rows(backbone, tokens, word="picture", pool="eos")
    prompts = TokenPrompts.from_templates(backbone, backbone.templates, "picture")
    for vector, row in zip(tokens, rows, strict=True):
        with torch.no_grad():
            hidden = encode_with_vectors(backbone, prompts.ids, prompts.slots, vector.expand(len(prompts), -1))
            each = normalize(project_texts(backbone, hidden, prompts.slots, pool="eos"), dim=1)
        torch.testing.assert_close(row, normalize(each.mean(dim=0), dim=0), rtol=1e-4, atol=1e-5)
    plain = token_rows(backbone, tokens, word="picture", pool="eos", templates=["a photo of a {}"])
    assert (plain - rows).abs().max() > 1e-2
    assert (token_rows(backbone, tokens, word="picture", pool="placeholder") - rows).abs().max() > 1e-2


def test_bits_of_a_row_do_not_depend_on_other_tokens(tokens):
    backbone = tiny_diffusion()
    rows = token_rows(backbone, tokens, word="picture", pool="eos")
    assert len(tokens) * len(backbone.templates) > TEXTS_IN_A_FORWARD
    assert torch.equal(token_rows(backbone, tokens[3:4], word="picture", pool="eos"), rows[3:4])
    assert torch.equal(token_rows(backbone, tokens.flip(0), word="picture", pool="eos"), rows.flip(0))


def test_the_calibration_removes_mean_similarity_to_all_classes():
    generator = torch.Generator().manual_seed(0)
    rows, means = (normalize(torch.randn(4, 8, generator=generator), dim=1) for _ in range(2))
    known = torch.tensor([True, True, False, True])
    offsets = class_offsets(rows, means, known, calibration="support_mean")
    left = (means[known] @ rows.T - offsets)[:, known]
    torch.testing.assert_close(left.mean(dim=0), torch.zeros(3), atol=1e-6, rtol=0.0)
    assert offsets[2] > 2 + offsets[known].max()
    assert class_offsets(rows, means, known, calibration="none").tolist() == [0.0, 0.0, 4.0, 0.0]
    assert class_offsets(rows, means, ~known & known, calibration="support_mean").tolist() == [4.0] * 4


def test_logits_are_scaled_differences_of_cosines_and_offsets():
    rows, features = torch.eye(3, 4), normalize(torch.arange(1.0, 9.0).view(2, 4), dim=1)
    offsets = torch.tensor([0.1, -0.2, 0.0])
    classifier = TokenClassifier(rows, offsets, torch.zeros(3, 5), logit_scale=50.0)
    torch.testing.assert_close(classifier.logits(features), 50.0 * (features[:, :3] - offsets))


def test_saved_and_merged_tokens_encode_the_same_in_diffusers(tokens, tmp_path):
    backbone = tiny_diffusion()
    files = [token_file(placeholder(label), vector) for label, vector in enumerate(tokens)]
    merged = merged_tokens(files)
    assert list(merged) == ["<cls-0000>", "<cls-0001>", "<cls-0002>", "<cls-0003>", "<cls-0004>"]
    assert all(torch.equal(merged[placeholder(label)], vector) for label, vector in enumerate(tokens))
    pipeline = StableDiffusionPipeline.from_pretrained(write_tiny_diffusion(tmp_path / "model"), safety_checker=None)
    for label, file in enumerate(files):
        path = tmp_path / f"{label}.safetensors"
        path.write_bytes(file)
        pipeline.load_textual_inversion(str(path))
    prompts = TokenPrompts.from_templates(backbone, ["a photo of a {}", "a {}"], "picture")
    for label, vector in enumerate(tokens):
        with torch.no_grad():
            ours = encode_with_vectors(backbone, prompts.ids, prompts.slots, vector.expand(2, -1))
            texts = [f"a photo of a {placeholder(label)}", f"a {placeholder(label)}"]
            theirs, _ = pipeline.encode_prompt(texts, "cpu", 1, do_classifier_free_guidance=False)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_two_tokens_with_one_placeholder_are_refused(tokens):
    files = [token_file("<cls-0001>", tokens[0]), token_file("<cls-0001>", tokens[1])]
    with pytest.raises(DataError, match="placeholder <cls-0001> occurs twice; rename one"):
        merged_tokens(files)


def test_damaged_files_and_files_of_other_models_are_refused(tokens):
    with pytest.raises(DataError, match="damaged"):
        merged_tokens([b"nonsense"])
    with pytest.raises(DataError, match="different models"):
        merged_tokens([token_file("<a>", tokens[0]), token_file("<b>", tokens[0, :5])])


def test_encoding_tokens_leaves_the_model_unchanged(tokens):
    backbone = tiny_diffusion()
    before = copy.deepcopy(backbone.text_encoder.state_dict())
    token_rows(backbone, tokens, word="picture", pool="eos")
    assert all(torch.equal(value, before[name]) for name, value in backbone.text_encoder.state_dict().items())
    assert not backbone.text_encoder.get_input_embeddings()._forward_hooks
