from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from core_infra.build._artifact import Target
from core_infra.build._config.load import (
    config_exists,
    config_path,
    load_config,
)
from core_infra.build._config.settings import DEFAULT_TARGETS, BuildConfig
from core_infra.build._errors import ConfigError
from core_infra.build._project import ProjectType
from core_infra.medium import MemoryMedium

WHOLE = """\
version: 1
project:
  name: My App
  description: What it is.
  main: ./cmd/app
  binary: app
  type: go
build:
  cgo: true
  flags: [-trimpath, -v]
  ldflags: []
  env: ["CC=gcc -m64"]
targets:
  - os: linux
    arch: arm64
  - {os: windows, arch: amd64}
sign:
  enabled: true
  gpg:
    key: $KEY
  macos:
    identity: "Developer ID: ${WHO}"
    notarize: true
    apple_id: a@example.org
    team_id: T1
    app_password: $PASSWORD
  windows:
    certificate: cert.p12
    password: hush
docker:
  image: ghcr.io/me/app
  tags: [latest, "1.0"]
  build_args: [A=b]
linuxkit:
  config: vm/linuxkit.yml
  formats: [kernel+initrd]
"""


def load(text: str | bytes, env: dict[str, str] | None = None) -> BuildConfig:
    medium = MemoryMedium()
    data = text if isinstance(text, bytes) else text.encode()
    medium.write_bytes("app/.core/build.yaml", data)
    return load_config(medium, "app", env=env or {})


def mistake(text: str | bytes) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(text)
    error = caught.value
    assert error.file == "app/.core/build.yaml"
    assert str(error.mistakes[0]).startswith(f"app/.core/build.yaml:{error.line}: ")
    assert all(str(one) in str(error) for one in error.mistakes)
    return error


def exist(error: ConfigError, data: bytes) -> bool:
    """Whether the file has the lines of all mistakes."""
    return all(1 <= one.line <= max(1, len(data.splitlines())) for one in error.mistakes)


def test_without_a_file_there_are_the_defaults() -> None:
    config = load_config(MemoryMedium(), "app", env={})
    assert config == BuildConfig()
    assert (config.version, config.project.main, config.build.cgo) == (1, ".", False)
    assert config.build.flags == ("-trimpath",)
    assert config.build.ldflags == ("-s", "-w")
    assert config.build.env == ()
    names = ["linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"]
    assert [str(target) for target in config.to_targets()] == names


def test_where_the_file_is() -> None:
    medium = MemoryMedium()
    assert not config_exists(medium, "app")
    medium.write_text(config_path("app"), "")
    assert config_path("app") == "app/.core/build.yaml"
    assert config_path(".") == ".core/build.yaml"
    assert config_exists(medium, "app")


def test_every_field_is_read() -> None:
    config = load(WHOLE, {"KEY": "ABC", "WHO": "me", "PASSWORD": "swordfish"})
    assert config.project.name == "My App"
    assert config.project.main == "./cmd/app"
    assert config.project.type is ProjectType.GO
    assert config.build.cgo
    assert config.build.flags == ("-trimpath", "-v")
    assert config.build.ldflags == ()
    assert config.build.env == ("CC=gcc -m64",)
    assert config.to_targets() == [Target("linux", "arm64"), Target("windows", "amd64")]
    assert config.sign.gpg_key == "ABC"
    assert config.sign.macos_identity == "Developer ID: me"
    assert config.sign.macos_notarize
    assert config.sign.apple_app_password.value == "swordfish"
    assert config.sign.windows_password.value == "hush"
    assert config.docker.tags == ("latest", "1.0")
    assert config.linuxkit.formats == ("kernel+initrd",)


def test_what_is_secret_is_not_shown() -> None:
    config = load(WHOLE, {"PASSWORD": "swordfish", "GPG_PASSPHRASE": "plugh"})
    shown = f"{config!r} {config} {config.sign.apple_app_password} {config.sign.gpg_passphrase}"
    assert not {word for word in ("swordfish", "hush", "plugh") if word in shown}


def test_a_password_of_a_wrong_type_is_not_shown_either() -> None:
    error = mistake("sign:\n  windows:\n    password: 123454321\n")
    assert error.field == "sign.windows.password"
    assert "123454321" not in str(error)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "~", "version:\nproject:\nbuild: ~\n"])
def test_what_is_missing_or_null_takes_its_default(text: str) -> None:
    assert load(text) == BuildConfig()


def test_an_empty_list_stays_empty_except_targets() -> None:
    config = load("build: {flags: [], ldflags: [], env: []}\ntargets: []\n")
    assert (config.build.flags, config.build.ldflags, config.build.env) == ((), (), ())
    assert config.targets == DEFAULT_TARGETS


def test_keys_come_from_the_environment() -> None:
    names = ("GPG_KEY_ID", "CODESIGN_IDENTITY", "APPLE_ID", "APPLE_TEAM_ID", "APPLE_APP_PASSWORD")
    sign = load("", {name: name.lower() for name in names}).sign
    assert sign.gpg_key == "gpg_key_id"
    assert sign.macos_identity == "codesign_identity"
    assert sign.apple_id == "apple_id"
    assert sign.apple_team_id == "apple_team_id"
    assert sign.apple_app_password.value == "apple_app_password"


def test_a_variable_that_is_not_set_is_reported() -> None:
    sign = load("sign: {gpg: {key: $NO_SUCH}}").sign
    assert sign.gpg_key == ""
    assert sign.unset == ("NO_SUCH",)


def test_anchors_work_where_they_are_no_bomb() -> None:
    config = load("build:\n  flags: &flags [-v]\n  ldflags: *flags\n")
    assert config.build.ldflags == ("-v",)


@pytest.mark.parametrize(
    ("text", "line", "field", "expected"),
    [
        ("version: 2", 1, "version", "version 1"),
        ("version: '1'", 1, "version", "a whole number"),
        ("version: 1.0", 1, "version", "a whole number"),
        ("- a", 1, "", "a mapping"),
        ("just text", 1, "", "a mapping"),
        ("version: 1\nprojects: {}\n", 2, "projects", "one of"),
        ("project:\n  nam: x", 2, "project.nam", "one of"),
        ("project:\n  name: x\n  name: y", 3, "project.name", "each field once"),
        ("project: []", 1, "project", "a mapping"),
        ("project:\n  name: 12", 2, "project.name", "a string"),
        ("project:\n  name: no", 2, "project.name", "a string"),
        ("project:\n  name: [x]", 2, "project.name", "a string"),
        ("project:\n  name: ../../x", 2, "project.name", "a file name"),
        ("project:\n  name: ..", 2, "project.name", "a file name"),
        ("project:\n  binary: a/b", 2, "project.binary", "a file name"),
        ("project:\n  binary: -rf", 2, "project.binary", "a file name"),
        ('project:\n  binary: "a\\nb"', 2, "project.binary", "a file name"),
        ("project:\n  main: ../other", 2, "project.main", "inside the project"),
        ("project:\n  main: a/../../b", 2, "project.main", "inside the project"),
        ("project:\n  main: /etc/passwd", 2, "project.main", "inside the project"),
        ("project:\n  main: -o=/etc/x", 2, "project.main", "inside the project"),
        ('project:\n  main: ""', 2, "project.main", "inside the project"),
        ("project:\n  type: cobol", 2, "project.type", "one of go"),
        ("build:\n  cgo: 1", 2, "build.cgo", "true or false"),
        ("build:\n  flags: -v", 2, "build.flags", "a list"),
        ("build:\n  flags: [-v, 3]", 2, "build.flags[1]", "a string"),
        ("build:\n  flags:\n    - -v\n    - -o\n", 4, "build.flags[1]", "-o"),
        ("build:\n  env: [novalue]", 2, "build.env[0]", "NAME=value"),
        ('build:\n  env: ["A=\\0"]', 2, "build.env[0]", "NUL"),
        ("targets: linux/amd64", 1, "targets", "a list"),
        ("targets:\n  - linux/amd64", 2, "targets[0]", "a mapping"),
        ("targets:\n  - os: linux\n", 2, "targets[0].arch", "a platform"),
        ("targets:\n  - os: ../../x\n    arch: y", 2, "targets[0].os", "a platform"),
        ("targets:\n  - os: linux\n    arch: a/b", 3, "targets[0].arch", "a platform"),
        (
            "targets: [{os: linux, arch: amd64}, {os: linux, arch: amd64}]",
            1,
            "targets[1]",
            "each target once",
        ),
        ("docker: {tags: [a b]}", 1, "docker.tags[0]", "a tag"),
        ("sign: {gpg: {key: $}}", 1, "sign.gpg.key", "$NAME"),
        ("project: !foo {}", 1, "project", "a mapping"),
        ("!!python/object/apply:os.system [x]", 1, "", "a mapping"),
        ("a: b: c", 1, "", "valid YAML"),
        ("version: 1\n\tx: 2", 2, "", "valid YAML"),
        ("version: 1\n---\nversion: 1", 2, "", "valid YAML"),
        ("version: *nothing", 1, "", "valid YAML"),
        ("version: 1\nx: \x07", 2, "", "printable"),
        (b"version: 1\nx: \xff\xfe", 2, "", "UTF-8"),
        ("[" * 10_000, 1, "", "levels"),
        ("? {a: b}\n: 1", 1, "", "a string"),
        ("<<: 1", 1, "", "a mapping to merge"),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_field(
    text: str | bytes, line: int, field: str, expected: str
) -> None:
    error = mistake(text)
    assert (error.line, error.field) == (line, field)
    assert expected in error.expected


def test_all_mistakes_are_reported_at_once() -> None:
    text = (
        "projet: {}\nproject:\n  name: ..\n  mian: x\ntargets:\n  - {os: A, arch: B}\n"
        "  - {arch: x}\nbuild:\n  cgo: maybe\n  flags: [1, -o]\nsign: {gpg: []}\n"
    )
    found = [(one.line, one.field) for one in mistake(text).mistakes]
    assert found == [
        (1, "projet"),
        (3, "project.name"),
        (4, "project.mian"),
        (6, "targets[0].os"),
        (6, "targets[0].arch"),
        (7, "targets[1].os"),
        (9, "build.cgo"),
        (10, "build.flags[0]"),
        (10, "build.flags[1]"),
        (11, "sign.gpg"),
    ]
    assert "projet: unknown field; did you mean 'project'?" in str(mistake(text))


def test_merge_keys_work() -> None:
    config = load("project: {<<: {name: a, main: b}, name: c}\n")
    assert (config.project.name, config.project.main) == ("c", "b")


def test_a_bomb_of_anchors_does_not_go_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert mistake("\n".join(lines)).field == "a0"
    as_flags = "\n".join([*lines[1:], "build:", "  flags: *a29"])
    assert mistake(f"x: &a0 [x]\n{as_flags}").field == "x"


def test_an_anchor_that_contains_itself_is_reported() -> None:
    assert mistake("build: &b\n  flags: [*b]\n").field == "build.flags[0]"
    assert "merged into itself" in str(mistake("build: &b\n  <<: *b\n"))


def test_a_huge_file_is_refused_unread() -> None:
    assert "256 KiB" in str(mistake(b"#" * (300 << 20)))


def test_an_alias_in_a_wrong_place_is_reported_there() -> None:
    error = mistake("build:\n  flags: &f [a]\n  env: [*f]\n")
    assert error.field == "build.env[0]"


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("../x"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["version", "project", "build", "targets", "sign", "name", "main"])
            | st.sampled_from(["os", "arch", "flags", "env", "gpg", "key"])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(values)
def test_any_document_is_a_configuration_or_one_error(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    try:
        config = load(text)
    except ConfigError as error:
        assert exist(error, text.encode())  # noqa: PT017 - either is right
    else:
        assert ".." not in config.project.main.split("/")
        assert all(str(target).count("/") == 1 for target in config.targets)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"\xef\xbb\xbfversion: 1")
@example(b"!")
@example(b"!<")
@example(b"%YAML 9.9\n---\n")
@example(b"--- !<tag:yaml.org,2002:null> {}")
@example(b"build: !!bool x")
@example(b"build: {cgo: !!bool x}")
@example(b"version: !!int x")
@example(b"&a")
def test_any_bytes_are_a_configuration_or_one_error(data: bytes) -> None:
    try:
        load(data)
    except ConfigError as error:
        assert exist(error, data)  # noqa: PT017 - either is right


@given(st.data())
def test_a_damaged_configuration_is_a_configuration_or_one_error(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(WHOLE)))
    end = data.draw(st.integers(at, min(at + 30, len(WHOLE))))
    text = WHOLE[:at] + data.draw(st.text("{}[]:-&*!|>'\"#%@ \n\tax.", max_size=5)) + WHOLE[end:]
    try:
        load(text)
    except ConfigError as error:
        assert exist(error, text.encode())  # noqa: PT017 - either is right
