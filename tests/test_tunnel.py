"""The ssh line that is told to whoever started the studio on a far machine."""

from __future__ import annotations

import pytest

from glmstudio.ui.framework import tunnel


@pytest.mark.parametrize(
    ("variables", "over"),
    [
        ({}, False),
        ({"SSH_CONNECTION": ""}, False),
        ({"SSH_AUTH_SOCK": "/run/agent"}, False),  # the keys of somebody who sits here
        ({"SSH_CONNECTION": "198.51.100.7 50022 203.0.113.5 22"}, True),
        ({"SSH_CLIENT": "198.51.100.7 50022 22"}, True),
        ({"SSH_TTY": "/dev/pts/1"}, True),
    ],
)
def test_who_came_over_ssh_is_known_by_what_sshd_sets(variables: dict[str, str], over: bool) -> None:
    assert tunnel.over_ssh(variables) is over


@pytest.mark.parametrize(
    ("connection", "where"),
    [
        ("198.51.100.7 50022 203.0.113.5 22", "ann@203.0.113.5"),
        ("198.51.100.7 50022 203.0.113.5 2222", "-p 2222 ann@203.0.113.5"),
        ("2001:db8::7 50022 2001:db8::5 22", "ann@2001:db8::5"),
        ("fe80::7%eth0 50022 fe80::5%eth0 22", "ann@server"),
        ("127.0.0.1 50022 127.0.0.1 2222", "ann@server"),
        ("203.0.113.5 50022 203.0.113.5 22", "ann@server"),
        ("UNKNOWN 65535 UNKNOWN 65535", "ann@server"),
        ("198.51.100.7 50022 203.0.113.5", "ann@203.0.113.5"),
        ("198.51.100.7 1 203.0.113.5 22;reboot", "ann@203.0.113.5"),
        ("a b $(reboot) 22", "ann@server"),
        ("", "ann@server"),
    ],
)
def test_the_line_names_what_is_known(connection: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    told = tunnel.line_from_here(7861, {"SSH_CONNECTION": connection})

    assert told == f"ssh -L 7861:127.0.0.1:7861 {where}"


def test_a_user_without_a_name_is_called_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found: 12345")

    monkeypatch.setattr(tunnel.getpass, "getuser", nobody)

    assert tunnel.line_from_here(7860, {}) == "ssh -L 7860:127.0.0.1:7860 user@server"
