# SPDX-License-Identifier: Apache-2.0
"""Where this service answers otherwise than Qinling did, on purpose, and what is not replayed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

from tests.functional.client import result
from tests.functional.compat.recording import Exchange, read
from tests.functional.compat.replay import Reply


@dataclass(frozen=True)
class Intended:
    """An intended difference.

    :param statuses: what is answered now.
    :param text: regular expression that the faultstring of a refusal fits.
    :param topic: the reason, as doc/source/differences.rst names it.
    :param check: looks at a reply that is no refusal; the words it returns are what is wrong.
    :param bare: the refusal has a faultstring only, as Qinling's of this call.
    """

    status: int
    text: str
    topic: str
    check: Callable[[Exchange, Reply], str] | None = None
    bare: bool = False


# The reasons; doc/source/differences.rst has each of them word by word.
JSON_ONLY = "Replies are JSON only"
CLEAN = "Refusals in plain words"
INPUT_FAULTS = "Input that ended in a 500"
NONSENSE = "Nonsense that was accepted"
UNKNOWN_FIELD = "Unknown form fields"
DOWNLOAD = "A download is always the zip"
CODE_ALONE = "A checksum without its package"
ANY_INPUT = "Input of any kind"
IMAGES = "Functions made of an image"
PAGES = "Lists come in pages"
FLAGS = "Flags that are no booleans"
RUNTIME_ID = "The runtime's own id"
CHUNKED = "Chunked request bodies"
RUNNING_LOG = "The log of a running execution"
STORABLE = "Results with a NUL character"
FAILURE_TEXT = "The text of a failure"


def _zip(exchange: Exchange, reply: Reply) -> str:
    if reply.headers.get("content-type") != "application/zip":
        return f"content type {reply.headers.get('content-type')}"
    if "attachment; filename=" not in reply.headers.get("content-disposition", ""):
        return "no Content-Disposition"
    return zipfile.ZipFile(io.BytesIO(reply.body)).testzip() or ""


def _output(expected: object, status: str = "success") -> Callable[[Exchange, Reply], str]:
    def check(exchange: Exchange, reply: Reply) -> str:
        execution = reply.json
        if execution["status"] != status or result(execution).get("output") != expected:
            return f"{execution['status']} {execution['result']}"
        return ""

    return check


def _one_row_and_more(exchange: Exchange, reply: Reply) -> str:
    rows = reply.json["executions"]
    return "" if len(rows) == 1 and "marker=" in reply.json.get("next", "") else reply.text[:500]


def _empty_or_begun_log(exchange: Exchange, reply: Reply) -> str:
    kind = reply.headers.get("content-type", "").partition(";")[0]
    return "" if kind == "text/plain" and b"Finished" not in reply.body else reply.text[:500]


def _upgraded(exchange: Exchange, reply: Reply) -> str:
    return "" if reply.json["image"] == "i2" else reply.text[:500]


def _input_kept(text: str) -> Callable[[Exchange, Reply], str]:
    def check(exchange: Exchange, reply: Reply) -> str:
        wrong = _output(f"Hello, {text}")(exchange, reply)
        return wrong or ("" if reply.json["input"] == text else f"input {reply.json['input']!r}")

    return check


_FIELD = "Invalid input for field/attribute "
_NOT_FOR_EVERY_ACCEPT = Intended(406, "", JSON_ONLY)


def _text_required(field: str, value: str) -> Intended:
    return Intended(400, rf"^{_FIELD}{field}\. Value: '{value}'\. .*[Ss]tring", CLEAN)


def _number_required(field: str) -> Intended:
    return Intended(400, rf"^{_FIELD}{field}\. Value: '.*x.*'\. .*(integer|whole number)", CLEAN)


INTENDED: dict[str, Intended] = {
    "runtime.show.xml": _NOT_FOR_EVERY_ACCEPT,
    "execution.create.accept.xml": _NOT_FOR_EVERY_ACCEPT,
    "execution.create.accept.error.xml": _NOT_FOR_EVERY_ACCEPT,
    "execution.show.xml": _NOT_FOR_EVERY_ACCEPT,
    "runtime.create.image.null": Intended(400, "image", INPUT_FAULTS),
    "runtime.create.image.empty": Intended(400, "image", NONSENSE),
    "runtime.create.name256": Intended(400, f"^{_FIELD}name.*255", INPUT_FAULTS),
    "function.create.code.list": Intended(400, "code", INPUT_FAULTS, bare=True),
    "function.create.code.string": Intended(400, "code", INPUT_FAULTS, bare=True),
    "function.create.packagefield": Intended(400, "package", INPUT_FAULTS, bare=True),
    "function.create.notzip": Intended(400, r"^Package is not a valid ZIP package\.$",
                                       INPUT_FAULTS, bare=True),
    "function.create.md5mismatch": Intended(400, "(?i)md5|checksum", INPUT_FAULTS, bare=True),
    "function.create.name256": Intended(400, f"^{_FIELD}name.*255", INPUT_FAULTS, bare=True),
    "function.create.entry81": Intended(400, f"^{_FIELD}entry.*80", INPUT_FAULTS, bare=True),
    "function.create.unknownfield": Intended(400, 'Unknown argument: "nope"', UNKNOWN_FIELD,
                                             bare=True),
    "function.list.all_projects.bad": Intended(400, f"^{_FIELD}all_projects", FLAGS),
    "function.download": Intended(200, "", DOWNLOAD, _zip),
    "version.download": Intended(200, "", DOWNLOAD, _zip),
    "function.update.runtime_id": Intended(400, "runtime_id", UNKNOWN_FIELD, bare=True),
    "function.update.code.codeonly": Intended(400, "package", CODE_ALONE, bare=True),
    "function.download.after.codeonly": Intended(200, "", CODE_ALONE, _zip),
    "function.workers.version.bad": _number_required("function_version"),
    "function.scale_up.string": _number_required("(count|scale)"),
    "function.scale_up.nocount": Intended(400, "count", INPUT_FAULTS),
    "version.scale_up.nonint": _number_required("version"),
    "version.delete.nonint": _number_required("version"),
    "runtime.update.image.inuse": Intended(403, "^Runtime [0-9a-f-]{36} is still in use by"
                                                r" functions\.$", RUNTIME_ID),
    "runtime.update.image.withfunction": Intended(200, "", RUNTIME_ID, _upgraded),
    "alias.create.name256": Intended(400, f"^{_FIELD}name.*255", INPUT_FAULTS),
    "alias.update.conflict": Intended(400, "^Duplicate entry for function_aliases", INPUT_FAULTS),
    "execution.create.version.bool": Intended(400, f"^{_FIELD}function_version", NONSENSE),
    "execution.create.image.input": Intended(400, "Kubernetes", IMAGES),
    "execution.create.function.fails": Intended(
        201, "", FAILURE_TEXT, _output("RuntimeError: boom", "failed")),
    "execution.create.worker.http500.fail": Intended(
        201, "", FAILURE_TEXT, _output("RuntimeError: boom", "failed")),
    "execution.create.output.nul": Intended(201, "", STORABLE, _output("nul \0")),
    "execution.create.input.json.float": Intended(201, "", ANY_INPUT, _input_kept("1.5")),
    "execution.create.input.json.true": Intended(201, "", ANY_INPUT, _input_kept("true")),
    "execution.create.input.json.emptylist": Intended(201, "", ANY_INPUT, _input_kept("[]")),
    "execution.create.input.function_input.obj": Intended(
        400, rf"^{_FIELD}input\..*[Ss]tring", CLEAN),
    "execution.create.inputtype.object": _text_required("input", r"\{.*a.*1\}"),
    "execution.create.inputtype.list": _text_required("input", r"\[1\]"),
    "execution.create.inputtype.float": _text_required("input", r"1\.5"),
    "execution.create.description.int": _text_required("description", "5"),
    "execution.create.list": Intended(400, "(?i)object", INPUT_FAULTS),
    "execution.create.null": Intended(400, "(?i)object|Missing argument", INPUT_FAULTS),
    "execution.create.chunked": Intended(201, "", CHUNKED, _output("Hello, World")),
    "execution.log.running.any": Intended(200, "", RUNNING_LOG, _empty_or_begun_log),
    "execution.list.limit": Intended(200, "", PAGES, _one_row_and_more),
    "execution.list.status.nul": Intended(400, f"^{_FIELD}status.*NUL", CLEAN),
    "execution.list.all_projects.bad": Intended(400, f"^{_FIELD}all_projects", FLAGS),
}

# Rows of recorded lists which calls made that are refused now: (list, field, value).
REFUSED_ROWS = {
    "runtime.list": ("runtimes", "image", ""),
    "runtime.list.slash": ("runtimes", "image", ""),
    "alias.list": ("function_aliases", "name", "neg"),
}


_WEBHOOKS = "webhooks are not there yet"
_JOBS = "jobs are not there yet"
_WORKER = "needs a worker that answers something which no worker of ours does"

SKIPPED: dict[str, str] = {
    **{exchange.name: _WEBHOOKS for exchange in read() if exchange.name.startswith("webhook.")},
    **{exchange.name: _JOBS for exchange in read() if exchange.name.startswith("job.")},
    "function.delete.webhook": _WEBHOOKS,
    "version.delete.webhook": _WEBHOOKS,
    "function.update.job": _JOBS,
    "version.delete.job": _JOBS,
    "execution.create.worker.notjson": _WORKER,
    "execution.create.worker.notjson500": _WORKER,
    "execution.create.worker.reset": _WORKER,
    "execution.create.swiftless": "functions from an object store are refused when they are made",
}
