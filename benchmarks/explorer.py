"""How long a slider of the latent explorer takes to answer.

    python benchmarks/explorer.py [RESULTS_DIR]      (needs Chromium; two minutes when idle)

Measured from a key's press in the browser to the new image there. The page is served as `make
explore` does: first over an empty folder of results, where it trains its own runs, then over
finished runs. It moves a slider for each kind of nets, and takes the README's screenshot.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import papermill

ROOT = pathlib.Path(__file__).resolve().parent.parent
BROWSERS = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
CHROMIUM = next(filter(None, BROWSERS), None)
OPTIONS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PATIENCE = 120  # seconds
PRESSES = 50
SHOWN = "DenseVAE DenseLogReg on drawn digits"  # in the README's screenshot
PRESS = """key => new Promise((done, failed) => {
    const image = document.querySelector('img.first'), begun = performance.now()
    const answered = () => image.decode().then(() => done(performance.now() - begun))
    new MutationObserver(answered).observe(image, {attributes: true, attributeFilter: ['src']})
    setTimeout(() => failed('no answer'), 5000)
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))
})"""


def explore_options():
    """What `make explore` gives to Voila behind the notebook."""
    # perhaps it was make that called
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "--dry-run", "--assume-old=.venv/.ready", "explore"]
    lines = subprocess.check_output(command, cwd=ROOT, env=clean, text=True)
    [line] = [line for line in lines.replace("\\\n", " ").splitlines() if "voila" in line]
    return line.split()[2:]


@contextlib.contextmanager
def served(notebook, log):
    """The address of a notebook that Voila serves as a page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    voila = [sys.executable, "-m", "voila", str(notebook), "--no-browser", f"--port={port}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(log, "w") as file:
        output = {"stdout": file, "stderr": subprocess.STDOUT}
        server = subprocess.Popen([*voila, *explore_options()], cwd=ROOT, env=env, **output)
    try:
        _wait_for(port, server, log)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait()


def _wait_for(port, server, log):
    for _ in range(PATIENCE * 5):
        if server.poll() is not None:
            break
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError(f"Voila does not serve: {pathlib.Path(log).read_text()[-3000:]}")


@contextlib.contextmanager
def tab_of(playwright, address):
    """A page on a small projector, once its images are there."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.set_default_timeout(PATIENCE * 1000)
    tab.goto(address)
    yield tab
    browser.close()


def answers(tab, presses=PRESSES):
    """Milliseconds of each press of a key that moves the second slider, to the right and back."""
    tab.locator(".d2lvae .noUi-handle").nth(1).focus()
    return [tab.evaluate(PRESS, key) for key in ("ArrowRight", "ArrowLeft") * (presses // 2)]


@contextlib.contextmanager
def opened(playwright, results_dir, folder):
    """The page over a folder of results, as `make explore` opens it, with its first image."""
    notebook, log = prepared(results_dir, folder), pathlib.Path(folder, "log")
    with served(notebook, log) as address, tab_of(playwright, address) as tab:
        tab.wait_for_selector(".d2lvae img.first")
        yield tab


def prepared(results_dir, folder):
    """A copy of the notebook in a folder, for the runs in `results_dir`."""
    notebook = pathlib.Path(folder, "latent_explorer.ipynb")
    original, parameters = ROOT / "notebooks" / notebook.name, {"results_dir": str(results_dir)}
    options = {"prepare_only": True, "progress_bar": False}
    papermill.execute_notebook(original, notebook, parameters, **options)
    return notebook


def answers_of_all_nets(tab):
    """Sorted milliseconds of each kind of nets; takes the README's screenshot on the way."""
    found, nets = {}, tab.locator("select").nth(0)
    for label in nets.locator("option").all_inner_texts():
        kind = label.replace("\xa0", " ").split(":")[0]
        if kind in found:
            continue
        nets.select_option(label=label)
        tab.wait_for_timeout(1000)
        tab.wait_for_selector("text=loading ...", state="detached")
        tab.wait_for_timeout(1000)
        if kind == SHOWN:
            tab.screenshot(path=ROOT / "results" / "explorer.png")
        found[kind] = [round(time, 1) for time in sorted(answers(tab))]
        median, most = np.quantile(found[kind], [0.5, 0.9])
        print(f"{kind:60} {median:6.1f} ms, 9 of 10 below {most:6.1f}", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    text = "where finished runs are; by default results/ of the project"
    parser.add_argument("results_dir", nargs="?", default="", help=text)
    results_dir = parser.parse_args().results_dir
    from playwright.sync_api import sync_playwright
    from train_step import RESULTS, machine

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        begun = time.perf_counter()
        with opened(playwright, pathlib.Path(folder, "no_results"), folder):
            first = round(time.perf_counter() - begun, 1)
        print(f"without a finished run: {first} s from the command to the first image", flush=True)
        with opened(playwright, results_dir, folder) as tab:
            found = answers_of_all_nets(tab)
    record = {"machine": machine(), "seconds_to_train_and_show": first, "milliseconds": found}
    (RESULTS / "explorer.json").write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
