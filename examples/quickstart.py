"""Train MNIST on a lab-server: plan, start, watch, show the result.

lab-server serve                 # on the machine that trains
python examples/quickstart.py    # anywhere; LAB_SERVER is the server's address
"""

from __future__ import annotations

import lab_client

CONFIGS = {"dataset": "mnist_5k", "epochs": 1, "learning_rate": 0.05, "momentum": 0.9}

with lab_client.Client() as client:
    plan = client.plan("mnist", CONFIGS)  # runs nothing; invalid configs raise ConfigError
    print("hyper-parameters:", plan.hyperparams)

    run = client.create("mnist", CONFIGS, name="quickstart", tags=["example"]).start()
    for point in run.metrics(names="train_loss", every=20):
        print(f"step {point.step:4d}  loss {point.values['train_loss']:.4f}")

    info = run.wait(check=True)
    print(f"{info.state}: accuracy {info.metrics['accuracy']:.4f} after {info.step} steps")
    print("files:", *(item.path for item in run.artifacts()))
