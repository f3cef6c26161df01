"""Slots: what can be asked for, and who gets which."""

from __future__ import annotations

import pytest

from lab_core.errors import ConfigError, SettingsError
from lab_server.model.slot import (
    MAX_SLOTS,
    Slot,
    Wants,
    agent_of,
    device_of,
    num_threads_each,
    parse_slots,
)
from lab_server.supervisor.slot_table import SlotTable


def table_of(text: str) -> SlotTable:
    return SlotTable(lambda: parse_slots(text))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cpu", ["cpu:0"]),
        ("cpu:3", ["cpu:0", "cpu:1", "cpu:2"]),
        ("cuda:1", ["cuda:1"]),
        ("cuda:0, cuda:1*2", ["cuda:0", "cuda:1#0", "cuda:1#1"]),
        ("cuda:0,cpu:1", ["cuda:0", "cpu:0"]),
        ("none", []),
    ],
)
def test_a_text_says_the_slots(text: str, names: list[str]) -> None:
    assert [slot.name for slot in parse_slots(text)] == names


def test_the_shares_of_a_gpu_are_on_that_gpu() -> None:
    assert {slot.device for slot in parse_slots("cuda:1*3")} == {"cuda:1"}


@pytest.mark.parametrize(
    "text",
    ["", "gpu:0", "cpu:0", "cpu:-1", "cpu:x", "cuda", "cuda:0*0", "cuda:0,cuda:0", "cpu:1,cpu:2"],
)
def test_another_text_is_refused_with_what_to_say_instead(text: str) -> None:
    with pytest.raises(SettingsError, match="cpu:N"):
        parse_slots(text)


def test_there_may_not_be_countless_slots() -> None:
    with pytest.raises(SettingsError, match=str(MAX_SLOTS)):
        parse_slots("cpu:9999")


def test_a_request_fits_its_device_its_kind_or_any() -> None:
    slot = Slot("cuda:1#0", "cuda:1")
    assert [Wants(device).fit(slot) for device in ("", "cuda", "cuda:1", "cuda:0", "cpu")] == [
        *(True, True, True, False, False)
    ]


def test_a_request_for_a_pool_fits_its_slots_alone_and_one_for_none_any() -> None:
    own, remote = Slot("cpu:0", "cpu"), Slot("gpus/a/cpu:0", "cpu", "gpus")
    assert [Wants(pool="gpus").fit(slot) for slot in (own, remote)] == [False, True]
    assert [Wants().fit(slot) for slot in (own, remote)] == [True, True]


def test_the_name_of_a_slot_says_its_device_and_its_agent() -> None:
    names = ("cpu:3", "cuda:1#0", "gpus/node-1/cuda:0#1", "gpus/node-1/cpu:2")
    assert [device_of(name) for name in names] == ["cpu", "cuda:1", "cuda:0", "cpu"]
    assert [agent_of(name) for name in names] == ["", "", "node-1", "node-1"]


def test_a_slot_is_one_runs_until_it_is_released() -> None:
    table = table_of("cpu:1,cuda:0")
    taken = table.find_free(Wants())
    assert taken is not None
    table.take(taken.name, "a")
    assert [run_id for _, run_id in table] == ["a", ""]
    assert table.find_free(Wants("cpu")) is None
    assert table.take(taken.name, "b") is None
    table.release(taken.name, "a")
    assert table.find_free(Wants("cpu")) == taken


def test_runs_have_slots_by_name_and_free_none_but_their_own() -> None:
    table = table_of("cuda:0,cpu:2")
    for name, run in (("cpu:1", "c"), ("cpu:0", "b"), ("cuda:0", "a")):
        taken = table.take(name, f"run-{run}")
        assert taken is not None
        assert taken.name == name
    assert [run_id for _, run_id in table] == ["run-a", "run-b", "run-c"]
    assert [table.take("cpu:0", f"run-{run}") is None for run in "abc"] == [True, False, True]
    table.release("cpu:0", "run-c")
    assert [run_id for _, run_id in table] == ["run-a", "run-b", "run-c"]
    table.release("cpu:0", "run-b")
    assert [run_id for _, run_id in table] == ["run-a", "", "run-c"]


def test_the_threads_of_a_trainer_are_those_of_its_share_of_all_slots() -> None:
    assert table_of("cpu:2").num_threads == num_threads_each(2)


def test_a_slot_that_is_no_more_cannot_be_taken() -> None:
    assert table_of("cpu:1").take("cuda:7", "a") is None


def test_a_device_that_no_slot_has_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="'cuda:2'; it has cpu, cuda:0"):
        table_of("cpu:2,cuda:0").check(Wants("cuda:2"))


def test_the_threads_are_shared_out_and_each_gets_one_at_least() -> None:
    assert num_threads_each(1) >= num_threads_each(2) >= num_threads_each(10_000) == 1


def test_a_slot_of_an_agent_that_is_away_stays_its_runs() -> None:
    slots: list[Slot] = []
    table = SlotTable(lambda: slots)
    table.keep("gpus/a/cpu:0", "run-a")
    slots.append(Slot("gpus/a/cpu:0", "cpu", "gpus"))
    assert table.find_free(Wants()) is None
    assert [run_id for _, run_id in table] == ["run-a"]


def test_a_run_that_no_slot_can_have_now_is_told_why() -> None:
    slots = [Slot("gpus/a/cpu:0", "cpu", "gpus"), Slot("gpus/b/cpu:0", "cpu", "gpus")]
    table = SlotTable(lambda: slots, lambda slot, wants: f"{slot.name[5]} lacks {wants.experiment}")
    assert table.find_free(Wants(experiment="x")) is None
    assert table.why_waits(Wants(experiment="x")) == "a lacks x; b lacks x"
    assert "no agent with such a slot" in table.why_waits(Wants(pool="others"))


def test_a_run_that_waits_for_others_to_end_is_told_nothing_more() -> None:
    table = table_of("cpu:1")
    table.take("cpu:0", "run-a")
    assert table.why_waits(Wants()) == ""


def test_where_no_slot_is_yet_any_device_may_come() -> None:
    SlotTable(tuple).check(Wants("cuda"))


HERE, THERE = Slot("cpu:0", "cpu"), Slot("agents/a1/cpu:0", "cpu", "agents")


WILLING = Slot("agents/b1/cpu:0", "cpu", "agents")
REFUSING = Slot("agents/b2/cpu:0", "cpu", "agents", takes_uploads=False)


def test_code_that_a_client_sent_gets_slots_of_agents_that_take_it() -> None:
    sent = Wants(is_upload=True)
    table = SlotTable(lambda: (REFUSING, WILLING))
    table.check(sent)
    assert table.find_free(Wants()) == REFUSING
    assert table.find_free(sent) == WILLING
    table.take(WILLING.name, "r1")
    assert table.find_free(sent) is None
    assert table.why_waits(sent) == ""


@pytest.mark.parametrize("pool", ["", "agents"])
def test_code_that_a_client_sent_is_refused_where_no_agent_takes_any(pool: str) -> None:
    other = Slot("agents/b3/cpu:0", "cpu", "agents", takes_uploads=False)
    table = SlotTable(lambda: (REFUSING, other))
    sent = Wants(pool=pool, is_upload=True)
    problem = "agents b2, b3 run no code that clients send; --allow-uploads of lab-agent"
    with pytest.raises(ConfigError, match=problem):
        table.check(sent)
    assert problem in table.why_waits(sent)
    table.check(Wants(pool=pool))
    with pytest.raises(ConfigError, match="has no slot on device 'cuda'; it has cpu"):
        table.check(Wants("cuda", pool, is_upload=True))


def test_code_that_a_client_sent_waits_for_agents_to_come() -> None:
    table = SlotTable(lambda: ())
    sent = Wants(pool="agents", is_upload=True)
    table.check(sent)
    assert table.why_waits(sent) == "no agent with such a slot is attached in pool 'agents'"
