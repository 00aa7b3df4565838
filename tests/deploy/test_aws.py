"""The launcher's file as Ray checks it, and the policies: no star where a name can stand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.deploy.files import DEPLOY

AWS = DEPLOY / "aws"
POLICIES = sorted(AWS.glob("*.json"))
# What IAM cannot narrow to a resource: reading lists of EC2, and logging in to the registry.
WITHOUT_RESOURCE = {"Look", "LogInToRegistry"}


def statements(path: Path) -> list[dict[str, Any]]:
    policy = json.loads(path.read_text())
    assert policy["Version"] == "2012-10-17"
    return list(policy["Statement"])


def several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_ray_takes_the_launcher_file() -> None:
    config = prepare_config(yaml.safe_load((AWS / "cluster.yaml").read_text()))
    validate_config(config)
    assert config["head_node_type"] == "head"
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert config["setup_commands"] == config["head_setup_commands"] == config["worker_setup_commands"] == []
    for node in config["available_node_types"].values():
        assert node["node_config"]["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in node["node_config"]["BlockDeviceMappings"])


def test_ray_refuses_a_launcher_file_with_a_wrong_field() -> None:
    config = yaml.safe_load((AWS / "cluster.yaml").read_text())
    config["max_wrokers"] = 3
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config(prepare_config(config))


def test_the_dashboard_is_on_loopback_and_the_token_reaches_every_node() -> None:
    text = (AWS / "cluster.yaml").read_text()
    assert "--dashboard-host=127.0.0.1" in text
    assert yaml.safe_load(text)["file_mounts"] == {"/home/layerprint/.ray/auth_token": "~/.ray/auth_token"}


def test_instance_types_of_the_launcher_may_be_launched() -> None:
    types = set(re.findall(r"InstanceType: (\S+)", (AWS / "cluster.yaml").read_text()))
    for name in ("launch-cluster", "scale-cluster"):
        (launch,) = [one for one in statements(AWS / f"{name}.json") if one["Sid"] == "LaunchOwnInstances"]
        assert set(launch["Condition"]["StringEquals"]["ec2:InstanceType"]) == types


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_name_actions_and_resources(path: Path) -> None:
    found = statements(path)
    assert len({one["Sid"] for one in found}) == len(found)
    for one in found:
        assert one["Effect"] == "Allow"
        assert not set(one) & {"NotAction", "NotResource", "NotPrincipal"}
        for action in several(one["Action"]):
            assert re.fullmatch(r"[a-z0-9]+:[A-Za-z]+", action), action  # no star
        if "Principal" in one:
            assert "*" not in json.dumps(one["Principal"])
            continue
        for resource in several(one["Resource"]):
            assert resource != "*" or one["Sid"] in WITHOUT_RESOURCE, one["Sid"]
            assert resource == "*" or resource.startswith("arn:aws:"), resource


def test_images_are_read_only_and_the_store_is_one_prefix() -> None:
    images = [action for one in statements(AWS / "read-images.json") for action in several(one["Action"])]
    assert set(images) == {"s3:ListBucket", "s3:GetObject"}
    for one in statements(AWS / "write-store.json"):
        if one["Action"] == "s3:ListBucket":
            assert all(p.startswith("STORE_PREFIX") for p in one["Condition"]["StringLike"]["s3:prefix"])
        else:
            assert one["Resource"] == "arn:aws:s3:::STORE_BUCKET/STORE_PREFIX/*"


@pytest.mark.parametrize("name", ["launch-cluster", "scale-cluster"])
def test_only_own_instances_are_ended_and_only_own_roles_passed(name: str) -> None:
    for one in statements(AWS / f"{name}.json"):
        if "ec2:TerminateInstances" in several(one["Action"]):
            assert one["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": "layerprint"}}
        if one["Action"] == "iam:PassRole":
            assert all(re.fullmatch(r"arn:aws:iam::ACCOUNT:role/layerprint-\w+", r) for r in several(one["Resource"]))
            assert one["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
