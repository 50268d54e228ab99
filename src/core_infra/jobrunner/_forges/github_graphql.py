"""GraphQL queries and mutations for GitHub, and the parts of their answers that are used."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from core_infra.jobrunner._forges.errors import ForgeAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterable

_REPOSITORY = "repository(owner: $owner, name: $name)"
_PULL = f"{_REPOSITORY} {{ pullRequest(number: $number)"
_ARGUMENTS = "$owner: String!, $name: String!"

_PAGE = "pageInfo { hasNextPage endCursor }"
_CONTEXTS = f"""nodes {{ __typename
... on CheckRun {{ name status conclusion
checkSuite {{ createdAt app {{ slug }} workflowRun {{ event workflow {{ name }} }} }} }}
... on StatusContext {{ context state }}
}} {_PAGE}"""
_REVIEWS = """nodes { state submittedAt authorCanPushToRepository author { login } }
pageInfo { hasPreviousPage startCursor }"""
HEAD = """number title body state isDraft headRefOid mergeable author { __typename login }
baseRefName isCrossRepository
repository { nameWithOwner defaultBranchRef { name } } labels(first: 100) { nodes { name } }"""
_CLOSING = "closedByPullRequestsReferences(first: 10, includeClosedPrs: true"
ISSUE = f"""number title body state assignees(first: 1) {{ nodes {{ login }} }}
labels(first: 100) {{ nodes {{ name }} }} repository {{ nameWithOwner }}
{_CLOSING}) {{ nodes {{ {HEAD} }} {_PAGE} }}"""
CLOSING = f"""query Closing({_ARGUMENTS}, $number: Int!, $after: String) {{ {_REPOSITORY} {{
issue(number: $number) {{ {_CLOSING}, after: $after) {{ nodes {{ {HEAD} }} {_PAGE} }} }}
}} }}"""
PULL = f"""number mergeable
commits(last: 1) {{ nodes {{ commit {{ oid committedDate
statusCheckRollup {{ state contexts(first: 100) {{ {_CONTEXTS} }} }} }} }} }}
reviewThreads(first: 100) {{ totalCount nodes {{ id isResolved isOutdated }} {_PAGE} }}
reviews(last: 100) {{ {_REVIEWS} }}"""
EDITS = f"""query Edits({_ARGUMENTS}, $number: Int!) {{ {_REPOSITORY} {{
issue(number: $number) {{ userContentEdits(first: 100) {{ nodes {{ editedAt diff }} }} }}
}} }}"""
MERGING = f"""query Merging({_ARGUMENTS}, $number: Int!) {{ {_PULL} {{
id isDraft merged mergeStateStatus mergeQueueEntry {{ id }}
}} }} }}"""
THREADS = f"""query Threads({_ARGUMENTS}, $number: Int!, $after: String) {{ {_PULL} {{
reviewThreads(first: 100, after: $after) {{
totalCount nodes {{ id isResolved isOutdated }} {_PAGE}
}}
}} }} }}"""
CONTEXTS = f"""query Contexts({_ARGUMENTS}, $number: Int!, $after: String) {{ {_PULL} {{
commits(last: 1) {{ nodes {{ commit {{ oid committedDate
statusCheckRollup {{ state contexts(first: 100, after: $after) {{ {_CONTEXTS} }} }} }} }} }}
}} }} }}"""
REVIEWS = f"""query Reviews({_ARGUMENTS}, $number: Int!, $before: String) {{ {_PULL} {{
reviews(last: 100, before: $before) {{ {_REVIEWS} }}
}} }} }}"""
ENQUEUE = """mutation Enqueue($id: ID!, $sha: GitObjectID!) {
enqueuePullRequest(input: {pullRequestId: $id, expectedHeadOid: $sha}) { clientMutationId }
}"""
PUBLISH = """mutation Publish($id: ID!) {
markPullRequestReadyForReview(input: {pullRequestId: $id}) { clientMutationId }
}"""
RESOLVE = """mutation Resolve($id: ID!) {
resolveReviewThread(input: {threadId: $id}) { clientMutationId }
}"""


_NEWEST = "first: 1, orderBy: {field: UPDATED_AT, direction: DESC}) { nodes { updatedAt } }"
NEWEST = f"newestIssue: issues({_NEWEST} newestPull: pullRequests({_NEWEST}"


def several(field: str, fields: str, numbers: Iterable[int], others: str = "") -> str:
    """A query for several issues or pull requests at once, and other fields of the repository."""
    each = "\n".join(f"n{number}: {field}(number: {number}) {{ {fields} }}" for number in numbers)
    return f"query Several({_ARGUMENTS}) {{ {_REPOSITORY} {{\n{others}\n{each}\n}} }}"


class Model(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


N = TypeVar("N")
T = TypeVar("T", bound=Model)


class Nodes(Model, Generic[N]):
    """A list as GraphQL has it: what may not be seen is null."""

    nodes: list[N | None] | None

    @property
    def each(self) -> list[N]:
        """Those that may be seen."""
        return [node for node in self.nodes or () if node is not None]


class Page(Model):
    """Whether there are more pages."""

    has_next_page: bool = False
    end_cursor: str | None = None
    has_previous_page: bool = False
    start_cursor: str | None = None


class Paged(Nodes[N], Generic[N]):
    """A page of a list."""

    page_info: Page


class User(Model):
    """A user; null if the account was deleted."""

    login: str
    kind: str = Field(default="", alias="__typename")

    @property
    def name(self) -> str:
        """The login, which of an app ends in ``[bot]``, as in REST and on GitHub's pages."""
        return f"{self.login}[bot]" if self.kind == "Bot" else self.login


class Label(Model):
    """A label."""

    name: str


class Branch(Model):
    """A branch."""

    name: str


class Name(Model):
    """The name of a repository: its present one, however it was asked for."""

    name_with_owner: str


class Repository(Model):
    """The repository of a pull request."""

    name_with_owner: str
    default_branch_ref: Branch | None


class Head(Model):
    """The answer to :data:`HEAD`."""

    number: int
    title: str
    body: str
    state: Literal["OPEN", "CLOSED", "MERGED"]
    is_draft: bool
    head_ref_oid: str
    mergeable: Literal["MERGEABLE", "CONFLICTING", "UNKNOWN"]
    author: User | None
    base_ref_name: str
    is_cross_repository: bool
    repository: Repository
    labels: Nodes[Label] | None


class Closing(Model):
    """The answer to :data:`CLOSING`."""

    closed_by_pull_requests_references: Paged[Head] | None


class Changed(Model):
    """When an issue or a pull request was last changed."""

    updated_at: str


class Newest(Model):
    """The answer to :data:`NEWEST`."""

    newest_issue: Nodes[Changed] | None = None
    newest_pull: Nodes[Changed] | None = None

    @property
    def at(self) -> str:
        """When anything was last changed; empty if there is nothing, or it is not known."""
        lists = [one.each for one in (self.newest_issue, self.newest_pull) if one is not None]
        return max((one.updated_at for some in lists for one in some), default="")


class Issue(Closing):
    """The answer to :data:`ISSUE`."""

    number: int
    title: str
    body: str
    state: str
    assignees: Nodes[User]
    labels: Nodes[Label] | None
    repository: Name


class Edit(Model):
    """A text as it was after an edit, for all that its field is called ``diff``."""

    edited_at: datetime
    diff: str | None


class Edits(Model):
    """The answer to :data:`EDITS`."""

    user_content_edits: Nodes[Edit] | None


class App(Model):
    """The app that has made a check."""

    slug: str


class Workflow(Model):
    """A workflow of GitHub Actions."""

    name: str


class WorkflowRun(Model):
    """A run of a workflow."""

    event: str
    workflow: Workflow


class CheckSuite(Model):
    """What an app checks of a commit at one time."""

    created_at: datetime
    app: App | None
    workflow_run: WorkflowRun | None


class Context(Model):
    """A check run, or the status that another program has set."""

    name: str = ""
    status: str = ""
    conclusion: str | None = None
    check_suite: CheckSuite | None = None
    context: str = ""
    state: str = ""

    @property
    def job(self) -> tuple[object, ...]:
        """What all runs of the same job have in common, for whatever commit and how often."""
        suite = self.check_suite
        return (self.name, suite and suite.app, suite and suite.workflow_run)


class Rollup(Model):
    """All checks."""

    state: str
    contexts: Paged[Context]


class Commit(Model):
    """The head of a pull request."""

    oid: str
    committed_date: datetime
    status_check_rollup: Rollup | None


class PullCommit(Model):
    """A commit of a pull request."""

    commit: Commit


class Thread(Model):
    """A conversation."""

    id: str
    is_resolved: bool
    is_outdated: bool


class ThreadPage(Paged[Thread]):
    """Conversations, and how many there are."""

    total_count: int


class Review(Model):
    """A review."""

    state: str
    submitted_at: datetime | None
    author: User | None
    author_can_push_to_repository: bool = True


class Commits(Model):
    """The answer to :data:`CONTEXTS`."""

    commits: Nodes[PullCommit]


class Reviews(Model):
    """The answer to :data:`REVIEWS`."""

    reviews: Paged[Review]


class Threads(Model):
    """The answer to :data:`THREADS`."""

    review_threads: ThreadPage


class Pull(Commits, Reviews, Threads):
    """The answer to :data:`PULL`."""

    number: int
    mergeable: Literal["MERGEABLE", "CONFLICTING", "UNKNOWN"]


class Whole(Head, Pull):
    """Both."""


class QueueEntry(Model):
    """The place in a merge queue."""

    id: str


class Merging(Model):
    """The answer to :data:`MERGING`."""

    id: str
    is_draft: bool
    merged: bool
    merge_state_status: str
    merge_queue_entry: QueueEntry | None = None


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
