"""A check of answers against ``/openapi.json``, by route and status code."""

import json
import re
from collections.abc import Mapping
from typing import Any

import jsonschema

TRACEBACK = b"Traceback (most recent call last)"
PLAIN = {"/metrics": b"mlopsd_health_status{"}


class Shapes:
    """The promises of *description*, the document at ``/openapi.json``."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._description = description
        self._validators: dict[tuple[str, str, int], Any] = {}

    def fault(self, method: str, path: str, status: int, body: bytes) -> str | None:
        """Return what is wrong with the answer, or None."""
        if TRACEBACK in body:
            return f"a traceback in the body: {body[:300]!r}"
        answers = self._operation(method, path)["responses"]
        if str(status) not in answers:
            return f"status {status} is not promised: {body[:300]!r}"
        if (mark := PLAIN.get(path)) is not None:
            return None if mark in body and body.endswith(b"\n") else f"no whole page: {body[-80:]!r}"
        return self._shape_fault(method, path, status, body)

    def _shape_fault(self, method: str, path: str, status: int, body: bytes) -> str | None:
        validator = self._validator(method, path, status)
        if validator is None:
            return None
        try:
            document = json.loads(body)
        except ValueError:
            return f"no JSON: {body[:200]!r}"
        fault = next(iter(validator.iter_errors(document)), None)
        return None if fault is None else f"{fault.message[:200]} at {list(fault.absolute_path)}"

    def _validator(self, method: str, path: str, status: int) -> Any:
        key = (method, path, status)
        if key not in self._validators:
            content = self._operation(method, path)["responses"][str(status)].get("content", {})
            schema = next((media["schema"] for media in content.values() if "schema" in media), None)
            self._validators[key] = None if schema is None else self._made(schema)
        return self._validators[key]

    def _made(self, schema: Mapping[str, Any]) -> Any:
        whole = {**schema, "components": self._description["components"]}
        return jsonschema.Draft202012Validator(whole)

    def _operation(self, method: str, path: str) -> Any:
        paths = self._description["paths"]
        for template, operations in paths.items():
            if template == path and method.lower() in operations:
                return operations[method.lower()]
        for template, operations in paths.items():
            pattern = re.sub(r"\{[^}]+\}", "[^/]+", template)
            if re.fullmatch(pattern, path) and method.lower() in operations:
                return operations[method.lower()]
        raise KeyError(f"{method} {path} is not in the description")
