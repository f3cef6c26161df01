"""`lab-server tokens`: made, shown once, listed, revoked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab_server.cli.commands import app
from lab_server.errors import Unauthenticated
from lab_server.model.roles import Principal, Role
from lab_server.security.tokens import Tokens


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["tokens", *arguments])
    return result.exit_code, result.output


def test_a_token_is_made_used_listed_and_revoked(tmp_path: Path) -> None:
    file = tmp_path / "sub" / "tokens.json"
    where = ("--tokens", str(file))
    code, output = run("create", "ada", "--role", "admin", "--expires-days", "1", *where)
    assert code == 0
    token = output.splitlines()[0]
    tokens = Tokens(file)
    assert tokens.principal(f"Bearer {token}") == Principal("ada", Role.ADMIN)
    code, output = run("list", *where)
    token_id = token.split("_")[1]
    (line,) = (line for line in output.splitlines() if line.startswith(token_id))
    assert [*line.split()[1:2], *line.split()[3:]] == ["admin", "valid", "ada"]
    assert token.split("_", 2)[2] not in output
    assert run("revoke", token_id, *where)[0] == 0
    assert "revoked" in run("list", *where)[1]
    with pytest.raises(Unauthenticated, match="revoked"):
        tokens.principal(f"Bearer {token}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", ""],
        ["create", "a\nb"],
        ["create", "x" * 101],
        ["create", "ada", "--role", "god"],
        ["create", "ada", "--expires-days", "-1"],
        ["revoke", "nothing"],
    ],
)
def test_nonsense_is_a_sentence(tmp_path: Path, arguments: list[str]) -> None:
    code, output = run(*arguments, "--tokens", str(tmp_path / "tokens.json"))
    assert code == 2
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "bearer x", "Bearer lab_\ud800_x", "Bearer " + "x" * 10**6]
)
def test_a_header_that_is_no_token_is_unauthenticated(tmp_path: Path, header: str) -> None:
    run("create", "ada", "--tokens", str(tmp_path / "tokens.json"))
    with pytest.raises(Unauthenticated):
        Tokens(tmp_path / "tokens.json").principal(header)
