"""What a page's file holds."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["contents_of", "unpacked"]


def contents_of(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What the page says, and its packed arrays by id."""
    text = path.read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="trace">(.*?)</script>', text, re.DOTALL)
    return json.loads(data), dict(re.findall(r'<script type="text/plain" id="(\w+)">(.*?)</script>', text))


def unpacked(spec: dict[str, Any], texts: dict[str, str]) -> np.ndarray:
    """The numbers of a packed array, as the page's own script reads them."""
    numbers = np.frombuffer(base64.b64decode(texts[spec["id"]]), "<i2").astype(float)
    if "scale" in spec:
        scale = np.array(spec["scale"])
        rows = numbers.reshape(-1, len(scale))
        return np.where(rows == -32768, np.nan, rows / 32767 * scale)
    rows = numbers.reshape(-1, spec["columns"])
    logs = spec["low"] + (np.abs(rows) - 1) / 32766 * (spec["high"] - spec["low"])
    return np.where(rows == 0, 0, np.where(rows == -32768, np.nan, np.sign(rows) * 2.0**logs))
