from __future__ import annotations

from cluster import Store
from ray_jobs.console.progress import Reporter
from ray_jobs.job_file.sections import StorageSection
from ray_jobs.output.run_lease import acquire_run
from tests.cluster.faulty import write_temporary_file


def test_who_holds_a_run_removes_what_killed_runs_left_there(tmp_path):
    store = Store(str(tmp_path))
    mine = [write_temporary_file(tmp_path / folder, 1e5) for folder in ("runs/a", "runs/a/lease")]
    others = write_temporary_file(tmp_path / "runs/b", 1e5)
    with acquire_run(store, "runs/a", StorageSection(), Reporter()):
        assert not any(path.exists() for path in mine)
    assert others.exists()
