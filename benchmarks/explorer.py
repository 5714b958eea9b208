"""How long a slider of the latent explorer takes to answer: from a key's press in the browser to the new image there.

    python benchmarks/explorer.py [RESULTS_DIR]      (needs Chromium; two minutes on an idle machine)

Serves the page as `make explore` does: over an empty folder of results, where it trains its own models first, then over finished runs,
where it turns a slider of each that has other nets than those before, and takes the README's image of the page.
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
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 120  # seconds
PRESSES = 50
SHOWN = "DenseVAE DenseLogReg on drawn digits"  # in the README's image of the page
PRESS = """key => new Promise((done, failed) => {
    const image = document.querySelector('img.first'), begun = performance.now()
    new MutationObserver(() => image.decode().then(() => done(performance.now() - begun))).observe(image, {attributes: true, attributeFilter: ['src']})
    setTimeout(() => failed('no answer'), 5000)
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))
})"""


def explore_options():
    """What `make explore` gives to Voila behind the notebook."""
    alone = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # perhaps it was make that called
    command = ["make", "--dry-run", "--assume-old=.venv/.ready", "explore"]
    lines = subprocess.run(
        command, cwd=ROOT, env=alone, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    [line] = [line for line in lines.replace("\\\n", " ").splitlines() if "voila" in line]
    return line.split()[2:]


@contextlib.contextmanager
def served(notebook, log):
    """The address of a notebook that Voila serves as a page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(log, "w") as file:
        command = [
            sys.executable,
            "-m",
            "voila",
            str(notebook),
            *explore_options(),
            "--no-browser",
            f"--port={port}",
        ]
        server = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
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
    """Milliseconds of each of so many presses of a key on the second latent's slider, to the right and back."""
    tab.locator(".d2lvae .noUi-handle").nth(1).focus()
    return [tab.evaluate(PRESS, key) for key in ("ArrowRight", "ArrowLeft") * (presses // 2)]


@contextlib.contextmanager
def opened(playwright, results_dir, folder):
    """The page over a folder of results, served and opened as `make explore` does, once its first image is there."""
    notebook = pathlib.Path(folder, "latent_explorer.ipynb")
    papermill.execute_notebook(
        ROOT / "notebooks" / notebook.name,
        notebook,
        {"results_dir": str(results_dir)},
        prepare_only=True,
        progress_bar=False,
    )
    with served(notebook, pathlib.Path(folder, "log")) as address, tab_of(
        playwright, address
    ) as tab:
        tab.wait_for_selector(".d2lvae img.first")
        yield tab


def answers_of_all_nets(tab):
    """Sorted milliseconds of each kind of nets; takes the README's image on the way."""
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
        print(
            f"{kind:60} {np.median(found[kind]):6.1f} ms, 9 of 10 below {np.quantile(found[kind], .9):6.1f}",
            flush=True,
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "results_dir",
        nargs="?",
        default="",
        help="where finished runs are; by default results/ of the project",
    )
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
