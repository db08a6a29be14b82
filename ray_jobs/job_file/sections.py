"""The sections of a job file, as values. What a field means is said here, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from cluster import Storage
from fewshot.backbones.clip_spec import ClipSpec
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from ray_jobs.job_file.deploy_section import DeploySection
from ray_jobs.job_file.field_types import STRICT, Count, Place, Seed

Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
ProtocolName = Literal["few-shot", "base-to-new", "generalized-zero-shot"]
DiffusionMethodName = Literal["tif", "diffusion_classifier"]
ScheduleName = Literal["racing", "published", "exhaustive"]
SchemeName = Literal["abfs", "abfss", "az", "gcs", "gs", "http", "https", "s3", "s3a"]
MAX_NAME = 60
"""Of a job, in characters: it is part of a folder's name, which may have 255 bytes."""
OpenFraction = Annotated[float, Field(gt=0, lt=1, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSection:
    """Section [job].

    Attributes:
        name: what the runs are called.
        output: where everything is written, any fsspec URL.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    output: Place

    def __post_init__(self) -> None:
        """Check that the name can be part of a path."""
        if not self.name or not all(c.isalnum() or c in "-_." for c in self.name) or self.name[0] == ".":
            raise ValueError(f"name must consist of letters, digits, '-', '_' and '.', got {self.name[:200]!r}")
        if len(self.name) > MAX_NAME:
            raise ValueError(f"name must have at most {MAX_NAME} characters, got {len(self.name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSection:
    """Section [storage]: how `s3://` URLs are reached, those of output, archive, examples and tables alike.

    Never with credentials: these are in the environment of every machine, or are its identity. Nothing here plays a
    part in names or bytes of results.

    Attributes:
        endpoint: http(s) URL of an S3 server that is not AWS; None is AWS, or what AWS_ENDPOINT_URL says.
        region: of the buckets; None is what the environment says.
        path_style: whether the bucket stands in the URL's path and not in the host's name; None does what the server
            most likely needs.
        ca_file: certificates (PEM) that the server's own is signed with, on the machine that runs the command; they
            travel to the workers. None trusts what each machine trusts.
        anonymous: send no signature, as public buckets allow.
        lease_s: a run that has not been heard of for so many seconds is taken for dead, and another may continue it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    ca_file: str | None = None
    anonymous: bool = False
    lease_s: Annotated[float, Field(ge=1, le=3600)] = 30.0

    def __post_init__(self) -> None:
        """Check the endpoint."""
        Storage(endpoint=self.endpoint)

    def resolve(self) -> Storage:
        """The same as a value that travels, the certificates read.

        Raises:
            OSError: they cannot be read.
            ValueError: they are none.
        """
        certificates = None if self.ca_file is None else Path(self.ca_file).expanduser().read_text(errors="replace")
        return Storage(
            endpoint=self.endpoint,
            region=self.region,
            path_style=self.path_style,
            certificates=certificates,
            anonymous=self.anonymous,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSection:
    """Section [archive].

    Attributes:
        uri: a folder of images at any depth, *.parquet (bytes or URIs) or *.tar (WebDataset), on any fsspec URL.
        shard_images: about how many images are one unit of work.
        max_unreadable_fraction: the job counts as failed when a larger share of the images cannot be read.
        image_column: of a Parquet archive; None finds it.
        key_column: of a Parquet archive; None finds it.
        labels: a table of image,label to measure accuracy with, never to learn from; None measures nothing.
        max_image_bytes: larger objects are not read.
        schemes: kinds of URL that the rows of a table may lead to, beside the table's own kind.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    uri: Place
    shard_images: Count = 256
    max_unreadable_fraction: Fraction = 1.0
    image_column: str | None = None
    key_column: str | None = None
    labels: str | None = None
    max_image_bytes: Count = 256 << 20
    schemes: tuple[SchemeName, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSection:
    """Section [[support.classes]]: one class that is more, or other, than its examples say.

    Attributes:
        label: the class; one that no example is of joins the label space.
        name: what people call it, for prompts; None derives it from the label.
        description: a sentence about it, for prompts.
        examples: at most this many of it are used; 0 for a class that is to be known by its name alone. None is
            `support.shots`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    label: str
    name: str | None = None
    description: str | None = None
    examples: Annotated[int, Field(ge=0, strict=True)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportSection:
    """Section [support].

    Attributes:
        uri: a folder per class, a table (.csv, .parquet, .jsonl) of image,label[,name,description], or a splits.json
            (its train split).
        shots: at most this many examples of a class; None takes all.
        seed: which ones; more shots contain the fewer.
        views: augmented views of each example that its cached feature is averaged over; 0 takes the plain image.
        classes: classes to add, to name, or to use fewer examples of.
        schemes: kinds of URL that a table may lead to, beside its own kind.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    uri: Place
    shots: Count | None = None
    seed: Seed = 1
    views: Annotated[int, Field(ge=0, le=1000)] = 10
    classes: tuple[ClassSection, ...] = ()
    schemes: tuple[SchemeName, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSection(ClipSpec):
    """Section [clip]: `ClipSpec`, and how classes are put into words.

    Attributes:
        templates: prompts with one "{}" each; None takes the backbone's own.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    batch_size: Count | None = None
    threads: Count = 1
    templates: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    def __post_init__(self) -> None:
        """Check ranges, and that every prompt has a place for the name."""
        ClipSpec.__post_init__(self)
        if bad := [template for template in self.templates or () if template.count("{}") != 1]:
            raise ValueError(f"templates need exactly one {{}} each, e.g. 'a photo of a {{}}.'; got {bad}")

    @property
    def spec(self) -> ClipSpec:
        """The backbone alone."""
        return ClipSpec(**{item.name: getattr(self, item.name) for item in fields(ClipSpec)})


TRAINING_KEYS = ("method", "hyperparameters", "max_error", "confidence")
"""Keys of [classifier] that say how to train one."""


def _refuse_beside_from(names: Sequence[str]) -> None:
    if names:
        keys = ", ".join(names)
        raise ValueError(
            f"from names a stored classifier, which brings its own {keys}: remove {keys}, or remove from to train one"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierSection:
    """Section [classifier]: how a classifier is trained, or which stored one is used.

    Attributes:
        from_: key `from`: folder of a stored classifier, any fsspec URL or path, which is used as it is. It brings its
            own classes, method, hyperparameters and threshold, so that no [support] is needed and none of the keys
            below can be set but `top`. None trains one from the examples.
        method: one of `fewshot methods`.
        hyperparameters: of the method; the ones not given are chosen inside the shots.
        max_error: the share of wrong labels tolerated among labels given; images below the score that this needs
            are abstained. None labels every image.
        confidence: with which `max_error` is to hold.
        top: how many classes a prediction lists.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    from_: Annotated[Place | None, Field(alias="from")] = None
    method: str = "nearest_mean"
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    max_error: OpenFraction | None = None
    confidence: OpenFraction = 0.9
    top: Count = 5

    @model_validator(mode="before")
    @classmethod
    def _check_given(cls, values: Any) -> Any:
        """Refuse keys of a training beside a stored classifier, also those that are set to their default."""
        if isinstance(values, dict) and values.get("from") is not None:
            _refuse_beside_from([name for name in TRAINING_KEYS if name in values])
        return values

    def __post_init__(self) -> None:
        """Check that a stored classifier comes without settings of a training.

        Raises:
            ValueError: it does not.
        """
        if self.from_ is not None:
            untrained = ClassifierSection()
            _refuse_beside_from([name for name in TRAINING_KEYS if getattr(self, name) != getattr(untrained, name)])


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSection(DiffusionSpec):
    """Section [diffusion]: what the methods `mcti` and `textual_inversion` learn tokens of.

    Its texts must lie in the image space of the model under [clip]: the embedded ones go together, and Stable Diffusion
    1.x goes with ViT-L-14 of openai.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    batch_size: Count | None = None
    threads: Count = 1
    image_size: Count | None = None

    @property
    def spec(self) -> DiffusionSpec:
        """The backbone alone."""
        return DiffusionSpec(**{item.name: getattr(self, item.name) for item in fields(DiffusionSpec)})


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalateSection(DiffusionSection):
    """Section [escalate]: the model, as under [diffusion], and who is asked about what.

    Attributes:
        method: "tif" (adapters are trained for the classes in question) or "diffusion_classifier" (names alone).
        hyperparameters: of the method.
        below: images whose score is below this are asked about, the least certain first. None is what
            `classifier.max_error` needs, or, without one, every image.
        max_fraction: at most this share of the images.
        budget_gpu_hours: GPU-hours (on a CPU, hours of a worker) that all of it may take, training included, as far as
            a probe of the first worker can tell; None sets no such limit.
        candidates: at most this many classes an image, the cheap method's best; it is no use asking about one.
        schedule: "racing" stops an image when its decision is settled; "published" drops classes in stages;
            "exhaustive" asks every class about every time-step.
        steps: time-steps that an image is asked about at most.
        error_rate: how often racing may decide otherwise than exhaustive, in (0, 1).
        calibrate: whether the model is examined on examples that it learned without, so that its answers have a score.
            Every class in question is learned twice for that. Needs classes with two examples.
        seed: of noise and of training.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    method: DiffusionMethodName = "tif"
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    below: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    max_fraction: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.1
    budget_gpu_hours: Annotated[float, Field(gt=0, strict=True)] | None = None
    candidates: Annotated[int, Field(ge=2, le=1000, strict=True)] = 5
    schedule: ScheduleName = "racing"
    steps: Annotated[int, Field(ge=4, le=500, strict=True)] = 100
    error_rate: OpenFraction = 0.05
    calibrate: bool = True
    seed: Seed = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSection:
    """Section [evaluate].

    Attributes:
        splits: a splits.json, or a split_zhou_*.json of the CoOp benchmark.
        images: the folder its paths start in; None is the file's own folder.
        methods: names of methods.
        shots: numbers of examples a class.
        seeds: draws of the examples.
        protocol: what is learned from and what is asked. "few-shot": examples of every class. "base-to-new": examples
            of the base classes only; base images are told apart among base classes, new ones among new classes.
            "generalized-zero-shot": the same examples, and every image is told apart among all classes.
        new_classes: labels of the classes without examples, for the last two; None takes the second half of the
            classes, as they are listed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    splits: str
    images: str | None = None
    methods: Annotated[tuple[str, ...], Field(min_length=1)] = ("zero_shot", "nearest_mean", "tip_adapter", "ape")
    shots: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 4, 8, 16)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1, 2, 3)
    protocol: ProtocolName = "few-shot"
    new_classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSection:
    """Section [cluster].

    Attributes:
        address: a running Ray ("auto", "host:port", "ray://…"); None uses this machine.
        mode: "auto" starts Ray on this machine when there is work for more than one worker; "process" never does;
            "ray" always does.
        clip_workers: the most workers that embed; work begins with those that the cluster has room for. None takes one
            for each GPU, or one for `clip.threads` CPUs, of the nodes with these `labels` that are there when the
            stage begins.
        gpus_per_worker: GPUs of a worker; fractions share one. None takes 1 where there are GPUs.
        cpus_per_worker: CPUs of a worker, for decoding; None takes `clip.threads`.
        memory_per_worker_gib: memory that a worker reserves, so that no more of them share a machine than fit; None
            reserves nothing, and CPUs and GPUs alone decide.
        labels: of the nodes that workers may run on, e.g. {"ray.io/accelerator-type" = "H100"}; without `address`
            nothing is asked of this machine.
        decode_workers: shards that are read and decoded at a time by CPUs that are not the workers', each by as many as
            a worker has; for clusters whose GPUs wait for decoding, as pixels then travel. None decodes where the
            backbone is; "auto" takes as many as fit on the nodes without GPUs, if there are nodes with some. They take
            work only as fast as workers ask for it, so they do no harm where the GPUs are the slower half. Without
            `address` there are none.
        decode_labels: of the nodes to do that on; without any, nodes without GPUs are preferred.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    address: str | None = None
    mode: Literal["auto", "process", "ray"] = "auto"
    clip_workers: Count | None = None
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = None
    cpus_per_worker: Annotated[float, Field(ge=0)] | None = None
    memory_per_worker_gib: Annotated[float, Field(gt=0)] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    decode_workers: Count | Literal["auto"] | None = None
    decode_labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A whole job file. A section that a command does not need may be absent.

    Attributes:
        given: names of the sections that the file has; the others are at their defaults.
    """

    job: JobSection
    archive: ArchiveSection | None = None
    support: SupportSection | None = None
    clip: ClipSection = field(default_factory=ClipSection)
    classifier: ClassifierSection = field(default_factory=ClassifierSection)
    diffusion: DiffusionSection = field(default_factory=DiffusionSection)
    escalate: EscalateSection | None = None
    evaluate: EvaluateSection | None = None
    storage: StorageSection = field(default_factory=StorageSection)
    cluster: ClusterSection = field(default_factory=ClusterSection)
    deploy: DeploySection | None = None
    given: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def clip_given(self) -> ClipSpec | None:
        """The backbone that the file names; None if it leaves that to a stored classifier, or to the default."""
        return self.clip.spec if "clip" in self.given or self.clip != ClipSection() else None
