"""Search for better configs than the tutorial's: 20 trials of MNIST, and a plot of them.

    lab-server serve                # in another terminal
    python examples/search.py       # some minutes on two cores

The tutorial trains with its defaults; the search tries learning rates, momenta and kernels by TPE with
successive halving, on the 5,000 digits that the package has with it. Needs the extra [plot].
"""

from __future__ import annotations

import argparse

from lab_client import Client, Halving, choice, log_uniform, uniform

SPACE = {
    "learning_rate": log_uniform(1e-3, 1e-1),
    "momentum": uniform(0.0, 0.95),
    "conv1_kernal": choice(3, 5),
    "conv2_kernal": choice(3, 5),
}


def main() -> None:
    """Train the tutorial's configs, search, and compare."""
    parser = argparse.ArgumentParser(description="Search for better configs than the tutorial's.")
    parser.add_argument("--trials", type=int, default=20, help="how many configs to try")
    parser.add_argument(
        "--epochs", type=int, default=4, help="passes over the data of a whole trial"
    )
    parser.add_argument("--plot", default="search.png", help="the file to draw to")
    arguments = parser.parse_args()
    data = {"dataset": "mnist_5k", "epochs": arguments.epochs}
    with Client() as client:
        tutorial = client.create("mnist", data, name="tutorial").start()
        study = client.search(
            "mnist",
            SPACE | data,
            maximize="accuracy",
            max_trials=arguments.trials,
            parallel=2,
            halving=Halving(min_steps=63, eta=3),  # an epoch: where the accuracy is measured
            seed=1,
            name="better-than-the-tutorial",
        )
        print(f"search {study.id}; watch it with: lab search-watch {study.id}")
        study.wait(progress=True, check=True)
        before = tutorial.wait(check=True).metrics["accuracy"]
        best = study.best
        assert best is not None, "a search that completed has a best trial"
        print(f"the tutorial's configs: {before:.3f}")
        print(
            f"the best of {study.info.num_trials} trials: {best.value:.3f} with {dict(best.params)}"
        )
        print(f"run {best.run_id}, {study.info.num_steps} steps in all")
        study.plot().savefig(arguments.plot)
        print(f"plot: {arguments.plot}")


if __name__ == "__main__":
    main()
