"""docs/report.png and docs/report-dark.png: the first screen of the practice study's report, light and dark.

make pictures                                       # runs the practice study first (minutes)
python scripts/pictures.py --run runs/practice      # of a finished run
python scripts/pictures.py --run RUN --out FOLDER
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

DOCS = Path(__file__).parents[1] / "docs"
WIDTH, HEIGHT = 1280, 800
NAMES = {"light": "report.png", "dark": "report-dark.png"}


def pictures(browser: Browser, run: Path, out: Path) -> None:
    """Writes one picture for each colour scheme, at one and a half times the pixels."""
    for scheme, name in NAMES.items():
        screen = {"width": WIDTH, "height": HEIGHT}
        page = browser.new_page(viewport=screen, device_scale_factor=1.5, color_scheme=scheme)  # type: ignore[arg-type]
        page.goto((run / "report" / "index.html").resolve().as_uri())
        page.wait_for_selector("body[data-ready=yes]", timeout=60_000)
        page.wait_for_timeout(300)
        page.screenshot(path=out / name)
        page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished run folder; without it the practice study is run")
    parser.add_argument("--out", type=Path, default=DOCS)
    asked = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise SystemExit("no Chromium on this machine; on Debian and Ubuntu: apt install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run = asked.run or Path(folder) / "practice"
        if asked.run is None:
            subprocess.run([sys.executable, "-m", "kiyas", "demo", "--runs", folder], check=True)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        pictures(browser, run, asked.out)
        browser.close()


if __name__ == "__main__":
    main()
