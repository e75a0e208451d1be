"""Accessibility of a page in the browser: axe-core, which npm downloads once."""

import base64
import functools
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

__all__ = ["violations"]

PACKAGE, SHA512 = (
    "axe-core@4.14.1",
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
)
KEPT = Path(__file__).parents[1] / ".venv" / f"{PACKAGE}.js"


@functools.cache
def axe() -> str:
    """The source of axe-core; skips the test if it cannot be had."""
    if not KEPT.exists():
        npm = shutil.which("npm") or pytest.skip("there is no npm, with which axe-core is downloaded")
        with tempfile.TemporaryDirectory(dir=KEPT.parent) as folder:
            command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", folder]
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if ended.returncode:
                pytest.skip(f"{PACKAGE} cannot be downloaded: {ended.stderr.strip() or ended.stdout.strip()}")
            (packed,) = Path(folder).glob("*.tgz")
            assert base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode() == SHA512
            with tarfile.open(packed) as archive:
                file = archive.extractfile("package/axe.min.js")
                assert file is not None
                Path(folder, "axe.js").write_bytes(file.read())
            Path(folder, "axe.js").replace(KEPT)
    return KEPT.read_text(encoding="utf-8")


def violations(driver: Chrome, without: Sequence[str] = ()) -> list[str]:
    """What axe-core finds in the page, without its frames: the rule, and the element that breaks it.

    Args:
        driver: the browser, in which the page, or a frame of it, is open.
        without: rules that are not checked.
    """
    driver.execute_script(axe())
    script = "const [options, done] = arguments; axe.run(document, options).then((r) => done(r.violations))"
    options = {"iframes": False, "resultTypes": ["violations"], "rules": {rule: {"enabled": False} for rule in without}}
    found: list[dict[str, Any]] = driver.execute_async_script(script, options)
    return [
        f"{rule['id']}: {node['html'][:200]} ({node.get('failureSummary', '')[:300]})"
        for rule in found
        for node in rule["nodes"]
    ]
