"""What a pattern matches: the cases that client, server and tracker must agree on."""

from __future__ import annotations

# pattern, name, whether it matches
CASES = [
    ("loss", "loss", True),
    ("loss", "train_loss", False),
    ("loss", "Loss", False),
    ("*_loss", "train_loss", True),
    ("*_loss", "train_loss_sum", False),
    ("*", "any.name[0]", True),
    ("layers[0].w", "layers[0].w", True),  # a name matches itself, brackets or not
    ("layers[0].w", "layers0.w", False),
    ("layers[01].w", "layers0.w", False),  # brackets are no set of characters
    ("layers[*].w", "layers[10].w", True),
    ("layers[!0].w", "layers[!0].w", True),
    ("layers[!0].w", "layers1.w", False),
    ("[", "[", True),
    ("a]b", "a]b", True),
    ("a.b", "axb", False),
]
# `?` is one character in requests; to the tracker it is a character as any other.
CASES_OF_REQUESTS = [
    ("test_????", "test_loss", True),
    ("test_????", "test_acc", False),
    ("layers[?].w", "layers[7].w", True),
    ("ok?", "ok?", True),
]
