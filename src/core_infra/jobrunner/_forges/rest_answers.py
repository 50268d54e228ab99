"""The parts of REST answers that GitHub and Forgejo have in common."""

from __future__ import annotations

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter


class Model(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(strict=True, frozen=True)


class RepositoryName(Model):
    """A repository in a list."""

    name: str
    archived: bool = False


class Comment(Model):
    """A comment."""

    id: int
    body: str | None = None


class Permissions(Model):
    """What the token's user may do."""

    push: bool = False


class Repository(Model):
    """A repository. Forgejo's names of two fields differ from GitHub's."""

    default_branch: str
    archived: bool = False
    permissions: Permissions | None = None
    allow_squash_merge: bool = False
    allow_merge_commit: bool = Field(
        default=False, validation_alias=AliasChoices("allow_merge_commit", "allow_merge_commits")
    )
    allow_rebase_merge: bool = Field(
        default=False, validation_alias=AliasChoices("allow_rebase_merge", "allow_rebase")
    )

    @property
    def methods(self) -> tuple[str, ...]:
        """How pull requests may be merged."""
        allowed = {
            "squash": self.allow_squash_merge,
            "merge": self.allow_merge_commit,
            "rebase": self.allow_rebase_merge,
        }
        return tuple(name for name, is_allowed in allowed.items() if is_allowed)


COMMENTS = TypeAdapter(list[Comment])
REPOSITORIES = TypeAdapter(list[RepositoryName])
REPOSITORY = TypeAdapter(Repository)
