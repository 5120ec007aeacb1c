"""The bench `log` of arrakis-bench in MLflow's SQLite store: small runs written, listed and queried.

    pip install mlflow-skinny sqlalchemy alembic
    python scripts/peers/mlflow_log.py [--runs 10000]

Each run has five parameters, three metrics and one small JSON file, as there.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient


def report(what, times):
    times = sorted(times)
    most = times[len(times) * 99 // 100]
    print(f"{what:<46} median {statistics.median(times) * 1e3:9.3f} ms   99 % within {most * 1e3:9.3f} ms", flush=True)


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=10_000)
    arguments.add_argument("--folder", default=None, help="where the store is made; a folder on the disk to be measured")
    runs = (given := arguments.parse_args()).runs
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        folder = Path(folder).resolve()
        client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
        experiment = client.create_experiment("small", artifact_location=Path(folder, "artifacts").as_uri())

        def run(number):
            run_id = client.create_run(experiment).info.run_id
            now = int(time.time() * 1000)
            parameters = {"layer": number % 12, "head": number % 7, "rate": 0.1, "text": "a text", "number": number}
            value = number % 1000 / 1000
            metrics = [Metric(name, value, now, step) for step, name in enumerate(["loss", "accuracy", "gap"])]
            client.log_batch(run_id, metrics, [Param(name, str(value)) for name, value in parameters.items()])
            client.log_dict(run_id, {"result": [1.0, 2.0, 3.0]}, "result.json")
            client.set_terminated(run_id)

        run(0)
        report("logging a run", [timed(lambda: run(number)) for number in range(1, runs)])

        def pages(terms, order=None):
            found, token = [], None
            while True:
                page = client.search_runs([experiment], terms, max_results=50_000, order_by=order, page_token=token)
                found += page
                if not (token := page.token):
                    return found

        report("list", [timed(lambda: pages("")) for _ in range(5)])
        terms = "metrics.loss < 0.5 and attributes.status = 'FINISHED'"
        report("query", [timed(lambda: pages(terms, ["metrics.loss DESC"])) for _ in range(5)])
        print(f"{len(pages(terms))} of {runs} runs match {terms}; mlflow {mlflow.__version__}")


if __name__ == "__main__":
    main()
