"""Rows of several units meet in batches and come back to their units, whatever happens to the others."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_jobs.steps.device_pipeline import DecodePool, DevicePipeline
from ray_jobs.steps.stage_meter import DEVICE, StageMeter
from tests.simulated_device import DIM, SimulatedDevice


def images(unit, count, views):
    """[count, views, 3, 2, 2] with other values in each row."""
    shape = (count, views, 3, 2, 2)
    return np.random.default_rng(unit).integers(0, 255, shape, dtype=np.uint8)


def pipeline(device, **options):
    return DevicePipeline(device, StageMeter(), **options)


def expected(pixels):
    return pixels.reshape(-1, pixels[0, 0].size)[:, :DIM].astype(np.float32)


@given(
    units=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3), st.booleans()), min_size=1, max_size=6),
    batch_size=st.integers(1, 7),
    overlap=st.integers(1, 3),
    buffers=st.integers(1, 3),
)
def test_every_unit_gets_its_own_rows_in_order(units, batch_size, overlap, buffers):
    device = SimulatedDevice(batch_size, batch_s=0.0002, copy_s=0.0002)
    shared, decoders = pipeline(device, buffers=buffers), DecodePool(2)

    def embed(number, count, views, dense):
        with shared.unit(dense=dense) as rows:
            pixels = images(number, count, views)
            for future in [decoders.submit(rows.number, rows.put, image, pixels[image]) for image in range(count)]:
                future.result()
            return rows.finish(DIM)

    with ThreadPoolExecutor(overlap) as threads:
        calls = [threads.submit(embed, number, *unit) for number, unit in enumerate(units)]
        results = [call.result() for call in calls]
    for number, ((count, views, dense), (features, tokens)) in enumerate(zip(units, results, strict=True)):
        pixels = images(number, count, views)
        wanted = expected(pixels) if count else np.zeros((0, DIM))
        np.testing.assert_array_equal(features, wanted)
        assert (tokens is None) is not dense
        if dense and count:
            np.testing.assert_array_equal(tokens[:, 0], wanted[::views])
    assert sum(device.batches) == sum(count * views for count, views, _ in units)


def test_batches_cross_units_and_only_the_last_one_is_partly_empty():
    device = SimulatedDevice(8)
    shared = pipeline(device)
    with shared.unit(dense=False) as first, shared.unit(dense=False) as second:
        for image in range(5):
            first.put(image, images(image, 1, 1)[0])
            second.put(image, images(image, 1, 1)[0])
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(first.finish, DIM)
            while not device.batches:
                time.sleep(0.001)
            time.sleep(0.05)
            assert not waiting.done()  # The second unit may have more rows for the batch that waits.
            second.put(5, images(5, 1, 1)[0])
            second.finish(DIM)
            waiting.result()
    assert device.batches == [8, 3]


def test_a_rest_waits_for_the_device_and_is_joined_by_the_next_unit():
    device = SimulatedDevice(4, batch_s=0.2)
    shared = pipeline(device)
    with ThreadPoolExecutor(1) as threads, shared.unit(dense=False) as first:
        for image in range(6):
            first.put(image, images(image, 1, 1)[0])
        waiting = threads.submit(first.finish, DIM)
        with shared.unit(dense=False) as second:  # It begins while the first four rows are computed.
            second.put(0, images(0, 1, 1)[0])
            time.sleep(0.3)  # The device has nothing to do any more.
            second.put(1, images(1, 1, 1)[0])
            second.finish(DIM)
        waiting.result()
    assert device.batches == [4, 4]


def test_buffers_take_turns_so_that_none_waits_for_its_own_copy():
    device, sent = SimulatedDevice(1, batch_s=0.001, copy_s=0.001), []
    forward = device.forward

    def noted_forward(buffer, rows, **options):
        sent.append(id(buffer))
        return forward(buffer, rows, **options)

    device.forward = noted_forward
    shared = pipeline(device, buffers=3)
    with shared.unit(dense=False) as rows:
        for image in range(9):
            rows.put(image, images(image, 1, 1)[0])
        rows.finish(DIM)
    assert sent[:6] == sent[3:]
    assert len(set(sent)) == 3


def put_and_raise(rows):
    rows.put(0, images(1, 1, 1)[0])
    raise OSError("storage is down")


def test_a_unit_that_raises_leaves_its_batch_mates_alone():
    device = SimulatedDevice(4)
    shared = pipeline(device)
    with shared.unit(dense=False) as good:
        good.put(0, images(0, 1, 1)[0])
        with pytest.raises(OSError, match="storage"), shared.unit(dense=False) as bad:
            put_and_raise(bad)
        bad.put(1, images(2, 1, 1)[0])  # A thread that was still decoding: dropped.
        features, _ = good.finish(DIM)
    np.testing.assert_array_equal(features, expected(images(0, 1, 1)))
    assert device.batches == [2]


def test_a_forward_that_raises_fails_the_units_of_its_batch_alone():
    device = SimulatedDevice(2, breaks_at=frozenset({7}))
    shared = pipeline(device)
    broken, fine = np.full((1, 3, 2, 2), 7, np.uint8), np.full((1, 3, 2, 2), 8, np.uint8)
    for pixels, succeeds in ((fine, True), (broken, False), (fine, True)):
        with shared.unit(dense=False) as rows:
            rows.put(0, pixels)
            if succeeds:
                assert rows.finish(DIM)[0].tolist() == [[8.0] * DIM]
            else:
                with pytest.raises(RuntimeError, match="out of memory"):
                    rows.finish(DIM)


def test_a_rest_is_computed_after_a_forward_that_broke_late():
    """As on CUDA, whose calls return before the device reports an error: waiting for the output raises it."""
    device, results = SimulatedDevice(2), []
    forward, broken = device.forward, np.full((1, 3, 2, 2), 7, np.uint8)

    def forward_that_breaks_late(buffer, rows, **options):
        output = forward(buffer, rows, **options)
        if 7 in buffer.pixels[:rows]:
            output.ended_at = math.inf  # Waiting until then is an OverflowError.
        return output

    device.forward = forward_that_breaks_late
    shared = pipeline(device)
    with shared.unit(dense=False) as bad, shared.unit(dense=False) as good:
        for image in range(2):
            bad.put(image, broken)
        good.put(0, images(0, 1, 1)[0])
        with pytest.raises(OverflowError):
            bad.finish(DIM)
        waiting = threading.Thread(target=lambda: results.append(good.finish(DIM)), daemon=True)
        waiting.start()
        waiting.join(timeout=30)
    np.testing.assert_array_equal(results[0][0], expected(images(0, 1, 1)))


def test_a_thread_that_waits_for_room_gives_up_with_its_unit():
    held, device = threading.Event(), SimulatedDevice(1)
    forward = device.forward

    def slow_forward(*arguments, **options):
        held.wait()
        return forward(*arguments, **options)

    device.forward = slow_forward
    shared = pipeline(device, buffers=1)
    with ThreadPoolExecutor(1) as threads:
        with shared.unit(dense=False) as rows:
            rows.put(0, images(0, 1, 1)[0])
            waiting = threads.submit(rows.put, 1, images(1, 1, 1)[0])
        waiting.result(timeout=30)
    held.set()


def test_the_time_of_a_batch_is_counted_once():
    device = SimulatedDevice(2, batch_s=0.01)
    meter = StageMeter()
    shared = DevicePipeline(device, meter)
    with shared.unit(dense=False) as first, shared.unit(dense=False) as second:
        first.put(0, images(0, 1, 1)[0])
        second.put(0, images(1, 1, 1)[0])
        first.finish(DIM)
        second.finish(DIM)
    assert meter.take()[DEVICE] == pytest.approx(0.01)


def test_images_of_the_oldest_unit_are_decoded_first():
    decoders, order, held = DecodePool(1), [], threading.Event()
    first = decoders.submit(0, held.wait)
    calls = [decoders.submit(unit, order.append, (unit, image)) for image in range(2) for unit in (3, 1, 2)]
    calls[0].cancel()
    held.set()
    for call in [first, *calls[1:]]:
        call.result()
    assert order == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 1)]
