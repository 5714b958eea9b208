"""How long a slider of the explorer's page takes to answer, in headless Chromium.

    python benchmarks/explorer.py [PAGE]      (by default docs/explorer.html; a minute when idle)

Measured in the page, from the slider's new value to the new image, code and probability of the net
that it turns, each a canvas that is read back, so that nothing is left undone.  It also takes the
README's screenshot, docs/explorer.png.
"""

import argparse
import contextlib
import json
import pathlib
import shutil

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
BROWSERS = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
CHROMIUM = next(filter(None, BROWSERS), None)
OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
MOVES = 50
MOVE = """moves => Array.from({length: moves}, (_, i) => {
    const slider = document.querySelectorAll('#sliders input')[1], begun = performance.now()
    slider.value = i % 2 ? 1 : -1
    slider.dispatchEvent(new Event('input'))
    const canvas = document.querySelector('.chosen > canvas')
    canvas.getContext('2d').getImageData(0, 0, 1, 1)
    return performance.now() - begun
})"""


@contextlib.contextmanager
def opened(page, width=1280, height=720, **options):
    """The page in a tab, as a file, and the addresses that it asks for besides itself."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        tab = browser.new_page(viewport={"width": width, "height": height}, **options)
        tab.requested, tab.errors = [], []
        tab.on("request", lambda request: tab.requested.append(request.url))
        tab.on("pageerror", lambda error: tab.errors.append(str(error)))
        tab.goto(pathlib.Path(page).resolve().as_uri())
        yield tab
        browser.close()


def answers(tab, moves=MOVES):
    """Sorted milliseconds of each move of the second slider, after some to get warm."""
    tab.evaluate(MOVE, 20)
    return sorted(round(time, 2) for time in tab.evaluate(MOVE, moves))


def answers_of_all_nets(tab):
    """Those of each net of each set of images, by their titles."""
    found = {}
    for chosen in tab.locator("#sets button").all():
        chosen.click()
        for net in tab.locator("#stage .net label").all():
            net.click()
            name = f"{chosen.inner_text()}: {net.inner_text().strip()}"
            found[name] = answers(tab)
            median, most = np.quantile(found[name], [0.5, 0.9])
            print(f"{name:50} {median:6.1f} ms, 9 of 10 below {most:6.1f}", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", default=ROOT / "docs" / "explorer.html")
    page = parser.parse_args().page
    from train_step import RESULTS, machine

    with opened(page) as tab:
        tab.locator("#sets button").last.click()
        tab.wait_for_timeout(3000)
        tab.screenshot(path=ROOT / "docs" / "explorer.png")
        found = answers_of_all_nets(tab)
    record = {"machine": machine(), "page": pathlib.Path(page).name, "milliseconds": found}
    (RESULTS / "explorer.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
