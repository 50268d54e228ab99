"""Sends GraphQL queries to GitHub, and reads answers that have errors beside their data."""

from __future__ import annotations

import json
import logging
from itertools import islice
from typing import TYPE_CHECKING, Any

from core_infra.jobrunner._forges import github_rest as rest
from core_infra.jobrunner._forges.errors import ForgeAnswerError, ForgeRefusedError
from core_infra.jobrunner._forges.github_graphql import Newest, parsed, several
from core_infra.jobrunner._forges.rate_limits import is_about_limit
from core_infra.jobrunner._logging import describe_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from core_infra.jobrunner._forges.api_client import ApiClient
    from core_infra.jobrunner._forges.forge import Repo
    from core_infra.jobrunner._forges.github_graphql import T

_LOG = logging.getLogger(__name__)
_AT_ONCE = 25
"""How many issues or pull requests are in one query."""
_NUMBER_MAX = 2**31 - 1
"""GraphQL's Int; a larger number makes the whole query invalid."""
_FINAL = frozenset({"FORBIDDEN", "UNPROCESSABLE", "INSUFFICIENT_SCOPES"})
_LIMITED = frozenset({"RATE_LIMITED", "RATE_LIMIT"})


class GraphQLClient:
    """GitHub's GraphQL.

    Args:
        api: sends the requests.
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self.changed: dict[Repo, str] = {}
        """When anything in a repository was last changed, by the last query for that."""

    def one(self, repo: Repo, number: int, query: str, kind: type[T], **variables: object) -> T:
        """The fields of an issue or a pull request that a query asks for."""
        variables |= {"owner": repo.owner, "name": repo.name, "number": number}
        data = self._query(query, variables)
        return parsed(kind, next(iter((data.get("repository") or {}).values()), None))

    def each(
        self,
        repo: Repo,
        numbers: Iterable[int],
        field: str,
        fields: str,
        kind: type[T],
        *,
        others: str = "",
    ) -> Iterator[T]:
        """The fields of several issues or pull requests; those that cannot be read are logged.

        With *others* :data:`~.github_graphql.NEWEST`, this sets :attr:`changed`.
        """
        left = iter(number for number in dict.fromkeys(numbers) if number <= _NUMBER_MAX)
        while some := list(islice(left, _AT_ONCE)):
            data = self._query(several(field, fields, some, others), {**repo._asdict()})
            repository = data.get("repository") or {}
            if others:
                self.changed[repo] = parsed(Newest, repository).at
            for number in some:
                found = repository.get(f"n{number}")
                if found is not None:  # the number is something else's, or not used
                    try:
                        yield parsed(kind, found)
                    except ForgeAnswerError as error:  # one item must not stop the others
                        _LOG.error("%s: %s", "/".join(repo), describe_error(error))

    def _query(self, query: str, variables: dict[str, object]) -> dict[str, Any]:
        content = {"query": query, "variables": variables}
        answer, headers = self._api.ask(rest.ANSWER, "/graphql", content)
        problems = self._problems(answer, headers)
        if answer.data is None or (problems and answer.data.get("repository") is None):
            raise self._refused(problems or answer.errors or ())
        for problem in problems:
            _LOG.error("%s: %s: %s", self._api.url, problem.path, problem.message)
        return answer.data

    def mutate(self, mutation: str, **variables: object) -> None:
        """Change something, or only list it in a rehearsal."""
        name = mutation.removeprefix("mutation ").partition("(")[0]
        if not self._api.rehearses(f"GraphQL {name} {json.dumps(variables)}"):
            content = {"query": mutation, "variables": variables}
            answer, headers = self._api.order(rest.ANSWER, "/graphql", content)
            self._problems(answer, headers)
            if answer.errors or answer.data is None:
                raise self._refused(answer.errors or ())

    def _problems(self, answer: rest.Answer, headers: Mapping[str, str]) -> list[rest.Problem]:
        problems = [problem for problem in answer.errors or () if problem.type != "NOT_FOUND"]
        for problem in problems:
            if problem.type in _LIMITED or is_about_limit(problem.message):
                raise self._api.limited(problem.message, headers)
        return problems

    def _refused(self, problems: Sequence[rest.Problem]) -> ForgeRefusedError:
        text = "; ".join(problem.message for problem in problems)
        return ForgeRefusedError(
            f"{self._api.url} refuses a query",
            why=text[:500],
            status=200,
            final=any(problem.type in _FINAL for problem in problems),
        )
