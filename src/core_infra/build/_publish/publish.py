"""Publishes a finished release in an order that leaves nothing half published.

Drafts with all their files come first, because they can be changed. Then what cannot be taken back,
the upload to a package index; and last, the drafts are published.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from typing import TYPE_CHECKING

from core_infra.build._archives.contents import hash_file
from core_infra.build._builders.sources import history_of
from core_infra.build._changelog import release_notes
from core_infra.build._documents.account import expected
from core_infra.build._documents.checksums import CHECKSUMS, read_checksum_file
from core_infra.build._documents.provenance import PROVENANCE
from core_infra.build._errors import preflight_error
from core_infra.build._plan import Goal
from core_infra.build._publish.files import File, ForgeRelease
from core_infra.build._publish.pypi import (
    index_problems,
    index_requests,
    packages_of,
    upload_to_index,
)
from core_infra.build._publish.registry import (
    image_address,
    image_file,
    push_image,
    registry_problems,
)
from core_infra.build._release_rules import states_version
from core_infra.build._secret import missing_token, read_token
from core_infra.build._sources.history import is_final
from core_infra.build._verify import verify_release
from core_infra.errors import CoreInfraError, WrongStateError
from core_infra.medium._local import LocalMedium

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from core_infra.build._config.settings import ForgeSettings
    from core_infra.build._plan import BuildPlan
    from core_infra.build._publish.forge import Forge

_TOKENS = {"github": "GITHUB_TOKEN", "forgejo": "FORGEJO_TOKEN"}


def publish_problems(plan: BuildPlan) -> list[str]:
    """Why a plan's release cannot be published, one sentence each; nothing is sent."""
    settings, context = plan.context.settings.publish, plan.context
    if not settings:
        return ["there is nowhere to publish: configure publish in .core/build.yaml"]
    problems = []
    history = history_of(context)
    if plan.snapshot or not states_version(context.version):
        problems.append(f"{context.version or 'it'} is not a version to publish: tag the commit")
    elif settings.forges and not (history.exact and history.version == context.version):
        problems.append(
            f"the current commit has no tag of {context.version}, and a release on a forge "
            f"needs one: git tag {context.version}"
        )
    if settings.forges and importlib.util.find_spec("httpx2") is None:
        problems.append("the package httpx2 is not installed: pip install core-infra[publish]")
    problems += [
        missing_token(_TOKENS[forge.kind], f"publish.{forge.kind}")
        for forge in settings.forges
        if not read_token(_TOKENS[forge.kind])
    ]
    is_python = "python" in _types(plan)
    if settings.pypi and (is_python or not plan.name):  # another build may be the one for it
        if not is_python:
            problems.append(f"publish.pypi is for Python projects, not for {plan.type}")
        problems += index_problems()
    if settings.image:
        problems += registry_problems()
        if not _images(plan):
            problems.append("publish.image needs oci.image: the name of the image")
    try:
        release_notes(plan)
    except CoreInfraError as error:
        problems.append(str(error).replace("\n", ". "))
    return problems


def is_finished(plan: BuildPlan) -> bool:
    """Whether the output directory has the release of a plan: of these sources and settings."""
    output, medium = plan.context.output_dir, LocalMedium()
    if plan.goal is not Goal.RELEASE or not (output / CHECKSUMS).is_file():
        return False
    if plan.signers.checksums and not list(output.glob(f"{CHECKSUMS}.*")):
        return False
    try:
        verify_release(medium, str(output))
        statement = json.loads((output / PROVENANCE).read_bytes())
        parameters, sources = expected(plan)
        definition = statement["predicate"]["buildDefinition"]
        return bool(
            definition["externalParameters"] == json.loads(json.dumps(parameters))
            and definition["resolvedDependencies"]
            == [{"uri": one.uri, "digest": dict(one.digest)} for one in sources]
        )
    except (CoreInfraError, OSError, ValueError, LookupError, TypeError):
        return False


def publish_requests(plan: BuildPlan) -> Iterator[str]:
    """All requests that publish a plan's release, as text; none is sent.

    Without a finished release in the output directory, the files are not known yet.
    """
    files = _files(plan) if is_finished(plan) else [File(plan.context.output_dir / "FILE", 0, "?")]
    settings = plan.context.settings.publish
    last = []
    for one in settings.forges:
        with contextlib.closing(_forge(one, lambda _: None)) as forge:
            yield from forge.draft_requests(_release(plan, files))
            last += [] if one.draft else [forge.publish_request()]
    if settings.pypi:
        yield from index_requests(settings.pypi, packages_of(_types(plan), files) or files)
    if settings.image:
        yield from (f"push the image to {address}" for address in _images(plan).values())
    yield from last


def publish_release(plan: BuildPlan, *, report: Callable[[str], object]) -> list[str]:
    """Publish the finished release in a plan's output directory.

    If it is interrupted at any moment, a second call continues.

    Args:
        plan: the plan of the release.
        report: called with a line of text for each request that changes something.

    Returns:
        The addresses of what was published.

    Raises:
        WrongStateError: the output directory does not have this release.
        PreflightError: a token or a tool is missing, or the commit has no tag; nothing was sent.
        PublishError: a server refuses, or has another release of this version.
        CoreInfraError: as :func:`release_notes` does.
    """
    if not is_finished(plan):
        raise WrongStateError(
            f"{plan.context.output_dir} does not have the release {plan.context.version}",
            todo="Make it first: core-infra release --no-dry-run",
            needed="a finished release of these sources",
            found="none",
        )
    if problems := publish_problems(plan):
        raise preflight_error(plan.context.project_dir, tuple(problems), doing="published")
    files, settings = _files(plan), plan.context.settings.publish
    addresses = []
    with contextlib.ExitStack() as stack:
        forges = [
            (one, stack.enter_context(contextlib.closing(_forge(one, report))))
            for one in settings.forges
        ]
        release = _release(plan, files)
        drafts = [(one, forge, forge.prepare(release)) for one, forge in forges]
        if settings.pypi:
            upload_to_index(settings.pypi, packages_of(_types(plan), files), report=report)
            addresses.append(settings.pypi)
        for name, address in _images(plan).items() if settings.image else ():
            if path := image_file(name, files):
                addresses.append(address)
                push_image(path, address, report=report)
        addresses += [
            draft if one.draft else forge.publish(release) for one, forge, draft in drafts
        ]
    return addresses


def _builds(plan: BuildPlan) -> tuple[BuildPlan, ...]:
    return plan.builds or (plan,)


def _types(plan: BuildPlan) -> set[str]:
    return {str(one.type) for one in _builds(plan)}


def _images(plan: BuildPlan) -> dict[str, str]:
    """The addresses of the images, by the names of their builds' artifacts."""
    contexts = (one.context for one in _builds(plan))
    return {
        one.name: image_address(one.settings.oci.image, one.version)
        for one in contexts
        if one.settings.oci.image
    }


def _forge(one: ForgeSettings, report: Callable[[str], object]) -> Forge:
    from core_infra.build._publish.forge import Forge  # noqa: PLC0415 - httpx2 is optional

    return Forge(one.kind, one.url, one.repository, read_token(_TOKENS[one.kind]), report=report)


def _release(plan: BuildPlan, files: list[File]) -> ForgeRelease:
    context = plan.context
    history = history_of(context)
    return ForgeRelease(
        tag=history.tag,
        commit=context.commit,
        notes=release_notes(plan),
        prerelease=not is_final(context.version),
        files=files,
    )


def _files(plan: BuildPlan) -> list[File]:
    """The files of the release in the output directory, the checksums last."""
    output = plan.context.output_dir
    names = sorted(read_checksum_file(LocalMedium(), str(output / CHECKSUMS)))
    signatures = sorted(path.name for path in output.glob(f"{CHECKSUMS}.*"))
    return [_file(output / name) for name in (*names, *signatures, CHECKSUMS)]


def _file(path: Path) -> File:
    with path.open("rb") as file:
        return File(path, path.stat().st_size, hash_file(file))
