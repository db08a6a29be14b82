"""Benchmarks: `python -m tests.bench [names…]`. Every number stands beside a baseline of the same run.

The ratios are what matters: absolute numbers belong to the machine of the day. What varies with a busy machine is
measured as CPU-seconds, contenders take turns, and medians are told.

pipeline
    What it costs to bring an image from a file to the model, in CPU-seconds (user and system, the whole tree of
    processes) with a forward that costs nothing. Every contender is a fresh process and runs at two sizes: the slope
    is the marginal cost of an image, the rest the fixed cost (imports, workers, Ray). The limit is decoding and
    resizing, some 3 ms of one core for 500 x 375 pixels; all above it is overhead.
job
    How near a whole classify job comes, while it embeds, to what its backbone does on tensors that are ready. The limit
    is 1. "forward is running" is the share of the time without stalls, and what is gated: it compares forwards that
    met the same machine. The share of the bare rate also holds what decoding, in threads beside it, takes from the
    forward: nothing where a core is free for it; where other programs keep every core busy, more than its share.
scoring
    What labelling cached features reaches of the rate of one matrix product with as many operations. What is not the
    product: an exp for each image and shot, the sums over a class's shots, the largest scores. The limit is 1.
large
    The same at the size that decides whether a machine can do it: a million features held, ten thousand classes. What
    labelling reaches of the same product, and the peak of memory. All of them would be 174 TFLOP, most of an hour of
    one core: a sample is labelled, and the time for all is extrapolated.
lora
    What it costs that each row of a forward goes through its own class's adapter, beside the same forward without
    adapters, PEFT's two ways to the same numbers, and adding one adapter after the other to the weights; and what is
    gained by training classes in one batch. The limit is the model alone, 1. Gated where batches are small, which is
    where most questions of an elimination are: with many time-steps a class, the ways come closer to each other.
overhead
    Units a second when a unit does nothing but leave an empty part, beside the same without an executor. It bounds
    how small a unit may be: an executor of 500 units a second costs a unit of one second 0.2 %. Gated is what units of
    100 ms on a device that does one at a time reach of what the devices could do.
scale
    Stages of sleeping units on 1 to 16 workers of this machine: what is reached of the ideal, what a unit costs the
    driver, how long the first result takes from a cold start; then the same for units whose lengths have a heavy tail,
    and for one that stalls. The limit is 1.
split
    What it gains when a helper on a second node does the first half of units, which burns a CPU, for a worker whose
    node has one CPU. The limit is two CPUs instead of one where that half is slow, and 1 where the device is.
archive
    What the driver holds, and what a shard costs it to list and to find done again, against the size of the archive.
"""
