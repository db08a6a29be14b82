"""The cluster file of `ray up` passes Ray's own checks, and further ones."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.ray_jobs.manifest.jobs import EVERYTHING, PLAIN, documents

ON_MACHINES = EVERYTHING[: EVERYTHING.index("[[deploy.volumes]]")] + EVERYTHING[EVERYTHING.index("[deploy.head]") :]
OVERRIDES = ("job.output=s3://bucket/runs", "archive.uri=s3://bucket/photos", "support.uri=s3://bucket/examples")


def everything(folder) -> dict[str, Any]:
    text = ON_MACHINES.replace('secret = "fewshot-storage"\n', "").replace('model_cache = "/data/hub"\n', "")
    (made,) = documents(folder, text, *OVERRIDES, kind="launcher")
    return made


def plain(folder) -> dict[str, Any]:
    (made,) = documents(folder, PLAIN, kind="launcher")
    return made


@pytest.mark.parametrize("make", [plain, everything])
def test_ray_up_accepts_the_file(tmp_path, make):
    validate_config(prepare_config(make(tmp_path)))


@pytest.mark.parametrize("change", [{"cluster_nam": "x"}, {"head_node_type": "nobody"}, {"docker": {"images": "x"}}])
def test_ray_up_refuses_typos(tmp_path, change):
    with pytest.raises((ValidationError, ValueError)):
        validate_config(prepare_config(plain(tmp_path) | change))


def test_none_of_rays_defaults_installs_anything(tmp_path):
    prepared = prepare_config(plain(tmp_path))
    for name in ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert prepared[name] == []


def test_machines_are_those_of_the_job_file(tmp_path):
    made = everything(tmp_path)
    types = made["available_node_types"]
    assert list(types) == ["head", "gpu", "gpu-spot", "cpu", "cpu-spot"]
    assert types["head"]["resources"]["CPU"] == 0
    assert "max_workers" not in types["head"]
    for name, type_ in types.items():
        machine = type_["node_config"]
        assert machine["IamInstanceProfile"]["Arn"].endswith("/other")
        assert machine["ImageId"] == "ami-0fedcba9876543210"
        assert ("InstanceMarketOptions" in machine) is name.endswith("-spot")
        assert type_.get("min_workers", 0) <= type_.get("max_workers", 0)
    assert types["gpu"]["resources"] == {"CPU": 7, "GPU": 2}
    assert types["cpu-spot"]["labels"] == {"ray.io/market-type": "spot"}
    assert types["cpu-spot"]["priority"] > types["cpu"].get("priority", 0)
    assert made["max_workers"] == 7


def test_all_machines_require_a_token_that_is_not_in_the_file(tmp_path):
    made = plain(tmp_path)
    assert "--env RAY_AUTH_MODE=token" in made["docker"]["run_options"]
    assert made["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    head, worker = made["head_start_ray_commands"][-1], made["worker_start_ray_commands"][-1]
    assert "--dashboard-host" not in head, "it listens on the machine itself; `ray dashboard` forwards it"
    assert "$RAY_HEAD_IP" in worker
