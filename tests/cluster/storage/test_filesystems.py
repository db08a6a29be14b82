from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import certifi
import pytest

from cluster import SourceError, Store

KILLED = """
import os, signal, sys
from pathlib import Path
from cluster import Storage
from cluster.storage.filesystems import s3_options
certificates = Path(sys.argv[1]).read_text()
assert Path(s3_options(Storage(certificates=certificates))["client_kwargs"]["verify"]).read_text() == certificates
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="files in memory are Linux's")
def test_a_killed_process_leaves_no_certificate_file(tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLED, certifi.where()]
    killed = subprocess.run(words, env=os.environ | {"TMPDIR": str(tmp_path)}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["nonsense", "gs"])
def test_an_unknown_scheme_is_named_in_the_error(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(SourceError, match=f"cannot open {scheme}:// URLs: .*({scheme}|gcsfs)"):
        Store(f"{scheme}://bucket/run").check_access()
