"""Every setting of a server: its type, default and bounds, and which of them exclude each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from lab_core.errors import SettingsError
from lab_server.model.agent import HOSTS_POOL
from lab_server.model.slot import parse_slots
from lab_server.settings.address import Address
from lab_server.settings.lists import split_at_commas
from lab_server.settings.pools import PoolSettings

ENV_PREFIX = "LAB_"

Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]

_HOST_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")


class Settings(BaseSettings):
    """Every setting of a server; `lab-server config` prints them with their origins."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid"
    )

    grpc: str = Field("127.0.0.1:50051", description="HOST:PORT of gRPC; port 0 picks a free port")
    http: str = Field(
        "127.0.0.1:8080", description="HOST:PORT of the dashboard, its API, /metrics and /healthz"
    )
    dashboard: bool = Field(True, description="serve the dashboard and its HTTP API")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="name by which browsers may reach the dashboard, beside localhost, the machine's"
        " own name, and addresses",
    )
    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("lab-train"),
        description="folder of the database and the runs' files",
    )
    store: str = Field(
        "",
        description="database of runs and events: postgresql://USER@HOST/DATABASE; empty: SQLite in home",
    )
    advertise: str = Field(
        "",
        description="HOST:PORT at which the other servers of a store reach this one; empty: that of grpc",
    )
    slots: str = Field(
        "",
        description="slots to train in: cpu:N or cuda:0,cuda:1*2; empty: every GPU, else one CPU slot;"
        " none: train on agents only",
    )
    experiments: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="module or file with experiments, in addition to those of installed packages",
    )
    auto_reload: bool = Field(
        True, description="use edited experiments from the next run on, without a restart"
    )
    preload: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="installed library to import once, as torch is, so that an edit of an experiment that"
        " imports it takes effect sooner",
    )
    allow_uploads: bool = Field(
        False, description="take code from clients (role operator) and run it as the server's user"
    )
    thread_wait: Literal["auto", "spin", "sleep"] = Field(
        "auto",
        description="how a trainer's threads wait for each other: spin (briefly, then sleep) or sleep;"
        " auto: spin if the threads of all slots fit the cores",
    )
    queue_limit: Count = Field(1000, description="maximum number of runs waiting for a slot")
    max_retries: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="retries after a trainer died, unless the run sets its own number"
    )
    max_runtime_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="maximum training time of a run, in seconds; 0: no limit"
    )
    grace_s: Seconds = Field(
        10.0, description="seconds a run has to stop by itself before it is killed"
    )
    stall_timeout_s: Seconds = Field(
        600.0,
        description="seconds without progress after which a trainer is killed and its run retried",
    )
    usage_interval_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        5.0,
        description="seconds between two readings of a run's CPU, memory and GPU use, which are its metrics"
        " system.*; 0: none",
    )
    media_items: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        100,
        description="images, texts, histograms or indexed values of one name that a run's events take one by"
        " one; later ones are thinned",
    )
    media_mb: Annotated[float, Field(ge=0, le=100_000)] = Field(
        64.0, description="MB of them in all that the events of a run's attempt take; 0: none"
    )
    agent_lease_s: Annotated[float, Field(ge=1, le=7 * 86400)] = Field(
        900.0,
        description="seconds that an agent trains on without reaching the server; then its runs are"
        " tried elsewhere",
    )
    pools: tuple[PoolSettings, ...] = Field(
        (), description="pools of agents, in the settings file only, each a [[pools]]"
    )
    on_shutdown: Literal["leave", "stop"] = Field(
        "leave", description="on shutdown, leave trainers running or stop them"
    )
    drain_s: Seconds = Field(5.0, description="on shutdown, seconds for open calls to finish")
    retention_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="days after which ended runs are deleted; 0: never"
    )
    retention_count: Annotated[int, Field(ge=0)] = Field(
        0, description="number of ended runs to keep, the oldest are deleted; 0: all"
    )
    heartbeat_s: Seconds = Field(15.0, description="seconds between heartbeats on idle streams")
    log_format: Literal["auto", "human", "json"] = Field(
        "auto", description="format of log lines; auto: human on a terminal, else json"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="minimum log level"
    )
    tls_cert: Path | None = Field(None, description="server certificate chain, PEM")
    tls_key: Path | None = Field(None, description="private key of the certificate, PEM")
    tls_client_ca: Path | None = Field(
        None, description="CA that must have signed client certificates (mTLS), PEM"
    )
    peer_ca: Path | None = Field(
        None,
        description="CA that signed the certificates of the other servers of a store, PEM; empty: the system's",
    )
    tokens: Path | None = Field(
        None, description="token file made by `lab-server tokens`; if set, every call needs a token"
    )
    insecure: bool = Field(
        False, description="allow listening beyond loopback without TLS and tokens"
    )
    # an agent's request has a MiB of data, and would be refused for ever
    max_message_bytes: Annotated[int, Field(ge=2 * 1024 * 1024, le=256 * 1024 * 1024)] = Field(
        4 * 1024 * 1024, description="largest request, in bytes"
    )
    max_streams: Count = Field(200, description="maximum number of open streams per principal")
    max_runs: Count = Field(
        1000, description="maximum number of queued or training runs per principal"
    )
    keepalive_s: Seconds = Field(
        20.0, description="seconds between keepalive pings on idle connections"
    )
    idle_connection_s: Seconds = Field(
        3600.0, description="seconds after which an unused connection is closed"
    )
    handshake_s: Seconds = Field(
        10.0, description="seconds a new connection has to complete the handshake"
    )

    @field_validator("grpc", "http", "advertise")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        if text:
            Address.parse(text)
        return text

    @field_validator("store")
    @classmethod
    def _is_postgresql(cls, url: str) -> str:
        if url and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError(
                "it must be postgresql://USER@HOST/DATABASE, or empty for SQLite in home"
            )
        return url

    @field_validator("slots")
    @classmethod
    def _are_slots(cls, text: str) -> str:
        try:
            if text:
                parse_slots(text)
        except SettingsError as error:
            raise ValueError(str(error)) from None
        return text

    @field_validator("pools")
    @classmethod
    def _have_names_of_their_own(cls, pools: tuple[PoolSettings, ...]) -> tuple[PoolSettings, ...]:
        names = [pool.name for pool in pools]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two pools are named {', '.join(sorted(twice))!r}")
        if HOSTS_POOL in names:
            raise ValueError(
                f"the pool {HOSTS_POOL!r} is that of the servers' own slots; choose another name"
            )
        return pools

    @field_validator("home")
    @classmethod
    def _is_absolute(cls, path: Path) -> Path:
        # an empty variable in a script or a unit would make it the current folder
        if path == Path():
            raise ValueError("it must be a folder's path, and is empty or '.'")
        return path.expanduser().absolute()

    @field_validator("experiments", "preload", "allowed_hosts", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return split_at_commas(value) if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _HOST_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a host's name alone, such as lab.example.org")
        return names

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both or none")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if self.peer_ca is not None and self.tls_cert is None:
            raise ValueError(
                "peer_ca needs tls_cert and tls_key: servers without them reach each other without TLS"
            )
        return self

    @model_validator(mode="after")
    def _is_not_open_to_the_world(self) -> Settings:
        is_secured = self.tls_cert is not None and self.tokens is not None
        if is_secured or self.insecure:
            return self
        for name, address in (("grpc", self.grpc_address), ("http", self.http_address)):
            if not address.is_loopback:
                raise ValueError(
                    f"{name}={address} can be reached from other machines: set tls_cert, tls_key and "
                    "tokens (see `lab-server certs init` and `lab-server tokens create`), "
                    "or set insecure"
                )
        return self

    @model_validator(mode="after")
    def _uploads_are_not_open_to_the_world(self) -> Settings:
        if self.allow_uploads and self.tokens is None and not self.grpc_address.is_loopback:
            raise ValueError(
                f"allow_uploads lets whoever reaches grpc={self.grpc_address} run any code on this machine: "
                "set tokens (see `lab-server tokens create`)"
            )
        return self

    @property
    def grpc_address(self) -> Address:
        """Where gRPC listens."""
        return Address.parse(self.grpc)

    @property
    def store_url(self) -> str:
        """The URL of the store, also of the one in home."""
        return self.store or f"sqlite:///{self.home / 'lab.db'}"

    @property
    def store_place(self) -> str:
        """The URL of the store without its password."""
        shown = re.sub(r"(?<=//)([^/@]*):[^/]*@", r"\1:***@", self.store)
        return re.sub(r"(?<=[?&]password=)[^&]*", "***", shown)

    @property
    def http_address(self) -> Address:
        """Where the dashboard and /metrics are."""
        return Address.parse(self.http)

    @classmethod
    def settings_customise_sources(  # pydantic names the arguments
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only what `load` passes, which tracks the origin of each value."""
        return (init_settings,)
