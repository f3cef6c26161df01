"""The tutorial's grid: four runs in one process, over the kernel sizes of the two convolutions.

    python examples/mnist_tuning.py

It reads MNIST from LAB_DATA_PATH, and downloads it if missing; `dataset=mnist_5k` on the command line
uses the 5,000 digits in the package.
"""

import itertools

from mnist_tutorial import Configs

from lab_core import experiment, tracker

KERNALS = [3, 5]


def run(hparams):
    """Train with these hyper-parameters and return the last value of each metric."""
    conf = Configs()
    experiment.create(name="mnist_tuning", writers={"sqlite", "tensorboard"})
    conf = experiment.calculate_configs(conf, hparams, ["set_seed", "main"], coerce_strings=True)
    experiment.add_pytorch_models({"model": conf.model})
    with experiment.start() as current:
        conf.main()
    return {"run": current.run_id, **tracker.last_values()}


def print_table(rows, columns):
    """Print rows as a table, numbers with four digits."""
    texts = [[f"{v:.4f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for line in [columns, *texts]:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def main(overrides=None):
    results = []
    for conv1_kernal, conv2_kernal in itertools.product(KERNALS, KERNALS):
        kernals = {"conv1_kernal": conv1_kernal, "conv2_kernal": conv2_kernal}
        results.append({**kernals, **run({**(overrides or {}), **kernals})})

    columns = ["run", "conv1_kernal", "conv2_kernal", "train_loss", "test_loss", "accuracy"]
    results.sort(key=lambda result: result["accuracy"], reverse=True)
    print_table([[result[column] for column in columns] for result in results], columns)
    return results


if __name__ == "__main__":
    experiment.run_script(main)
