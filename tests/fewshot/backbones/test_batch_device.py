"""A backbone as a device: on the CPU with the bits of `embed_images`, on a pretended GPU without waiting.

There is no GPU here. Fake tensors show shapes, types, devices and copies; they do not show that CUDA does what it is
asked for, nor how fast.
"""

import numpy as np
import open_clip
import pytest
import torch

from fewshot.backbones import ClipBackbone, ClipSpec, load_clip
from fewshot.backbones.batch_device import CudaDevice, HostDevice, batch_device
from fewshot.backbones.pooling.pooling_detection import DetectedPooling
from tests.pretended_cuda import pretended_cuda, with_fake_weights
from tests.tiny_clip import IMAGE_SIZE, TINY, write_tiny_clip

BATCH, DIM = 4, TINY["embed_dim"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return load_clip(ClipSpec(model=str(write_tiny_clip(tmp_path_factory.mktemp("clip"))), batch_size=BATCH))


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)


@pytest.mark.parametrize("rows", [1, 3, BATCH])
@pytest.mark.parametrize("dense", [False, True])
def test_a_batch_on_the_host_has_the_bits_of_single_images(clip, rows, dense):
    device = batch_device(clip)
    assert isinstance(device, HostDevice)
    buffer = device.new_buffer()
    buffer.pixels[:] = pictures(BATCH)
    output = device.forward(buffer, rows, dense=dense)
    buffer.pixels[:] = 0
    [(features, tokens)] = device.fetch([output])
    assert len(features) == rows
    for row, picture in enumerate(pictures(BATCH)[:rows]):
        alone = clip.embed_dense(torch.from_numpy(picture)[None])
        assert torch.equal(features[row], alone[0][0])
        assert tokens is None or torch.equal(tokens[row], alone[1][0])
    assert (tokens is None) is not dense


def on_cuda(dtype, config=TINY, *, batch_size=BATCH):
    """A CLIP on a GPU, with fake weights."""
    with torch.device("meta"):
        model = open_clip.CLIP(**config).eval()
    clip = ClipBackbone(
        model=with_fake_weights(model, dtype),
        tokenize=lambda _: [],
        crop=lambda image: image,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        input_size=(config["vision_cfg"]["image_size"],) * 2,
        batch_size=batch_size,
        templates=(),
        device=torch.device("cuda"),
        dtype=dtype,
    )
    if config is TINY:  # The pool itself, a copy of a layer, cannot be made of fake tensors and is not needed.
        vars(clip)["_detected_pooling"] = DetectedPooling(clip.model.visual.transformer.resblocks[-1], None)
    return clip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dense", [False, True])
def test_batches_are_queued_on_cuda_without_waiting(monkeypatch, dtype, dense):
    with pretended_cuda(monkeypatch) as log:
        device = batch_device(on_cuda(dtype))
        assert isinstance(device, CudaDevice)
        buffers = [device.new_buffer() for _ in range(2)]
        assert {(buffer.host.dtype, buffer.device.device.type) for buffer in buffers} == {(torch.uint8, "cuda")}
        device.forward(buffers[0], BATCH, dense=dense)  # The first one copies the constants of the normalisation.
        log.clear()
        outputs = [device.forward(buffers[turn], rows, dense=dense) for turn, rows in ((1, BATCH), (0, 3))]
        queued = list(log)
        fetched = device.fetch(outputs)
    assert [line for line in queued if "host" in line] == []
    assert [line for line in queued if line.startswith("copy")] == ["copy to cuda on uploads"] * 2
    assert [output.features.device.type for output in outputs] == ["cuda"] * 2
    assert [(features.shape, features.dtype, features.device.type) for features, _ in fetched] == [
        ((BATCH, DIM), torch.float32, "cpu"),
        ((3, DIM), torch.float32, "cpu"),
    ]
    tokens = [None if tokens is None else (len(tokens), tokens.dtype) for _, tokens in fetched]
    assert tokens == ([(BATCH, torch.float16), (3, torch.float16)] if dense else [None, None])
    fetching = log[len(queued) :]
    assert [line for line in fetching if "host" in line] == [fetching[-1]]
    assert {line for line in fetching if "copy" in line} == {"copy to cpu on fetches"}
    assert [line for line in fetching if "waits for" in line][:-1] == [
        f"fetches waits for {output.ended.name}" for output in outputs
    ]
    assert [output.busy_s for output in outputs] == [0.25, 0.25]


@pytest.mark.parametrize(("name", "dim"), [("ViT-B-32", 512), ("ViT-L-14", 768), ("ViT-H-14", 1024), ("RN50", 1024)])
def test_no_tower_of_real_size_makes_the_host_wait(monkeypatch, name, dim):
    with pretended_cuda(monkeypatch) as log:
        device = CudaDevice(on_cuda(torch.bfloat16, open_clip.get_model_config(name), batch_size=128))
        buffer = device.new_buffer()
        device.forward(buffer, 128, dense=False)
        log.clear()
        features = device.forward(buffer, 128, dense=False).features
    assert (features.shape, features.dtype) == ((128, dim), torch.float32)
    assert [line for line in log if "host" in line or "copy" in line] == ["copy to cuda on uploads"]


def test_copies_wait_for_the_forward_that_reads_the_buffer_and_forwards_for_their_copy(monkeypatch):
    with pretended_cuda(monkeypatch) as log:
        device = CudaDevice(on_cuda(torch.float32))
        buffer = device.new_buffer()
        device.forward(buffer, BATCH, dense=False)
        consumed = buffer.consumed.name
        log.clear()
        device.forward(buffer, BATCH, dense=False)
        buffer.wait()
    copied = buffer.copied.name
    order = [
        f"uploads waits for {consumed}",
        "copy to cuda on uploads",
        f"uploads records {copied}",
        f"compute waits for {copied}",
    ]
    assert log[:4] == order
    assert log[-2:] == [f"compute records {buffer.consumed.name}", f"the host waits for {copied}"]


def test_the_log_shows_copies_that_wait(monkeypatch):
    with pretended_cuda(monkeypatch) as log:
        torch.ones(2, device="cuda").cpu()
        torch.ones(2).to("cuda", non_blocking=True)
        with pytest.raises(Exception, match="_local_scalar_dense"):  # What needs a value fails: fake tensors have none.
            torch.ones(2, device="cuda").sum().item()
    assert log == ["copy to cpu, the host waits", "copy to cuda"]
