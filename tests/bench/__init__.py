"""Benchmarks: `python -m tests.bench [names…]`. Every number stands beside a baseline of the same run.

The ratios matter; absolute numbers depend on the machine and its load. What varies with other load on the machine is
measured in CPU-seconds, contenders take turns, and medians are reported.

decode
    The cost of a JPEG from its bytes to the square that a model takes, beside Pillow, torchvision.io and mixtures, and
    of ten augmented views. The limit is decoding: what resizing adds, and what scaled decoding saves. Gates are against
    the way before (simplejpeg, then Pillow), and against decoding at the smallest sufficient scale.
pipeline
    The cost of an image from its file to the model, in CPU-seconds (user and system, of the whole process tree) with a
    forward that costs nothing. Every contender is a new process and runs at two sizes: the slope is the marginal cost
    of an image, the rest is the fixed cost (imports, workers, Ray). The limit is decoding and resizing, about 1 ms of
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
diffusion
    What workers read and compute to score images among five of a thousand classes each, at the full shape of Stable
    Diffusion 2.1: units are cut, adapters and latents are kept and dropped, and memory is counted by the real code, on
    tensors without data. The rates of the device and of storage are given, so that the numbers are counts and do not
    vary. The baseline is the way before, in the same run. The limit is each adapter read once, and a device
    that never waits.
precision
    What bfloat16 changes about noise errors and decisions of the embedded diffusion model, in scoring, in training and
    in both, beside float32 in the same run. The gates bound the difference of an image's mean error, and the gap of the
    pictures that are decided otherwise: only those may be whose two best classes are as good as equal.
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
promotion
    How often candidates that are equal, worse or better are promoted, or taken back, and on which night, in simulated
    projects that look at their evidence every night. The size is the number of projects of each row.
nights
    What turns of `fewshot retrain` train and cost after classes were added, labels corrected, a class removed, one
    renamed, and after nothing; beside training and labelling anew, from the same features, and for the CPU time from
    nothing. FEWSHOT_BENCH_DATA must name a folder with grocery/splits.json. The size is the number of classes.
drift
    Only by name, and only where FEWSHOT_BENCH_DATA names a folder with sets of labelled photographs (see suggestion) of
    900 images or more: how many nights alarm where nothing changes, and the night that finds a colour cast, a blur, a
    fifth of images of classes that the classifier does not know, and a fifth from another set. Two thirds of the
    classes are known. The gates are the stated rate of false alarms, and that all but the unknown classes are found.
    The size is the number of nights without a change, of each set and kind of archive.
audit
    How often intervals of audits hold, at their last answer and at every look, and how wide they are: plain samples,
    strata, scores (PPI++) and both, replayed on archives whose truth is known. The gates are for what `fewshot audit`
    does, both: 95 % are promised.
archive
    The driver's memory, and its CPU time for each shard to list it and to skip it as done, against the archive's size.
reading
    The CPU time of an image from an S3 server on loopback to the process that reads it, and the rate that one process
    reaches when every response takes 30 or 100 ms, for objects in folders and for containers; and the same for listed
    objects. The server runs in another process. Beside it: the usual ways of s3fs. The limit of the rate is the CPU
    time: with enough requests in flight, latency costs nothing.
million
    The archive of a million images on up to 16 workers with a simulated GPU each: a table is listed, its shards are
    distributed and parts committed for real, and embedding is a sleep. Reported are the share of the devices' rate, the
    driver's CPU time for a shard, the growth of its memory, and files and calls of fsync for each image.
search
    The rate at which a million features in parts are searched, and at which a sample is drawn from them, with the peak
    of memory; and the time of choosing what to label next from that sample. The limit is reading every part and
    comparing it with its digest, which is measured beside it. Gates are the share of that rate, and memory.
suggestion
    Only by name, and only where FEWSHOT_BENCH_DATA names a folder with sets of labelled photographs, each a folder with
    `splits.json` (`classes`, and lists of [path, class] as `train` and `test`, or as `all`): accuracy of the default
    method on other images, by the number of labels, where suggestions, random draws, least margins, k-centres and
    TypiClust choose what is labelled and the truth is the oracle. With --repeat 5, five draws. No cell may be below
    random draws; the other gates are the mean differences from random draws, least margins and TypiClust.
suggestion_parts
    As suggestion: what suggestions lose without doubt, without the radius that shrinks, without rare classes, and
    without all three, which is pure coverage at one radius.
random_labels
    As suggestion: accuracy on the rest of an archive with a budget of labels that the user chooses, or of which half
    are random images of the archive, for archives with all classes, a third of them, or a long tail.
report
    The page of a run of a million predictions that have given labels: seconds and peak memory of a process that writes
    it. There are no pictures, whose number is bounded.
churn
    Two runs of a million predictions, compared: seconds and peak memory of a process that writes the page, where the
    archive is the same, and where all of its shards are others, so that images are matched by key; beside a tenth of
    them, for the growth of memory. There are no pictures, whose number is bounded.
review
    Building the index of the predictions, and pages of `fewshot review` from request to HTML, without pictures. Pages
    follow each other by key; the limit of the worst one is 200 ms.
export
    The peak of memory of a process that exports predictions, for each format and three sizes, with the time and the
    bytes. Formats with a file an image have a tenth of the rows, and as many with links instead. The gate is the peak
    against that of a tenth of the rows.
gpu
    Only by name, and only on a machine with a GPU: images a second of three CLIPs, from tensors on the device and from
    JPEG files; a Stable Diffusion's UNet without adapters, with stacked ones and with PEFT's; and the training of
    adapters. Each number stands beside the rate of one large matrix product in the same precision, which is the limit.
    The gates compare our ways with the plain ones of the same run.
"""
