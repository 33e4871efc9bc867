"""The page in a real browser, where this machine has Chromium: at three widths, in frames, light and dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bakeoff.report.builder import write_report
from bakeoff.report.results import SweepResults

CHROMIUM = shutil.which("chromium")
QUIET = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync", "--enable-logging=stderr")
WIDTHS = (400, 1024, 1600)
NAME = "<script>alert(1)</script>_%{x}$^"
#: What a page in a frame tells the page around it, once all figures are drawn.
TELL = """<script>
const wait = setInterval(() => {
  if (!document.documentElement.hasAttribute("data-drawn")) return;
  clearInterval(wait);
  document.querySelector("a.data").click();
  setTimeout(() => parent.postMessage({
    width: innerWidth, wide: document.documentElement.scrollWidth, plots: document.querySelectorAll(".plot").length,
    drawn: document.querySelectorAll(".plot .main-svg").length, ticks: document.body.innerText.includes("<script>alert(1)"),
    out: [...document.querySelectorAll(".plot")].filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.id),
    csv: (document.querySelector("dialog pre") || {}).textContent || "", light: getComputedStyle(document.body).backgroundColor,
  }, "*"), 500);
}, 100);
</script>"""
AROUND = """<!DOCTYPE html><body data-seen="[]">%s<script>
addEventListener("message", (event) => {
  document.body.dataset.seen = JSON.stringify([...JSON.parse(document.body.dataset.seen), event.data]);
});
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_page_opens_at_every_width_without_errors(simulated: Callable[..., SweepResults], tmp_path: Path, scheme: str) -> None:
    effects = {NAME: 0.0, **{f"arm{i}": 0.01 * i for i in range(5)}}
    sweep = simulated(effects, rng=np.random.default_rng(5), blocks=("one", "two"), trials=5, seeds=4, curves=True)
    report = write_report(sweep, tmp_path / "report")
    text = report.page.read_text(encoding="utf-8")
    (tmp_path / "told.html").write_text(f"{TELL}</body>".join(text.rsplit("</body>", 1)), encoding="utf-8")
    frames = "".join(f'<iframe src="told.html" style="width:{w}px;height:900px"></iframe>' for w in WIDTHS)
    (tmp_path / "around.html").write_text(AROUND % frames, encoding="utf-8")
    command = [
        str(CHROMIUM), "--headless", *QUIET, f"--user-data-dir={tmp_path / 'profile'}", f"--blink-settings=preferredColorScheme={scheme}",
        "--virtual-time-budget=120000", "--dump-dom", f"file://{tmp_path / 'around.html'}",
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert not [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r'data-seen="([^"]*)"', ended.stdout)
    assert found is not None
    seen = json.loads(found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert sorted(one["width"] for one in seen) == list(WIDTHS)
    for one in seen:
        assert one["wide"] <= one["width"], "the page is wider than its window"
        assert one["out"] == []
        assert one["drawn"] >= one["plots"] > 10
        assert one["ticks"], "a name is shown as it is"
        assert one["csv"].startswith("block,arm,what,seed,score")  # in a frame the numbers are shown: it may not be allowed to download
        assert (one["light"] == "rgb(19, 21, 24)") == (scheme == "0")
