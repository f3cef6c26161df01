"""Where settings come from, and what wrong ones get."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from lab_core.errors import SettingsError
from lab_server.settings.address import Address
from lab_server.settings.loading import load, names


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG", *(n.upper() for n in names())):
        monkeypatch.delenv(f"LAB_{name}", raising=False)


def test_flags_go_over_environment_over_file_over_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text('grace_s = 1\nqueue_limit = 1\nslots = "cpu:7"\n')
    monkeypatch.setenv("LAB_GRACE_S", "2")
    monkeypatch.setenv("LAB_QUEUE_LIMIT", "2")
    loaded = load({"grace_s": "3", "http": None}, file)
    settings, origins = loaded.settings, loaded.origins
    assert (settings.grace_s, settings.queue_limit, settings.slots) == (3.0, 2, "cpu:7")
    assert settings.http == "127.0.0.1:8080"
    assert (origins["grace_s"], origins["queue_limit"]) == ("flag", "environment")
    assert (origins["slots"], origins["http"]) == ("file", "default")


def test_the_environment_may_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "server.toml"
    file.write_text("experiments = ['a', 'b']\n")
    monkeypatch.setenv("LAB_CONFIG", str(file))
    assert load().settings.experiments == ("a", "b")


def test_a_list_in_the_environment_is_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_EXPERIMENTS", "my.module, ./file.py,")
    assert load().settings.experiments == ("my.module", "./file.py")


def test_an_empty_variable_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_TOKENS", "")
    assert load().settings.tokens is None


def test_everything_wrong_comes_at_once_with_the_name_by_which_it_was_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAB_GRACE_S", "-1")
    with pytest.raises(SettingsError) as caught:
        load({"grpc": "nonsense", "on_shutdown": "maybe", "slots": "cuda:x"})
    text = str(caught.value)
    assert "--grpc: 'nonsense' is not HOST:PORT" in text
    assert text.count("nonsense") == 1
    assert "--slots: 'cuda:x' is not a slot" in text
    assert "LAB_GRACE_S: input should be greater than 0, got '-1'" in text
    assert "--on-shutdown: input should be 'leave' or 'stop', got 'maybe'" in text
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


@pytest.mark.parametrize("value", ["nan", "inf", "1e400"])
def test_a_time_must_be_finite(value: str) -> None:
    with pytest.raises(SettingsError, match="grace-s"):
        load({"grace_s": value})


def test_an_unknown_name_in_the_file_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("queue_limt = 3\n")
    with pytest.raises(SettingsError, match="did you mean 'queue_limit'"):
        load(file=file)


def test_unknown_names_in_the_file_are_told_beside_wrong_values(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("queue_limt = 3\nspeed = 1\ngrace_s = -1\n")
    with pytest.raises(SettingsError) as caught:
        load(file=file)
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "unknown setting 'queue_limt'; did you mean 'queue_limit'?",
        "unknown setting 'speed'",
        "input should be greater than 0, got -1",
    ]


@pytest.mark.parametrize("text", ["= 3", "\x00"])
def test_a_file_that_is_not_toml_is_an_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="is not TOML"):
        load(file=file)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read the settings file"):
        load(file=tmp_path / "none.toml")


def test_a_misspelt_variable_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_SLOST", "cpu:2")
    monkeypatch.setenv("LAB_TOKEN", "of the client, and no setting")
    monkeypatch.setenv("LAB_JOIN_TOKEN", "of an agent, and no setting")
    (warning,) = load().warnings
    assert "'LAB_SLOST'; did you mean 'LAB_SLOTS'?" in warning


@pytest.mark.parametrize("name", ["grpc", "http"])
@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", ":1", "example.org:1"])
def test_binding_beyond_this_machine_needs_tls_and_tokens(name: str, address: str) -> None:
    tls = {"tls_cert": "c", "tls_key": "k"}
    for flags in ({}, tls, {"tokens": "t"}):
        with pytest.raises(SettingsError, match="can be reached from other machines"):
            load({name: address, **flags})
    assert load({name: address, **tls, "tokens": "t"})
    assert load({name: address, "insecure": True})


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "[::1]:0", "127.9.9.9:0"])
def test_loopback_needs_nothing(address: str) -> None:
    assert load({"grpc": address}).settings.grpc_address.is_loopback


@pytest.mark.parametrize(
    "flags", [{"tls_cert": "c"}, {"tls_key": "k"}, {"tls_client_ca": "ca"}, {"peer_ca": "ca"}]
)
def test_half_of_tls_is_an_error(flags: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="tls_"):
        load(flags)


@pytest.mark.parametrize("text", ["", "host", "host:", "host:x", "host:65536", "::1:50051", "h:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|brackets"):
        Address.parse(text)


def test_an_ipv6_address_keeps_its_brackets() -> None:
    assert str(Address.parse("[::1]:0").with_port(7)) == "[::1]:7"


@pytest.mark.parametrize(
    "text", ["https://lab.example.org", "lab.example.org:8080", "*.example.org", "*", "a/b"]
)
def test_an_allowed_host_that_no_browser_could_send_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--allowed-hosts: .* is not a host's name alone"):
        load({"allowed_hosts": ("fine.example.org", text)})


@pytest.mark.parametrize("text", ["lab", "Lab-1.example.org", "10.0.0.7", "labor.münchen.example"])
def test_an_allowed_host_is_a_name(text: str) -> None:
    assert load({"allowed_hosts": text}).settings.allowed_hosts == (text,)


@pytest.mark.parametrize("text", ["", "."])
def test_the_current_folder_becomes_no_home_by_chance(text: str) -> None:
    with pytest.raises(SettingsError, match="--home: it must be a folder's path"):
        load({"home": text})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hidden@h/d", "postgresql://u:***@h/d"),
        (
            "postgresql://h/d?user=u&password=hidden&port=1",
            "postgresql://h/d?user=u&password=***&port=1",
        ),
        ("postgresql://u@h/d?password=hidden", "postgresql://u@h/d?password=***"),
    ],
)
def test_a_store_is_shown_without_its_password(url: str, shown: str) -> None:
    assert load({"store": url}).settings.store_place == shown
