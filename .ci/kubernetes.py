"""Hold deploy/kubernetes against Kubernetes' published schemas, the GPU overlay merged as kustomize does it.

    .ci/kubernetes.py [CRD.yaml …]

The resources of operators are checked too where their CustomResourceDefinitions are given; docs/kubernetes.md says
against which they were.
"""

import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

FOLDER = Path(__file__).resolve().parents[1] / "deploy/kubernetes"
# Of operators; Kubernetes' own schemas do not have them.
FOREIGN = {"Kustomization", "ServiceMonitor", "InferenceService"}


def documents(folder: str) -> dict[tuple[str, str], Any]:
    """(kind, name) → object, of every file of a folder."""
    found = {}
    for path in sorted((FOLDER / folder).glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            found[document["kind"], document.get("metadata", {}).get("name", "")] = document
    return found


def merged(base: Any, patch: Any) -> Any:
    """A strategic merge: objects by key, lists of named objects by name, everything else replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: merged(base[key], value) if key in base else value for key, value in patch.items()}
    named = isinstance(base, list) and isinstance(patch, list) and all("name" in item for item in (*base, *patch))
    if named and all(isinstance(item, dict) for item in (*base, *patch)):
        names = {item["name"]: item for item in base}
        return list((names | {item["name"]: merged(names.get(item["name"], {}), item) for item in patch}).values())
    return patch


def resources() -> list[Any]:
    """Every object that is applied: the base, the base under the GPU overlay, the tools, KServe's."""
    base, gpu = documents("base"), documents("gpu")
    patches = {key: patch for key, patch in gpu.items() if key[0] != "Kustomization"}
    if missing := patches.keys() - base.keys():
        sys.exit(f"the GPU overlay changes what the base does not have: {missing}")
    overlaid = [merged(base[key], patch) for key, patch in patches.items()]
    return [*base.values(), *overlaid, *documents("tools").values(), *documents("kserve").values()]


def strict(schema: Any) -> Any:
    """A schema of a CustomResourceDefinition that refuses unknown fields, which Kubernetes would drop in silence."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(part) for key, part in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def foreign_schemas(paths: list[str]) -> dict[tuple[str, str], Any]:
    """(apiVersion, kind) → strict schema, of files of CustomResourceDefinitions."""
    found = {}
    for path in paths:
        for definition in yaml.safe_load_all(Path(path).read_text()):
            group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
            for version in definition["spec"]["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                found[f"{group}/{version['name']}", kind] = schema
    return found


def foreign_error(resource: Any, schema: Any) -> str:
    """What is wrong with a resource of an operator; empty if nothing is."""
    error = next(jsonschema.Draft7Validator(schema).iter_errors(resource), None)
    return "" if error is None else f"{'/'.join(map(str, error.path))}: {error.message}"


if __name__ == "__main__":
    schemas = foreign_schemas(sys.argv[1:])
    for resource in resources():
        schema = schemas.pop((resource.get("apiVersion"), resource["kind"]), None)
        if schema and (wrong := foreign_error(resource, schema)):
            sys.exit(f"{resource['kind']} {resource['metadata']['name']}: {wrong}")
        if schema:
            print(f"{resource['kind']} {resource['metadata']['name']} is valid")
    version = kubernetes_validate.latest_version()
    checked = [resource for resource in resources() if resource["kind"] not in FOREIGN]
    for resource in checked:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = "/".join(map(str, error.path))
            sys.exit(f"{resource['kind']} {resource['metadata']['name']}: {where}: {error.message}")
    print(f"{len(checked)} Kubernetes objects are valid (Kubernetes {version})")
