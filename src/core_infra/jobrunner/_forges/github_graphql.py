"""GraphQL queries and mutations for GitHub, and the parts of their answers that are used."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from core_infra.jobrunner._forges.errors import ForgeAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable

_REPOSITORY = "repository(owner: $owner, name: $name)"
_PULL = f"{_REPOSITORY} {{ pullRequest(number: $number)"
_ARGUMENTS = "$owner: String!, $name: String!"

ISSUE = "number title body state assignees(first: 1) { nodes { login } }"
PULL = """number mergeable
commits(last: 1) { nodes { commit { committedDate statusCheckRollup { state } } } }
reviewThreads(first: 100) { totalCount nodes { isResolved } }
reviews(last: 20) { nodes { submittedAt } }"""
MERGING = f"""query Merging({_ARGUMENTS}, $number: Int!) {{ {_PULL} {{
id isDraft merged mergeStateStatus autoMergeRequest {{ enabledAt }}
}} }} }}"""
THREADS = f"""query Threads({_ARGUMENTS}, $number: Int!, $after: String) {{ {_PULL} {{
reviewThreads(first: 100, after: $after) {{
nodes {{ id isResolved }} pageInfo {{ hasNextPage endCursor }}
}}
}} }} }}"""
ENABLE_AUTO_MERGE = """mutation EnableAutoMerge($id: ID!, $sha: GitObjectID!) {
enablePullRequestAutoMerge(
input: {pullRequestId: $id, mergeMethod: SQUASH, expectedHeadOid: $sha}
) { clientMutationId }
}"""
PUBLISH = """mutation Publish($id: ID!) {
markPullRequestReadyForReview(input: {pullRequestId: $id}) { clientMutationId }
}"""
RESOLVE = """mutation Resolve($id: ID!) {
resolveReviewThread(input: {threadId: $id}) { clientMutationId }
}"""


def several(field: str, fields: str, numbers: Iterable[int]) -> str:
    """A query for several issues or pull requests at once."""
    each = "\n".join(f"n{number}: {field}(number: {number}) {{ {fields} }}" for number in numbers)
    return f"query Several({_ARGUMENTS}) {{ {_REPOSITORY} {{\n{each}\n}} }}"


class Model(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


N = TypeVar("N")
T = TypeVar("T", bound=Model)


class Nodes(Model, Generic[N]):
    """A list as GraphQL has it."""

    nodes: list[N]


class User(Model):
    """The user that an issue is assigned to."""

    login: str


class Issue(Model):
    """The answer to :data:`ISSUE`."""

    number: int
    title: str
    body: str
    state: str
    assignees: Nodes[User]


class Rollup(Model):
    """The combined state of all checks."""

    state: str


class Commit(Model):
    """The head of a pull request."""

    committed_date: datetime
    status_check_rollup: Rollup | None


class PullCommit(Model):
    """A commit of a pull request."""

    commit: Commit


class Thread(Model):
    """A conversation."""

    id: str = ""
    is_resolved: bool


class ThreadCount(Nodes[Thread]):
    """Conversations, and how many there are."""

    total_count: int


class Review(Model):
    """The time of a review."""

    submitted_at: datetime | None


class Pull(Model):
    """The answer to :data:`PULL`."""

    number: int
    mergeable: Literal["MERGEABLE", "CONFLICTING", "UNKNOWN"]
    commits: Nodes[PullCommit]
    review_threads: ThreadCount
    reviews: Nodes[Review]


class AutoMerge(Model):
    """When auto-merge was enabled."""

    enabled_at: datetime | None


class Merging(Model):
    """The answer to :data:`MERGING`."""

    id: str
    is_draft: bool
    merged: bool
    merge_state_status: str
    auto_merge_request: AutoMerge | None


class Page(Model):
    """Whether there are more pages."""

    has_next_page: bool
    end_cursor: str | None


class ThreadPage(Nodes[Thread]):
    """Conversations, page by page."""

    page_info: Page


class Threads(Model):
    """The answer to :data:`THREADS`."""

    review_threads: ThreadPage


def parsed(kind: type[T], found: object) -> T:
    """Read an answer.

    Raises:
        ForgeAnswerError: it is not valid.
    """
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ForgeAnswerError(
            f"GitHub's answer is not a valid {kind.__name__}", why=f"{where}: {first['msg']}"
        ) from None
