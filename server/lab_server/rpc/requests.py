"""What a request may contain: lengths, counts and ranges, all violations of a request at once."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable

from lab_core.errors import Violation
from lab_rpc.v1 import config_pb2, run_pb2, training_service_pb2
from lab_server.errors import InvalidRequest, NotFound
from lab_server.model.agent import NAME

MAX_NAME_CHARS = 200
MAX_NUM_TAGS = 50
MAX_TAG_CHARS = 100
MAX_NOTES_CHARS = 20_000
MAX_KEY_CHARS = 200
MAX_NUM_OVERRIDES = 2_000
MAX_CONFIG_BYTES = 512 * 1024
MAX_NESTING = 8
MAX_PRIORITY = 1_000_000
MAX_RETRIES = 1_000
MAX_SECONDS = 10 * 365 * 86400.0
MAX_NUM_IDS = 1_000
INT64_MAX = 2**63 - 1
WRITERS = ("sqlite", "tensorboard")

_RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class Checks:
    """Collects what is wrong with a request; `raise_if_any` raises all of it at once."""

    def __init__(self) -> None:
        self._violations: list[Violation] = []

    def add(self, field: str, message: str) -> None:
        """Add a violation."""
        self._violations.append(Violation(field, message))

    def text(
        self, field: str, text: str, max_chars: int, *, is_needed: bool = False, lines: bool = False
    ) -> None:
        """Check a text's length and that it has no control characters; `lines` allows line ends and tabs."""
        if is_needed and not text.strip():
            self.add(field, f"{field} must not be empty")
        elif len(text) > max_chars:
            self.add(field, f"{field} may have at most {max_chars} characters, got {len(text)}")
        elif any(_is_control(char, lines) for char in text):
            self.add(field, f"{field} must not contain control characters")

    def seconds(self, field: str, value: float) -> None:
        """Check a duration, which may be 0."""
        if not math.isfinite(value) or not 0 <= value <= MAX_SECONDS:
            self.add(field, f"{field} must be between 0 and {MAX_SECONDS:.0f} seconds, got {value}")

    def between(self, field: str, value: int, least: int, most: int) -> None:
        """Check an integer's range."""
        if not least <= value <= most:
            self.add(field, f"{field} must be between {least} and {most}, got {value}")

    def extend(self, violations: Iterable[Violation]) -> None:
        """Add violations that were found elsewhere."""
        self._violations += violations

    def raise_if_any(self, *more: Violation) -> None:
        """Raise InvalidRequest if anything was wrong, and with it what has an error of its own else."""
        if self._violations:
            raise InvalidRequest([*self._violations, *more])


def check_run_id(run_id: str, field: str = "run_id") -> str:
    """Check that a text may be a run's id or a prefix of one, and return it.

    Raises:
        InvalidRequest: If it is empty.
        NotFound: If no run can have such an id; it is a path, say.
    """
    if not run_id:
        raise InvalidRequest([Violation(field, f"{field} must not be empty")])
    if not _RUN_ID.fullmatch(run_id):
        raise NotFound("run", run_id[:100])
    return run_id


def check_plan(message: training_service_pb2.PlanRunRequest, devices: Iterable[str]) -> None:
    """Check a PlanRunRequest, except for the content of its config.

    Args:
        message: the request.
        devices: those that some slot has.

    Raises:
        InvalidRequest: If the config is too large, in number, in bytes or in depth, the parent's step cannot be,
            or an option is invalid.
    """
    checks = Checks()
    check_config(checks, message.config)
    check_options(checks, message.options, sorted(set(devices)))
    if message.HasField("parent"):
        checks.between("parent.step", message.parent.step, 0, INT64_MAX)
    checks.raise_if_any()


def check_create(message: training_service_pb2.CreateRunRequest, devices: Iterable[str]) -> None:
    """Check a CreateRunRequest, except for the content of its config.

    Args:
        message: the request.
        devices: those that some slot has.

    Raises:
        InvalidRequest: If any field is invalid.
    """
    checks = Checks()
    check_config(checks, message.config)
    checks.text("name", message.name, MAX_NAME_CHARS)
    check_tags(checks, message.tags)
    checks.text("notes", message.notes, MAX_NOTES_CHARS, lines=True)
    checks.text("idempotency_key", message.idempotency_key, MAX_KEY_CHARS)
    check_options(checks, message.options, sorted(set(devices)))
    if message.HasField("parent"):
        checks.between("parent.step", message.parent.step, 0, INT64_MAX)
    checks.raise_if_any()


def check_update(message: training_service_pb2.UpdateRunRequest) -> frozenset[str]:
    """Return which of "name", "tags" and "notes" to change.

    Raises:
        InvalidRequest: If the mask names none or others, or a value is invalid.
    """
    checks = Checks()
    paths = frozenset(message.update_mask.paths)
    if not paths and not message.add_tags and not message.remove_tags:
        checks.add("update_mask", "update_mask must name the fields to change: name, tags or notes")
    for path in sorted(paths - {"name", "tags", "notes"})[:10]:
        checks.add("update_mask", f"only name, tags and notes can be changed, not {path[:100]!r}")
    if "name" in paths:
        checks.text("name", message.name, MAX_NAME_CHARS, is_needed=True)
    if "tags" in paths:
        check_tags(checks, message.tags)
        if message.add_tags or message.remove_tags:
            checks.add("tags", "either replace all tags, or add and remove some")
    check_tags(checks, message.add_tags)
    check_tags(checks, message.remove_tags)
    if both := sorted({*message.add_tags} & {*message.remove_tags}):
        checks.add("add_tags", f"{both[0][:100]!r} is both to be added and to be removed")
    if "notes" in paths:
        checks.text("notes", message.notes, MAX_NOTES_CHARS, lines=True)
    checks.raise_if_any()
    return paths


def check_all_tags(tags: Iterable[str]) -> None:
    """Check all the tags that a run would have.

    Raises:
        InvalidRequest: If they are too many.
    """
    checks = Checks()
    check_tags(checks, tags)
    checks.raise_if_any()


def check_config(checks: Checks, message: config_pb2.ConfigMessage) -> None:
    """Check the size of a config message."""
    if len(message.overrides) > MAX_NUM_OVERRIDES:
        checks.add("config", f"a config message may set at most {MAX_NUM_OVERRIDES} items")
    if message.ByteSize() > MAX_CONFIG_BYTES:
        checks.add("config", f"a config message may have at most {MAX_CONFIG_BYTES} bytes")
    for key, value in message.overrides.items():
        if len(key) > MAX_KEY_CHARS:
            checks.add(key[:MAX_KEY_CHARS], f"a key may have at most {MAX_KEY_CHARS} characters")
        if _depth(value) > MAX_NESTING:
            checks.add(key[:MAX_KEY_CHARS], f"lists may be nested at most {MAX_NESTING} deep")
    names = [name for group in message.run_order for name in group.names]
    if len(names) > MAX_NUM_OVERRIDES:
        checks.add("run_order", f"a run order may have at most {MAX_NUM_OVERRIDES} names")
    for name in names:
        if len(name) > MAX_KEY_CHARS:
            checks.add("run_order", f"a name may have at most {MAX_KEY_CHARS} characters")
    if len(message.models) > MAX_NUM_OVERRIDES:
        checks.add("models", f"models may have at most {MAX_NUM_OVERRIDES} names")


def check_tags(checks: Checks, tags: Iterable[str]) -> None:
    """Check labels."""
    tags = tuple(tags)
    if len(tags) > MAX_NUM_TAGS:
        checks.add("tags", f"a run may have at most {MAX_NUM_TAGS} tags, got {len(tags)}")
    for index, tag in enumerate(tags[:MAX_NUM_TAGS]):
        checks.text(f"tags[{index}]", tag, MAX_TAG_CHARS, is_needed=True)


def check_options(checks: Checks, options: run_pb2.RunOptions, devices: list[str]) -> None:
    """Check how a run is to be executed, on a server that has these devices."""
    checks.between("options.priority", options.priority, -MAX_PRIORITY, MAX_PRIORITY)
    checks.between("options.max_retries", options.max_retries, 0, MAX_RETRIES)
    checks.seconds("options.max_runtime_s", options.max_runtime_s)
    kinds = {device.partition(":")[0] for device in devices}
    if options.device and devices and options.device not in {*devices, *kinds}:
        checks.add(
            "options.device",
            f"this server has no device {options.device[:100]!r}; it has {', '.join(devices)}",
        )
    if options.pool and not NAME.fullmatch(options.pool):
        checks.add("options.pool", f"{options.pool[:100]!r} is not a pool's name")
    for writer in options.writers[:10]:
        if writer not in WRITERS:
            checks.add(
                "options.writers", f"writers are {' and '.join(WRITERS)}, not {writer[:100]!r}"
            )


def _depth(value: config_pb2.Value) -> int:
    if not value.HasField("list_value"):
        return 0
    return 1 + max((_depth(v) for v in value.list_value.values), default=0)


def _is_control(char: str, lines: bool) -> bool:
    if lines and char in "\n\r\t":
        return False
    # Zl and Zp: the separators that some programs take for line ends.
    return unicodedata.category(char) in ("Cc", "Zl", "Zp")


def check_patterns(names: Iterable[str]) -> None:
    """Check patterns of metrics' names.

    Raises:
        InvalidRequest: If there are too many, or one is too long.
    """
    checks = Checks()
    names = tuple(names)
    checks.between("names", len(names), 0, MAX_NUM_IDS)
    for name in names[:MAX_NUM_IDS]:
        checks.text("names", name, MAX_KEY_CHARS)
    checks.raise_if_any()
