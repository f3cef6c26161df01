"""Whether a slot was ever given twice, from two logs: what the store was told, and what the trainers saw."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

GRANTS_IN_SQLITE = """
CREATE TABLE grants (number INTEGER PRIMARY KEY, run TEXT, attempt INTEGER, slot TEXT);
CREATE TRIGGER note_grant AFTER UPDATE OF slot ON runs WHEN OLD.slot <> NEW.slot BEGIN
  INSERT INTO grants (run, attempt, slot) VALUES (NEW.id, NEW.attempt, NEW.slot);
END;
"""
GRANTS_IN_POSTGRESQL = """
CREATE TABLE {schema}.grants (number serial PRIMARY KEY, run text, attempt int, slot text);
CREATE FUNCTION {schema}.note_grant() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF OLD.slot <> NEW.slot THEN
    INSERT INTO {schema}.grants (run, attempt, slot) VALUES (NEW.id, NEW.attempt, NEW.slot);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER note_grant AFTER UPDATE ON {schema}.runs
  FOR EACH ROW EXECUTE FUNCTION {schema}.note_grant();
"""
"""Notes each slot that a run is given, and "" when it has none any more, in the commit that says so."""

GRANTS = "SELECT run, attempt, slot FROM {schema}grants ORDER BY number"


def granted_twice(grants: Iterable[tuple[str, int, str]]) -> list[str]:
    """Return which slots were given to a run while another one had them."""
    problems = []
    slot_of: dict[str, str] = {}
    for run, attempt, slot in grants:
        slot_of.pop(run, None)
        if not slot:
            continue
        problems += [
            f"{slot} was given to attempt {attempt} of {run} while {other} had it"
            for other, held in slot_of.items()
            if held == slot
        ]
        slot_of[run] = slot
    return problems


def trained_twice(log: Path) -> tuple[Counter[str], list[str]]:
    """Return what trainers wrote into their log: how many there were, and what they found taken.

    See `chaos_experiment.note_launch`.
    """
    problems = []
    counts: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        launch = json.loads(line)
        counts["trainers launched"] += 1
        problems += [
            f"a trainer of {launch['run']} began at {launch['place']} while its {taken} was taken"
            for taken in launch["taken"]
        ]
    return counts, problems
