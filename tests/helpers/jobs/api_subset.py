"""Makes fixtures/api: the part of the forges' published descriptions that our clients use.

Run: python tests/helpers/jobs/api_subset.py NODE_MODULES FORGEJO_SWAGGER

NODE_MODULES has @octokit/openapi, @octokit/graphql-schema and @octokit/webhooks-examples (MIT);
FORGEJO_SWAGGER is what a Forgejo server has at /swagger.v1.json (MIT, as it says). Needs: pip
install graphql-core
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import graphql

from core_infra.jobrunner._forges import github_graphql as queries

OUT = Path(__file__).parents[3] / "fixtures" / "api"
REPO = "/repos/{owner}/{repo}"
GITHUB = {
    "/orgs/{org}/repos": ["get"],
    "/users/{username}/repos": ["get"],
    REPO: ["get"],
    f"{REPO}/branches/{{branch}}": ["get"],
    f"{REPO}/issues": ["get"],
    f"{REPO}/issues/{{issue_number}}": ["get", "patch"],
    f"{REPO}/issues/{{issue_number}}/comments": ["get", "post"],
    f"{REPO}/issues/{{issue_number}}/labels": ["post"],
    f"{REPO}/issues/{{issue_number}}/labels/{{name}}": ["delete"],
    f"{REPO}/issues/{{issue_number}}/sub_issues": ["get"],
    f"{REPO}/issues/comments/{{comment_id}}": ["patch"],
    f"{REPO}/pulls/{{pull_number}}/merge": ["put"],
    f"{REPO}/pulls/{{pull_number}}/update-branch": ["put"],
}
FORGEJO = {
    "/orgs/{org}/repos": ["get"],
    "/users/{username}/repos": ["get"],
    REPO: ["get"],
    f"{REPO}/branch_protections/{{name}}": ["get"],
    f"{REPO}/issues": ["get"],
    f"{REPO}/issues/{{index}}": ["get", "patch"],
    f"{REPO}/issues/{{index}}/comments": ["get", "post"],
    f"{REPO}/issues/{{index}}/labels": ["post"],
    f"{REPO}/issues/{{index}}/labels/{{id}}": ["delete"],
    f"{REPO}/labels": ["get", "post"],
    f"{REPO}/issues/comments/{{id}}": ["patch"],
    f"{REPO}/pulls": ["get"],
    f"{REPO}/pulls/{{index}}": ["get", "patch"],
    f"{REPO}/pulls/{{index}}/merge": ["post"],
    f"{REPO}/pulls/{{index}}/reviews": ["get"],
    f"{REPO}/pulls/{{index}}/reviews/{{id}}/dismissals": ["post"],
    f"{REPO}/commits/{{ref}}/status": ["get"],
    f"{REPO}/git/commits/{{sha}}": ["get"],
}
GITHUB_RELEASES = {
    f"{REPO}/commits/{{ref}}": ["get"],
    f"{REPO}/releases": ["get", "post"],
    f"{REPO}/releases/{{release_id}}": ["get", "patch"],
    f"{REPO}/releases/{{release_id}}/assets": ["get", "post"],
    f"{REPO}/releases/assets/{{asset_id}}": ["delete"],
}
FORGEJO_RELEASES = {
    f"{REPO}/tags/{{tag}}": ["get"],
    f"{REPO}/releases": ["get", "post"],
    f"{REPO}/releases/{{id}}": ["get", "patch"],
    f"{REPO}/releases/{{id}}/assets": ["get", "post"],
    f"{REPO}/releases/{{id}}/assets/{{attachment_id}}": ["delete"],
}
QUERIES = [
    queries.several("issue", queries.ISSUE, [1]),
    queries.several("pullRequest", queries.PULL, [1], queries.NEWEST),
    queries.several("pullRequest", f"{queries.HEAD} {queries.PULL}", [1]),
    *(queries.MERGING, queries.THREADS, queries.CONTEXTS, queries.REVIEWS, queries.ENQUEUE),
    *(queries.CLOSING, queries.EDITS),
    *(queries.PUBLISH, queries.RESOLVE),
]
KEPT = {
    *("type", "properties", "required", "items", "enum", "format", "additionalProperties"),
    *("allOf", "anyOf", "oneOf", "minimum", "maximum", "pattern", "minItems", "$ref", "nullable"),
}


class Subset:
    """Collects operations and what they refer to."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.definitions: dict[str, Any] = {}

    def resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        found: Any = node
        while "$ref" in found:
            target: Any = self.document
            for part in found["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            found = target
        return dict(found)

    def schema(self, node: Any) -> Any:  # noqa: C901
        """A schema as JSON Schema has it, without what only people read."""
        if isinstance(node, list):
            return [self.schema(one) for one in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if name not in self.definitions:
                self.definitions[name] = None  # it may refer to itself
                self.definitions[name] = self.schema(self.resolve(node))
            return {"$ref": f"#/definitions/{name}"}
        out: dict[str, Any] = {}
        for key, value in node.items():
            if key == "properties":
                out[key] = {name: self.schema(one) for name, one in value.items()}
            elif key in {"required", "enum", "type"}:
                out[key] = value
            elif key in KEPT:
                out[key] = self.schema(value)
        if out.pop("nullable", False):
            if "type" in out:
                out["type"] = [out["type"], "null"]
                if "enum" in out:
                    out["enum"] = [*out["enum"], None]
            else:
                out = {"anyOf": [out, {"type": "null"}]}
        return out

    def operation(self, path: str, method: str) -> dict[str, Any]:
        item = self.document["paths"][path]
        found = item[method]
        query, body = {}, None
        for raw in [*item.get("parameters", []), *found.get("parameters", [])]:
            parameter = self.resolve(raw)
            if parameter["in"] == "query":
                query[parameter["name"]] = self.schema(parameter.get("schema", parameter))
            elif parameter["in"] == "body":
                body = self.schema(parameter["schema"])
            elif parameter["in"] == "formData":
                body = {}  # a file
        if request := found.get("requestBody"):
            content = self.resolve(request)["content"]
            body = self.schema(content.get("application/json", {}).get("schema", {}))
        return {"query": query, "body": body, "responses": self.responses(found)}

    def responses(self, found: dict[str, Any]) -> dict[str, Any]:
        out = {}
        for status, raw in found["responses"].items():
            if not status.startswith("2"):
                continue
            response = self.resolve(raw)
            schema = response.get("schema")
            if content := response.get("content"):
                schema = content["application/json"]["schema"]
            out[status] = schema and self.schema(schema)
        return out


def rest(document: dict[str, Any], paths: dict[str, list[str]], source: str) -> dict[str, Any]:
    subset = Subset(document)
    operations = {
        f"{method.upper()} {path}": subset.operation(path, method)
        for path, methods in paths.items()
        for method in methods
    }
    return {
        "source": f"{source} {document['info']['version']}, MIT",
        "operations": operations,
        "definitions": dict(sorted(subset.definitions.items())),
    }


def graphql_subset(sdl: str) -> str:
    """The types, fields and arguments that our queries name."""
    schema = graphql.build_schema(sdl, assume_valid=True)
    fields: dict[str, set[str]] = {}
    arguments: dict[tuple[str, str], set[str]] = {}
    leaves: set[Any] = set()

    class Visitor(graphql.Visitor):
        def enter_field(self, node: graphql.FieldNode, *_: Any) -> None:
            parent, definition = info.get_parent_type(), info.get_field_def()
            assert parent is not None
            assert definition is not None
            fields.setdefault(parent.name, set())
            if node.name.value.startswith("__"):
                return
            fields[parent.name].add(node.name.value)
            used = arguments.setdefault((parent.name, node.name.value), set())
            used |= {argument.name.value for argument in node.arguments or ()}
            leaves.add(graphql.get_named_type(definition.type))
            for name in used:
                leaves.add(graphql.get_named_type(definition.args[name].type))

    info = graphql.TypeInfo(schema)
    for query in QUERIES:
        document = graphql.parse(query)
        problems = graphql.validate(schema, document)
        assert not problems, problems
        graphql.visit(document, graphql.TypeInfoVisitor(info, Visitor()))
    for name in list(fields):
        kind = schema.get_type(name)
        if graphql.is_interface_type(kind):
            for one in schema.get_possible_types(kind):
                fields.setdefault(one.name, set()).update(fields[name])
                for field in fields[name]:
                    arguments.setdefault((one.name, field), set()).update(arguments[name, field])
    return render(schema, fields, arguments, leaves)


def render(
    schema: graphql.GraphQLSchema,
    fields: dict[str, set[str]],
    arguments: dict[tuple[str, str], set[str]],
    leaves: set[Any],
) -> str:
    parts = ["# From @octokit/graphql-schema (MIT): what our queries use, and nothing else."]
    for name in sorted(fields):
        lines = []
        kind: Any = schema.get_type(name)
        if graphql.is_union_type(kind):
            members = " | ".join(one.name for one in kind.types if one.name in fields)
            parts.append(f"union {name} = {members}")
            continue
        for field in sorted(fields[name]):
            definition = kind.fields[field]
            used = [
                f"{argument}: {found.type}"
                for argument, found in definition.args.items()
                if argument in arguments[name, field] or graphql.is_required_argument(found)
            ]
            shown = f"({', '.join(used)})" if used else ""
            lines.append(f"  {field}{shown}: {definition.type}")
        word = "interface" if graphql.is_interface_type(kind) else "type"
        above = [one.name for one in kind.interfaces if one.name in fields]
        implements = f" implements {' & '.join(above)}" if above else ""
        parts.append("\n".join([f"{word} {name}{implements} {{", *lines, "}"]))
    todo = [kind for kind in leaves if not graphql.is_composite_type(kind)]
    done: set[str] = set()
    while todo:
        kind = todo.pop()
        if kind.name in done or graphql.is_specified_scalar_type(kind):
            continue
        done.add(kind.name)
        if graphql.is_input_object_type(kind):
            todo += [graphql.get_named_type(field.type) for field in kind.fields.values()]
        parts.append(graphql.print_type(without_descriptions(kind)))
    return "\n\n".join([parts[0], *sorted(parts[1:])]) + "\n"


def without_descriptions(kind: Any) -> Any:
    for member in [
        kind,
        *getattr(kind, "fields", {}).values(),
        *getattr(kind, "values", {}).values(),
    ]:
        member.description = None
    return kind


def payloads(examples: list[dict[str, Any]]) -> dict[str, Any]:
    """One real issue and one real pull request."""
    by_name = {one["name"]: one["examples"] for one in examples}
    issue = next(one["issue"] for one in by_name["issues"] if one["action"] == "opened")
    pull = next(one["pull_request"] for one in by_name["pull_request"] if one["action"] == "opened")
    return {"source": "@octokit/webhooks-examples, MIT", "issue": issue, "pull": pull}


def make(modules: Path, swagger: Path) -> dict[str, str]:
    octokit = modules / "@octokit"
    github = json.loads((octokit / "openapi/generated/api.github.com.json").read_text())
    examples = octokit / "webhooks-examples/api.github.com/index.json"
    forgejo = json.loads(swagger.read_text())
    made = {
        "github.json": rest(github, GITHUB, "@octokit/openapi"),
        "github-releases.json": rest(github, GITHUB_RELEASES, "@octokit/openapi"),
        "forgejo.json": rest(forgejo, FORGEJO, "Forgejo API"),
        "forgejo-releases.json": rest(forgejo, FORGEJO_RELEASES, "Forgejo API"),
        "github-payloads.json": payloads(json.loads(examples.read_text())),
    }
    files = {name: json.dumps(value, indent=1) + "\n" for name, value in made.items()}
    sdl = (octokit / "graphql-schema/schema.graphql").read_text()
    return {**files, "github.graphql": graphql_subset(sdl)}


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for name, text in make(Path(sys.argv[1]), Path(sys.argv[2])).items():
        (OUT / name).write_text(text)
