"""The examples of release gates: actions pinned by commit, least permissions, strangers' text never in a script."""

from __future__ import annotations

import re

import yaml

from tests.deploy.files import DEPLOY

GITHUB = (DEPLOY / "ci/github-release-gate.yaml").read_text()
GITLAB = (DEPLOY / "ci/gitlab-release-gate.yaml").read_text()


def test_actions_are_pinned_by_commit() -> None:
    used = re.findall(r"uses: (\S+)", GITHUB)
    assert len(used) == 3
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert len(re.findall(r"^\s*# v\d+\.\d+\.\d+$", GITHUB, re.MULTILINE)) == len(used)


def test_permissions_are_none_but_what_a_job_needs() -> None:
    workflow = yaml.safe_load(GITHUB)
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["audit"]["permissions"] == {"contents": "read", "id-token": "write"}
    assert workflow["jobs"]["publish"]["permissions"] == {"contents": "write"}
    assert all(job["timeout-minutes"] for job in workflow["jobs"].values())


def test_no_expression_stands_in_a_script() -> None:
    for job in yaml.safe_load(GITHUB)["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")


def test_publishing_waits_for_the_gate() -> None:
    github, gitlab = yaml.safe_load(GITHUB), yaml.safe_load(GITLAB)
    assert github["jobs"]["publish"]["needs"] == "audit"
    assert gitlab["publish"]["needs"] == ["audit"]
    scripts = [step.get("run", "") for step in github["jobs"]["audit"]["steps"]], gitlab["audit"]["script"]
    for lines in scripts:
        (gate,) = [line for line in lines if "layerprint audit" in line]
        assert "--gate" in gate
        assert "||" not in gate
    assert not any(step.get("continue-on-error") for step in github["jobs"]["audit"]["steps"])
    assert "allow_failure" not in GITLAB
