# SPDX-License-Identifier: Apache-2.0
"""The functional tests against a deployment that is there already, by the name of its cloud."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.functional.client import Api
from tests.functional.deployment import ROOT
from tests.functional.keystone.deployed import Deployed
from tests.functional.keystone.server import Keystone

#: With something for each kind of object and each reason; all of them take minutes.
FILES = [f"tests/functional/test_{name}.py" for name in
         ("attempts", "cancel", "execution_logs", "executions", "tenants")]
SOME = "not racing and not while_it_runs and not over_its_limit and not clean_refusal"


@pytest.fixture(scope="module")
def mine(keystone: Keystone, deployed: Deployed) -> Iterator[Api]:
    """Somebody of the project that the tests run in, with objects of its own there."""
    keystone.user("suite", "suite", "admin")
    caller = deployed.api(token=keystone.token("suite", "suite"))
    function = caller.function()
    caller.run(function)
    caller.ok("POST", "/v1/aliases", 201, json={"name": "kept", "function_id": function})
    yield caller
    caller.close()


def objects(caller: Api) -> dict[str, list[dict[str, Any]]]:
    """Return all that the project has, and all runtimes."""
    kinds = ("aliases", "executions", "functions", "runtimes")
    return {kind: next(iter(caller.ok("GET", f"/v1/{kind}?limit=1000").values()))
            for kind in kinds}


def suite(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the functional tests as somebody does who has nothing but a clouds.yaml."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("OS_", "QINLING_EXEC_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *FILES,
         *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**environment, "OS_CLIENT_CONFIG_FILE": str(folder / "clouds.yaml")})


@pytest.fixture
def clouds(keystone: Keystone, tmp_path: Path) -> Path:
    """Return a folder with the clouds.yaml of somebody of the project."""
    told = keystone.environment("suite", "suite")
    names = {name.removeprefix("OS_").lower(): value for name, value in told.items()}
    cloud = {"region_name": names.pop("region_name"),
             "identity_api_version": names.pop("identity_api_version"), "auth": names}
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"tests": cloud}}))
    return tmp_path


def test_the_suite_by_cloud_name(mine: Api, clouds: Path) -> None:
    """Found in the catalogue; what the project had stays, and nothing more is there after it."""
    before = objects(mine)
    done = suite(clouds, "--os-cloud", "tests", "-k", SOME)
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r"^(\d+) passed(?:, \d+ deselected)? in ", done.stdout, re.M)
    assert passed and int(passed[1]) >= 40, done.stdout[-3000:]
    for reason in ("they start, stop or configure a service of their own",
                   "they look at the service's processes, files, log or socket",
                   "their functions have to reach the machine of the tests",
                   "their callers are made up of headers, which Keystone does not believe"):
        assert re.search(rf"^\d+ tests are not for a deployment .*: {reason}", done.stdout, re.M)
    assert objects(mine) == before


@pytest.mark.parametrize(("arguments", "told"), [
    (["--os-cloud", "nowhere"], "nowhere"), (["--deployment", "{url}"], "401"),
])
def test_what_it_can_not_call_fails(deployed: Deployed, mine: Api, clouds: Path,
                                    arguments: list[str], told: str) -> None:
    """A cloud that nobody has named, a token that is missing: nothing is skipped in silence."""
    given = [argument.format(url=deployed.url) for argument in arguments]
    done = suite(clouds, *given, "-x", "-k", "sync_run_has_ended")
    assert done.returncode == 1
    assert told in done.stdout
