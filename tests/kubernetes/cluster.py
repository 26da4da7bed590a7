# SPDX-License-Identifier: Apache-2.0
"""The cluster that tests use, and what they ask of it with kubectl.

``QINLING_EXEC_TEST_CLUSTER`` names a folder with a program ``up`` that starts a one-node cluster
(``up --env`` prints ``export KUBECONFIG=…``) and a program ``image`` that gives it images; the
default is ``../shared/cluster`` beside the checkout, where there is one. Else ``KUBECONFIG`` is
taken, with ``QINLING_EXEC_TEST_RUNTIME_IMAGE``: an image of the Python runtime that its nodes can
have. The tests must reach pods by their addresses.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import secrets
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

_CHECKOUT = pathlib.Path(__file__).parents[2]


class NoCluster(Exception):
    """There is no cluster to test on; the text says what to do."""


@dataclass
class Cluster:
    """A cluster.

    :param environment: what programs need to reach it.
    :param folder: of the programs ``up`` and ``image``, if it was started by them.
    """

    environment: dict[str, str]
    folder: pathlib.Path | None = None
    _images: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The address at which pods reach this machine; empty when it is not known."""
        return self.environment.get("CLUSTER_HOST_IP", "")

    @property
    def programs(self) -> pathlib.Path:
        """The folder where a cluster that was started here has its programs."""
        return pathlib.Path(self.environment["KUBECONFIG"]).parent / "bin"

    def start(self) -> None:
        """Start again what does not run."""
        assert self.folder is not None
        _up(self.folder)

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True,
                seconds: float = 60) -> str:
        """Run kubectl; return what it prints."""
        program = shutil.which("kubectl") or str(self.programs / "kubectl")
        done = subprocess.run([program, *arguments], input=given, capture_output=True, text=True,
                              timeout=seconds, env={**os.environ, **self.environment})
        if check and done.returncode:
            raise AssertionError(f"kubectl {shlex.join(arguments)}: {done.stderr.strip()}")
        return done.stdout if check else done.stdout + done.stderr

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return objects as they are."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def apply(self, *objects: dict[str, Any], namespace: str | None = None) -> None:
        """Create or change objects."""
        where = ["-n", namespace] if namespace else []
        self.kubectl("apply", *where, "-f", "-",
                     given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def make_namespace(self, prefix: str = "qx") -> str:
        """Make a namespace in which only pods that pass ``restricted`` may run."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
        return name

    def delete_namespace(self, name: str) -> None:
        """Delete a namespace with all that is in it; wait until it is gone."""
        self.kubectl("-n", name, "delete", "pods", "--all", "--grace-period=0", "--force",
                     "--wait=false", check=False)
        self.kubectl("delete", "namespace", name, "--timeout=60s", seconds=90)

    def image(self, what: str, *sources: str) -> str:
        """Return the name of an image that ``tools/build-image`` makes, built if need be.

        :param sources: files and folders whose content the image depends on.
        """
        if what not in self._images:
            self._images[what] = self._build(what, sources)
        return self._images[what]

    def python_image(self) -> str:
        """Return the name of an image that is this machine's Python: its arguments are Python's.

        It says nothing of a user, as most images.
        """
        if given := os.environ.get("QINLING_EXEC_TEST_PYTHON_IMAGE"):
            return given
        if self.folder is None:
            raise NoCluster("QINLING_EXEC_TEST_PYTHON_IMAGE names no image with Python as its"
                            " entry point.")
        name = f"node.local/qinling-exec-test-python:{sys.version_info.major}"
        if not self._has(name):
            self.build_program(name, "python3")
        return name

    def build_program(self, name: str, *entry: str) -> None:
        """Give the cluster an image with this machine's Python that starts a program."""
        self._run([f"{self.folder}/image", name, "--python", "--entrypoint", json.dumps(entry)])

    def _has(self, image: str) -> bool:
        """Tell whether all nodes have an image."""
        return all(any(image in (found.get("names") or ()) for found in node["status"]["images"])
                   for node in self.get("nodes")["items"])

    def _build(self, what: str, sources: tuple[str, ...]) -> str:
        variable = {"python3": "RUNTIME"}.get(what, what.upper())
        if given := os.environ.get(f"QINLING_EXEC_TEST_{variable}_IMAGE"):
            return given
        if self.folder is None:
            raise NoCluster(f"No image {what} can be given to this cluster.")
        name = f"node.local/qinling-exec-{what}:{_digest(*sources, 'tools/build-image')}"
        if not self._has(name):
            self.build(what, name)
        return name

    def build(self, what: str, name: str, options: str = "") -> None:
        """Give the cluster an image that ``tools/build-image`` makes.

        :param options: more of the options of the program ``image``.
        """
        self._run([f"{_CHECKOUT}/tools/build-image", what, name],
                  QINLING_EXEC_IMAGE_BUILDER="command",
                  QINLING_EXEC_IMAGE_COMMAND=f"{self.folder}/image",
                  QINLING_EXEC_IMAGE_OPTIONS=options)

    def _run(self, command: list[str], **environment: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600,
                              env={**os.environ, **self.environment, **environment})
        assert done.returncode == 0, done.stderr


def find() -> Cluster:
    """Return the cluster to test on, started if need be.

    :raises NoCluster: there is none.
    """
    chosen = os.environ.get("QINLING_EXEC_TEST_CLUSTER")
    folder = pathlib.Path(chosen) if chosen else _CHECKOUT.parent / "shared" / "cluster"
    if (folder / "up").exists():
        return Cluster(_up(folder), folder)
    if chosen:
        raise NoCluster(f"QINLING_EXEC_TEST_CLUSTER: there is no program {folder}/up.")
    if os.environ.get("KUBECONFIG") and os.environ.get("QINLING_EXEC_TEST_RUNTIME_IMAGE"):
        return Cluster({"KUBECONFIG": os.environ["KUBECONFIG"]})
    raise NoCluster("There is no cluster: QINLING_EXEC_TEST_CLUSTER names a folder with `up`, or"
                    " KUBECONFIG a cluster and QINLING_EXEC_TEST_RUNTIME_IMAGE an image on it.")


def _up(folder: pathlib.Path) -> dict[str, str]:
    done = subprocess.run([str(folder / "up"), "--env"], capture_output=True, text=True,
                          timeout=300)
    if done.returncode:
        raise NoCluster(f"{folder}/up does not start a cluster: {done.stderr[-500:]}")
    words = shlex.split(done.stdout.replace("export ", ""))
    return dict(word.split("=", 1) for word in words)


def _digest(*sources: str) -> str:
    """Return what tells one content of files and folders of the checkout from another."""
    found = hashlib.sha256()
    for source in sources:
        path = _CHECKOUT / source
        files = [path] if path.is_file() else sorted(
            file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc")
        for file in files:
            found.update(f"{file.relative_to(_CHECKOUT)}\0".encode() + file.read_bytes())
    return found.hexdigest()[:12]
