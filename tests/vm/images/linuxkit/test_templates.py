"""Templates: ours, and the user's own."""

from __future__ import annotations

import pytest
import yaml

from core_infra.errors import CoreInfraError, NotFoundError
from core_infra.medium._memory import MemoryMedium
from core_infra.vm._images.linuxkit.templates import TemplateManager
from core_infra.vm._images.linuxkit.variables import MissingVariablesError, extract_variables

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 somebody@somewhere"


@pytest.fixture
def medium() -> MemoryMedium:
    medium = MemoryMedium()
    medium.write_text(".core/linuxkit/mine.yml", "\n# Mine, here\n# more\nkernel: ${K:-x}\n")
    medium.write_text("home/me/.core/linuxkit/mine.yml", "# Mine, at home\n")
    medium.write_text("home/me/.core/linuxkit/other.yml", "kernel: {}\n")
    medium.write_text("home/me/.core/linuxkit/core-dev.yml", "# Not this one\n")
    medium.write_text("home/me/.core/linuxkit/notes.txt", "# No template\n")
    medium.ensure_dir("home/me/.core/linuxkit/dir.yml")
    return medium


def test_all_there_are(medium: MemoryMedium) -> None:
    found = TemplateManager(medium, home="home/me").list_templates()
    assert [one.name for one in found] == ["core-dev", "mine", "other", "server-php"]
    by_name = {one.name: one for one in found}
    assert by_name["core-dev"].path == ""
    assert "Docker" in by_name["core-dev"].description
    assert by_name["mine"].description == "Mine, here"
    assert by_name["mine"].path == ".core/linuxkit/mine.yml"
    assert by_name["other"].description == ""


def test_a_name_that_is_none_tells_those_that_are(medium: MemoryMedium) -> None:
    manager = TemplateManager(medium, home="nowhere")
    for name in ("core", "../mine", "", "dir"):
        with pytest.raises(NotFoundError, match="core-dev, mine, server-php"):
            manager.get_template(name)


def test_a_file_that_is_no_text_harms_no_other(medium: MemoryMedium) -> None:
    medium.write_bytes(".core/linuxkit/broken.yml", b"\xff\xfe")
    manager = TemplateManager(medium, home="nowhere")
    by_name = {one.name: one.description for one in manager.list_templates()}
    assert by_name["mine"] == "Mine, here"
    assert "broken.yml" in by_name["broken"]
    assert manager.get_template("mine")
    with pytest.raises(CoreInfraError, match=r"broken\.yml"):
        manager.get_template("broken")


def test_a_users_own_is_filled_in(medium: MemoryMedium) -> None:
    manager = TemplateManager(medium, home="nowhere")
    assert manager.apply_template("mine", {"K": "y"}).endswith("kernel: y\n")


@pytest.mark.parametrize("name", ["core-dev", "server-php"])
def test_ours_need_a_key_and_keep_it_in_its_place(name: str) -> None:
    manager = TemplateManager(MemoryMedium(), home="")
    assert extract_variables(manager.get_template(name)).required == ["SSH_KEY"]
    with pytest.raises(MissingVariablesError, match=f"{name}: .* SSH_KEY\nGive: --var SSH_KEY="):
        manager.apply_template(name, {})
    for key in (KEY, f'{KEY}"\nservices: [] #${{X}}'):
        document = yaml.safe_load(manager.apply_template(name, {"SSH_KEY": key}))
        files = {one["path"]: one for one in document["files"]}
        assert files["root/.ssh/authorized_keys"]["contents"] == key
        assert {"getty", "sshd"} < {one["name"] for one in document["services"]}
        assert all("@" in one or ":" in one for one in document["init"]), "versions are pinned"


def test_what_ours_offer() -> None:
    manager = TemplateManager(MemoryMedium(), home="")
    services = {
        name: {
            one["name"]
            for one in yaml.safe_load(manager.apply_template(name, {"SSH_KEY": KEY}))["services"]
        }
        for name in ("core-dev", "server-php")
    }
    assert {"go", "node", "php", "docker", "sshd"} <= services["core-dev"]
    assert {"frankenphp", "sshd"} <= services["server-php"]
    text = manager.apply_template("core-dev", {"SSH_KEY": KEY, "GO_VERSION": "1.99"})
    assert "golang:1.99-alpine" in text
