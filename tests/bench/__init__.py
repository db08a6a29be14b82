"""Benchmarks: `python -m tests.bench [names…]`. Every number stands beside a baseline of the same run.

The ratios matter; absolute numbers depend on the machine and its load. What varies with other load on the machine is
measured in CPU-seconds, contenders take turns, and medians are reported.

pipeline
    The cost of an image from its file to the model, in CPU-seconds (user and system, of the whole process tree) with a
    forward that costs nothing. Every contender is a new process and runs at two sizes: the slope is the marginal cost
    of an image, the rest is the fixed cost (imports, workers, Ray). The limit is decoding and resizing, some 3 ms of
    one core for 500 x 375 pixels; everything above it is overhead.
device
    The rate of a worker whose device is simulated: a batch takes a given time and copies take theirs, asleep, as a GPU
    would; everything before it is real. The limit is the device's rate, 1. Beside it runs what shared batches replaced,
    units that take turns and pad their last batch. The last row decodes JPEG files for a device of 0.6 times the rate
    of two threads that decode, so CPUs allow for it. The rows that a GPU would compute for each real one are counted.
    What a real GPU adds, kernels and contention on the bus, is not in it.
job
    The rate of a whole classify job while it embeds, beside that of its backbone on tensors that are ready. The limit
    is 1. "forward is running" is the share of the time without stalls, and has the gate: both forwards run under the
    same load. The share of the bare rate also includes what decoding, in concurrent threads, takes from the forward:
    nothing where a core is free for it; more than its own CPU time where other programs use every core.
scoring
    The rate of labelling cached features, beside one matrix product with as many operations. The rest is an exp for
    each image and shot, the sums over the shots of a class, and the largest scores. The limit is 1.
large
    The same at the size that decides whether a machine is large enough: a million features in memory, ten thousand
    classes. Reported are the share of the same product's rate and the peak of memory. Labelling all of them would be
    174 TFLOP, most of an hour of one core: a sample is labelled, and the time for all is extrapolated.
lora
    The cost of passing each row of a forward through the adapter of its class, beside the same forward without
    adapters, PEFT's two ways to the same numbers, and merging one adapter after the other into the weights; and the
    gain of training classes in one batch. The limit is the model alone, 1. The gates are for small batches, which are
    most forwards of an elimination: with many time-steps a class, the ways differ less.
overhead
    Units per second when a unit only commits an empty part, beside the same without an executor. It bounds how small a
    unit may be: an executor of 500 units per second costs a unit of one second 0.2 %. The gate is the share of their
    devices' rate that units of 100 ms reach when each device runs one at a time.
scale
    Stages of sleeping units on 1 to 16 workers of this machine: the share of the ideal rate, the driver's CPU time for
    a unit, and the time to the first result from a cold start; then the same for units whose durations have a heavy
    tail, and for one unit that stalls. The limit is 1.
split
    The gain when a helper on a second node does the first half of units, which uses a CPU, for a worker whose node has
    one CPU. The limit is two CPUs instead of one where that half is slow, and 1 where the device is.
archive
    The driver's memory, and its CPU time for each shard to list it and to skip it as done, against the archive's size.
"""
