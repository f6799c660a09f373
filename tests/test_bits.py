"""The bits of small trainings, as they were: a change of the engine that is not meant to change sums leaves them alone.

Another compiler may contract other products, so the hashes hold for the one that made them, and the test is skipped for
others. `python tests/test_bits.py` writes them anew, which a change that alters the order of a sum does, and says so.
"""

import hashlib
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp import SGD, Adam, AdamW
from fastmlp.engine import table

FILE = Path(__file__).with_name("bits.json")
RUNS = [name for name, runs in table.isas().items() if runs]

# name: layer sizes, activation, loss, optimizer, rows, batch size, density of X, kind of X and targets
JOBS = {
    "dense": ((70, 130, 65, 7), "relu", "cross_entropy", Adam(), 500, 64, 1.0, "labels"),
    "listed": ((300, 256, 130, 10), "relu", "cross_entropy", Adam(), 700, 100, 0.2, "labels"),
    "large batch": ((300, 256, 130, 10), "relu", "cross_entropy", AdamW(), 700, 700, 0.2, "labels"),
    "sparse": ((2000, 100, 5), "relu", "cross_entropy", AdamW(), 400, 64, 0.02, "csr weighted"),
    "values": ((28, 100, 90, 3), "tanh", "squared_error", SGD(momentum=0.9), 300, 50, 1.0, "values"),
    "yes or no": ((130, 70, 4), "logistic", "binary_cross_entropy", SGD(momentum=0.9, nesterov=True), 300, 50, 0.5, ""),
    "chained": ((20, 64, 32, 3), "relu", "cross_entropy", Adam(), 900, 300, 1.0, "labels weighted"),
    "chained, plain": ((4, 32, 16, 4), "identity", "cross_entropy", SGD(), 2000, 700, 1.0, "probabilities"),
}


def trained(name, n_threads):
    """Return the parameters, as bytes, after two epochs of a job."""
    sizes, activation, loss, optimizer, n, batch_size, density, kind = JOBS[name]
    rng = np.random.default_rng(list(JOBS).index(name))
    X = rng.integers(-8, 9, (n, sizes[0])).astype(np.float32) / 8 * (rng.random((n, sizes[0])) < density)
    shape = (n, sizes[-1])
    if "labels" in kind or "csr" in kind:
        y = rng.integers(shape[1], size=n)
    elif kind == "probabilities":
        y = np.eye(shape[1], dtype=np.float32)[rng.integers(shape[1], size=n)] / 2 + np.float32(0.5 / shape[1])
    else:
        y = rng.integers(0, 2, shape).astype(np.float32)
    if "csr" in kind:
        X = pytest.importorskip("scipy.sparse").csr_array(X)
    net = fastmlp.MLP(sizes, activation=activation, loss=loss, seed=1, n_threads=n_threads)
    net.parameters[:] = np.concatenate(
        [rng.integers(-128, 129, (k + 1) * m) / (64 * np.sqrt(k + 1)) for k, m in pairwise(sizes)]
    )
    sample_weight = rng.integers(0, 4, n) if "weighted" in kind else None
    net.fit(X, y, epochs=2, batch_size=batch_size, optimizer=optimizer, sample_weight=sample_weight, verbose=False)
    return net.parameters.tobytes()


def hashes(n_threads=1):
    return {name: hashlib.sha256(trained(name, n_threads)).hexdigest()[:16] for name in JOBS}


@pytest.mark.parametrize("isa", RUNS)
def test_the_bits_are_those_of_before(isa, run_python):
    known = json.loads(FILE.read_text())
    if known["compiler"] != table.COMPILER:
        pytest.skip(f"the bits are known for {known['compiler']}, this build is by {table.COMPILER}")
    finished = run_python([__file__, "1", "2"], env={"FASTMLP_ISA": isa})
    assert finished.returncode == 0, finished.stderr
    for computed in finished.stdout.splitlines():  # with one thread, and with two
        assert json.loads(computed) == known[isa]


def test_other_rows_have_other_bits():
    name = next(iter(JOBS))
    net = fastmlp.MLP(JOBS[name][0], seed=1)
    assert net.parameters.tobytes() != trained(name, 1)


def write(run):
    found = {isa: json.loads(run(isa)) for isa in RUNS}
    FILE.write_text(json.dumps({"compiler": table.COMPILER, **found}, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        for count in sys.argv[1:]:
            print(json.dumps(hashes(int(count))))
    else:
        import os
        import subprocess

        write(
            lambda isa: (
                subprocess.run(
                    [sys.executable, __file__, "1"],
                    env={**os.environ, "FASTMLP_ISA": isa},
                    stdout=subprocess.PIPE,
                    check=True,
                ).stdout
            )
        )
