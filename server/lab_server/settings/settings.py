"""The server's settings: flags over environment over file over defaults."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import platformdirs

from lab_core.errors import SettingsError
from lab_server.model.agent import HOSTS_POOL
from lab_server.settings.address import Address
from lab_server.settings.fields import Misfit, Problem, read, setting, settings_of
from lab_server.settings.pools import PoolSettings, checked_slots

ENV_PREFIX = "LAB_"
# Variables of the same prefix that are not the server's settings.
_CLIENT_VARIABLES = frozenset(
    {"LAB_SERVER", "LAB_TOKEN", "LAB_TLS", "LAB_CA", "LAB_CERT", "LAB_KEY"}
)
_OTHER_VARIABLES = _CLIENT_VARIABLES | {
    "LAB_DATA_PATH",
    "LAB_CONFIG",
    "LAB_RUN_ATTEMPT",
    "LAB_TRAINER",
}

_SECONDS: Final[dict[str, float]] = {"above": 0, "at_most": 10 * 365 * 86400}
_COUNT: Final[dict[str, float]] = {"at_least": 1, "at_most": 1_000_000}


def _address(text: str) -> str:
    if text:
        Address.parse(text)
    return text


def _postgresql(url: str) -> str:
    if url and not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("it must be postgresql://USER@HOST/DATABASE, or empty for SQLite in home")
    return url


def _slots(text: str) -> str:
    if text:
        checked_slots(text)
    return text


def _with_names_of_their_own(pools: tuple[PoolSettings, ...]) -> tuple[PoolSettings, ...]:
    names = [pool.name for pool in pools]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two pools are named {', '.join(sorted(twice))!r}")
    if HOSTS_POOL in names:
        raise ValueError(
            f"the pool {HOSTS_POOL!r} is that of the servers' own slots; choose another name"
        )
    return pools


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


@dataclass(frozen=True)
class Settings:
    """Every setting of a server; `lab-server config` prints them with their origins."""

    grpc: str = setting(
        "127.0.0.1:50051", help="HOST:PORT of gRPC; port 0 picks a free port", check=_address
    )
    http: str = setting(
        "127.0.0.1:8080",
        help="HOST:PORT of the dashboard, its API, /metrics and /healthz",
        check=_address,
    )
    dashboard: bool = setting(True, help="serve the dashboard and its HTTP API")
    allowed_hosts: tuple[str, ...] = setting(
        (),
        help="name by which browsers may reach the dashboard, beside localhost, the machine's"
        " own name, and addresses",
    )
    home: Path = setting(
        lambda: platformdirs.user_data_path("lab-train"),
        help="folder of the database and the runs' files",
        check=_absolute,
    )
    store: str = setting(
        "",
        help="database of runs and events: postgresql://USER@HOST/DATABASE; empty: SQLite in home",
        check=_postgresql,
    )
    advertise: str = setting(
        "",
        help="HOST:PORT at which the other servers of a store reach this one; empty: that of grpc",
        check=_address,
    )
    slots: str = setting(
        "",
        help="slots to train in: cpu:N or cuda:0,cuda:1*2; empty: every GPU, else one CPU slot;"
        " none: train on agents only",
        check=_slots,
    )
    experiments: tuple[str, ...] = setting(
        (),
        help="module or file with experiments, in addition to those of installed packages",
    )
    auto_reload: bool = setting(
        True, help="use edited experiments from the next run on, without a restart"
    )
    preload: tuple[str, ...] = setting(
        (),
        help="installed library to import once, as torch is, so that an edit of an experiment that"
        " imports it takes effect sooner",
    )
    allow_uploads: bool = setting(
        False, help="take code from clients (role operator) and run it as the server's user"
    )
    thread_wait: Literal["auto", "spin", "sleep"] = setting(
        "auto",
        help="how a trainer's threads wait for each other: spin (briefly, then sleep) or sleep;"
        " auto: spin if the threads of all slots fit the cores",
    )
    queue_limit: int = setting(1000, help="maximum number of runs waiting for a slot", **_COUNT)
    max_retries: int = setting(
        2,
        help="retries after a trainer died, unless the run sets its own number",
        at_least=0,
        at_most=1000,
    )
    max_runtime_s: float = setting(
        0.0, help="maximum training time of a run, in seconds; 0: no limit", at_least=0
    )
    grace_s: float = setting(
        10.0, help="seconds a run has to stop by itself before it is killed", **_SECONDS
    )
    stall_timeout_s: float = setting(
        600.0,
        help="seconds without progress after which a trainer is killed and its run retried",
        **_SECONDS,
    )
    usage_interval_s: float = setting(
        5.0,
        help="seconds between two readings of a run's CPU, memory and GPU use, which are its metrics"
        " system.*; 0: none",
        at_least=0,
        at_most=3600,
    )
    media_items: int = setting(
        100,
        help="images, texts, histograms or indexed values of one name that a run's events take one by"
        " one; later ones are thinned",
        at_least=1,
        at_most=1_000_000,
    )
    media_mb: float = setting(
        64.0,
        help="MB of them in all that the events of a run's attempt take; 0: none",
        at_least=0,
        at_most=100_000,
    )
    agent_lease_s: float = setting(
        900.0,
        help="seconds that an agent trains on without reaching the server; then its runs are"
        " tried elsewhere",
        at_least=1,
        at_most=7 * 86400,
    )
    pools: tuple[PoolSettings, ...] = setting(
        (),
        help="pools of agents, in the settings file only, each a [[pools]]",
        check=_with_names_of_their_own,
    )
    on_shutdown: Literal["leave", "stop"] = setting(
        "leave", help="on shutdown, leave trainers running or stop them"
    )
    drain_s: float = setting(5.0, help="on shutdown, seconds for open calls to finish", **_SECONDS)
    retention_days: float = setting(
        0.0, help="days after which ended runs are deleted; 0: never", at_least=0
    )
    retention_count: int = setting(
        0, help="number of ended runs to keep, the oldest are deleted; 0: all", at_least=0
    )
    heartbeat_s: float = setting(
        15.0, help="seconds between heartbeats on idle streams", **_SECONDS
    )
    log_format: Literal["auto", "human", "json"] = setting(
        "auto", help="format of log lines; auto: human on a terminal, else json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", help="minimum log level"
    )
    tls_cert: Path | None = setting(None, help="server certificate chain, PEM")
    tls_key: Path | None = setting(None, help="private key of the certificate, PEM")
    tls_client_ca: Path | None = setting(
        None, help="CA that must have signed client certificates (mTLS), PEM"
    )
    peer_ca: Path | None = setting(
        None,
        help="CA that signed the certificates of the other servers of a store, PEM; empty: the system's",
    )
    tokens: Path | None = setting(
        None, help="token file made by `lab-server tokens`; if set, every call needs a token"
    )
    insecure: bool = setting(False, help="allow listening beyond loopback without TLS and tokens")
    max_message_bytes: int = setting(
        4 * 1024 * 1024,
        help="largest request, in bytes",
        at_least=64 * 1024,
        at_most=256 * 1024 * 1024,
    )
    max_streams: int = setting(200, help="maximum number of open streams per principal", **_COUNT)
    max_runs: int = setting(
        1000, help="maximum number of queued or training runs per principal", **_COUNT
    )
    keepalive_s: float = setting(
        20.0, help="seconds between keepalive pings on idle connections", **_SECONDS
    )
    idle_connection_s: float = setting(
        3600.0, help="seconds after which an unused connection is closed", **_SECONDS
    )
    handshake_s: float = setting(
        10.0, help="seconds a new connection has to complete the handshake", **_SECONDS
    )

    def contradictions(self) -> Iterator[str]:
        """See `fields.Declared`."""
        if (self.tls_cert is None) != (self.tls_key is None):
            yield "tls_cert and tls_key belong together: set both or none"
        if self.tls_client_ca is not None and self.tls_cert is None:
            yield "tls_client_ca needs tls_cert and tls_key"
        is_secured = self.tls_cert is not None and self.tokens is not None
        for name, address in (("grpc", self.grpc_address), ("http", self.http_address)):
            if not (is_secured or self.insecure or address.is_loopback):
                yield (
                    f"{name}={address} can be reached from other machines: set tls_cert, tls_key and "
                    "tokens (see `lab-server certs init` and `lab-server tokens create`), "
                    "or set insecure"
                )
        if self.allow_uploads and self.tokens is None and not self.grpc_address.is_loopback:
            yield (
                f"allow_uploads lets whoever reaches grpc={self.grpc_address} run any code on this machine: "
                "set tokens (see `lab-server tokens create`)"
            )

    @property
    def grpc_address(self) -> Address:
        """Where gRPC listens."""
        return Address.parse(self.grpc)

    @property
    def store_place(self) -> str:
        """The URL of the store without its password."""
        return re.sub(r"(?<=//)([^/@]*):[^/]*@", r"\1:***@", self.store)

    @property
    def http_address(self) -> Address:
        """Where the dashboard and /metrics are."""
        return Address.parse(self.http)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, with for each name its origin: "flag", "environment", "file" or "default"."""

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def as_written(self, name: str) -> str:
        """Return a setting's name as it was written: "--slots", "LAB_SLOTS" or "slots"."""
        return _as_written(name, self.origins)


def load(flags: Mapping[str, Any] | None = None, file: Path | None = None) -> Loaded:
    """Return the effective settings.

    Args:
        flags: the command line's values; None for flags that were not given.
        file: a TOML file of settings by name; without it the one that LAB_CONFIG names, if any.

    Raises:
        SettingsError: If values are wrong or names unknown, with all of them.
    """
    file = file or (Path(os.environ["LAB_CONFIG"]) if os.environ.get("LAB_CONFIG") else None)
    in_file, unknown = _read_file(file) if file else ({}, [])
    sources = {
        "file": in_file,
        "environment": _environment(),
        "flag": {name: value for name, value in (flags or {}).items() if value is not None},
    }
    values: dict[str, Any] = {}
    origins = dict.fromkeys(names(), "default")
    for origin, source in sources.items():
        values |= source
        origins |= dict.fromkeys(source, origin)
    try:
        settings = read(Settings, values)
    except Misfit as wrong:
        sentences = [_sentence(problem, origins) for problem in wrong.problems]
        raise SettingsError("\n".join([*unknown, *sentences])) from None
    if unknown:
        raise SettingsError("\n".join(unknown))
    return Loaded(settings, origins, _unknown_variables())


@cache
def names() -> tuple[str, ...]:
    """Return the names of all settings, in the order of their declaration."""
    return tuple(settings_of(Settings))


def _environment() -> dict[str, str]:
    """Return the settings in the environment; an empty variable is none."""
    given = {name: os.environ.get(ENV_PREFIX + name.upper(), "") for name in names()}
    return {name: text for name, text in given.items() if text}


def _read_file(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Return the settings in a file, and a sentence for each unknown name."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} is not TOML: {error}") from None
    unknown = [name for name in values if name not in names()]
    problems = [f"in the settings file {path}: {_unknown(name, names())}" for name in unknown]
    return {name: values[name] for name in values if name not in unknown}, problems


def _unknown(name: str, choices: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, choices, n=1)
    return f"unknown setting {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")


def _unknown_variables() -> tuple[str, ...]:
    known = tuple(ENV_PREFIX + name.upper() for name in names())
    return tuple(
        "ignored an " + _unknown(name, known).replace("setting", "environment variable")
        for name in sorted(os.environ)
        if name.startswith(ENV_PREFIX) and name not in known and name not in _OTHER_VARIABLES
    )


def _as_written(name: str, origins: Mapping[str, str]) -> str:
    forms = {"flag": f"--{name.replace('_', '-')}", "environment": f"{ENV_PREFIX}{name.upper()}"}
    return forms.get(origins.get(name, "default"), name)


def _sentence(problem: Problem, origins: Mapping[str, str]) -> str:
    if not problem.path:
        return problem.sentence
    name, *within = problem.path
    return f"{'.'.join([_as_written(name, origins), *within])}: {problem.sentence}"
