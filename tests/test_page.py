"""The explorer's page: its nets against MXNet's in headless Chromium, and what each part does."""

import base64
import json
import pathlib
import shutil
import subprocess
import sys

import d2lvae
import mxnet as mx
import numpy as np
import pytest
from d2lvae.demo import latents, page, saved_runs, small_runs
from d2lvae.demo.page import PageError, packed
from PIL import Image
from test_explorer import a_run, begun, mine, results  # noqa: F401

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import explorer as benchmark

in_chromium = pytest.mark.skipif(
    benchmark.CHROMIUM is None, reason="no Chromium here (apt-get install chromium)"
)
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
COMMITTED = ROOT / "docs" / "explorer.html"


def data_of(path):
    """What a page has of sets and nets."""
    text = pathlib.Path(path).read_text()
    return json.loads(text.split('type="application/json">')[1].split("</script>")[0])


def numbers(text, kind=np.float32):
    return np.frombuffer(base64.b64decode(text), kind)


@pytest.fixture(scope="module")
def written(results, tmp_path_factory, another_device):  # noqa: F811
    """A page of small runs on digits and on faces, with some life in their new weights."""
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    return path, page.write_page(saved_runs.finished_runs(results), path)


@pytest.fixture(scope="module")
def tab(written):
    pytest.importorskip("playwright.sync_api")
    with benchmark.opened(written[0]) as opened:
        yield opened
        assert opened.errors == []
        others = [url for url in opened.requested if not url.startswith(("file:", "blob:"))]
        assert others == [], "nothing is asked from the network"


def unpacked(matrix, columns):
    three = numbers(matrix["packed"], np.uint8).reshape(-1, 3).astype(int)
    pairs = np.stack(
        [three[:, 0] | (three[:, 1] & 15) << 8, three[:, 1] >> 4 | three[:, 2] << 4], 1
    )
    scales = numbers(matrix["scales"])
    whole = pairs.ravel()[: len(scales) * columns].reshape(-1, columns)
    return np.where(whole > 2047, whole - 4096, whole) * scales[:, None]


@pytest.mark.parametrize("shape", [(4, 6), (3, 5)])
def test_packed_numbers_are_near_in_each_row(shape):
    matrix = np.random.default_rng(0).standard_normal(shape) * np.logspace(-3, 3, shape[0])[:, None]
    difference = np.abs(unpacked(packed(matrix), shape[1]) - matrix)
    assert (difference <= np.abs(matrix).max(axis=1, keepdims=True) / 2047 * 0.501).all()


def test_the_page_has_the_newest_run_of_each_kind_and_needs_nothing_else(written, results):  # noqa: F811
    path, shown = written
    text = path.read_text()
    assert path.stat().st_size < page.MOST_BYTES
    assert "src=" not in text and "href=" not in text and "default-src 'none'" in text
    sets = data_of(path)
    assert [each["title"] for each in sets] == ["synthetic digits", "synthetic faces"]
    kinds = [[net["title"] for net in each["nets"]] for each in sets]
    assert kinds == [["plain VAE", "VAE + discriminator"], ["plain VAE"]]
    assert [folder.parent.name.split("_on")[0] for folder in shown] == [
        "DenseVAE",
        "DenseVAE_DenseLogReg",
        "ConvVAE",
    ]
    assert sets[0]["discriminator"] and sets[1]["discriminator"] is None
    run = saved_runs.load_run(shown[2])
    net = sets[1]["nets"][0]
    mean, covariance = run.vae.codes
    factor = unpacked(net["spread"], run.vae.num_latents)
    np.testing.assert_allclose(numbers(net["mean"]), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=2e-3 * covariance.max())


COMPUTE = """([set, net, codes]) => {
    chooseSet(SETS[set])
    const show = image => [...image].map(value => Math.floor(255 * value + .5))
    return {
        decoded: codes.map(code => show(decode(SETS[set].nets[net], Float32Array.from(code)))),
        encoded: [0, 1, 2].map(i => [...encode(SETS[set].nets[net], example(i))]),
        real: SETS[set].judge && [0, 1, 2].map(i => probabilityReal(SETS[set].judge, example(i))),
    }
}"""


def compare(tab, set_number, net_number, run):
    """The page's numbers and MXNet's; returns the largest difference of the images."""
    vae, disc = run.vae, run.discriminator
    codes = latents.encode(vae, run.images.validation[:6])
    codes = np.concatenate([codes, np.random.default_rng(0).standard_normal(codes.shape)])
    found = tab.evaluate(COMPUTE, [set_number, net_number, codes.tolist()])
    np.testing.assert_allclose(found["encoded"], codes[:3], atol=0.01, rtol=0.01)
    if disc is not None:
        batch = page.seen(run)  # not below, where the decoder's BatchNorms would train as well
        with mx.autograd.train_mode():  # BatchNorm with the minibatch's statistics
            expected = disc(batch).sigmoid().asnumpy()[:3]
        np.testing.assert_allclose(found["real"], expected, atol=0.003)
    expected = latents.decode(vae, codes).reshape(len(codes), -1).astype(int)
    return np.abs(np.array(found["decoded"]) - expected).max()


@in_chromium
def test_the_nets_compute_what_mxnet_does(tab, written):
    """At most 2 of 255 grey levels apart."""
    for place, folder in zip([(0, 0), (0, 1), (1, 0)], written[1]):
        run = saved_runs.load_run(folder)
        assert compare(tab, *place, run) <= 2


@in_chromium
@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_convolutions_and_batchnorms_with_statistics(tab, tiny_faces, tmp_path, upsampling):
    """Every BatchNorm has statistics, factors and shifts of its own."""
    vae = begun(d2lvae.ConvVAE(12, 4, (3, 32, 32), upsampling))
    disc, rng = begun(d2lvae.ConvDisc(4, (3, 32, 32))), np.random.default_rng(0)
    for net in (vae, disc):
        for name, parameter in net.collect_params().items():
            if name.endswith(("gamma", "running_var")):
                parameter.set_data(mx.nd.array(rng.uniform(0.5, 2, parameter.shape)))
            elif name.endswith(("beta", "running_mean", "bias")):
                parameter.set_data(mx.nd.array(rng.normal(0, 0.3, parameter.shape)))
    folder = a_run(tmp_path / "run", vae, tiny_faces, keep=True)
    d2lvae.save_net(folder / "disc.npz", disc)
    run = saved_runs.load_run(folder, tiny_faces)
    made = page.set_for_page({"adversarial": run})
    made["nets"] = [page.net_for_page(run, "adversarial")]
    number = tab.evaluate("set => SETS.push(set) - 1", made)
    assert compare(tab, number, 0, run) <= 2


@pytest.mark.skipif(FIREFOX is None, reason="no Firefox here (apt-get install firefox-esr)")
def test_firefox_computes_the_same(written, tmp_path):
    """A copy of the page compares its images with MXNet's, and turns green; then it is looked at."""
    run = saved_runs.load_run(written[1][2])
    codes = latents.encode(run.vae, run.images.validation[:3])
    expected = latents.decode(run.vae, codes).reshape(3, -1)
    copy = tmp_path / "copy.html"
    script = f"""<script>
        const asked = {json.dumps([1, 0, codes.tolist()])}, expected = {expected.tolist()}
        const far = ({COMPUTE})(asked).decoded.flatMap((image, i) =>
            image.filter((value, j) => Math.abs(value - expected[i][j]) > 2))
        document.body.remove()
        document.documentElement.style.background = far.length ? "#f00" : "#0f0"
    </script>"""
    copy.write_text(written[0].read_text().replace("</html>", script + "</html>"))
    shot = tmp_path / "shot.png"
    (tmp_path / "profile").mkdir()
    command = [FIREFOX, "--headless", "--no-remote", "--profile", tmp_path / "profile"]
    command += ["--window-size", "200,200", "--screenshot", shot, copy.as_uri()]
    subprocess.run(command, timeout=120, check=True, stderr=subprocess.DEVNULL)
    with Image.open(shot) as image:
        assert image.convert("RGB").getpixel((100, 100)) == (0, 255, 0)


@in_chromium
def test_the_committed_page_is_whole(tab):
    committed = tab.context.browser.new_page()
    committed.goto(COMMITTED.as_uri())
    titles = committed.locator("#sets button").all_inner_texts()
    assert titles == ["synthetic digits", "synthetic faces"]
    assert [committed.evaluate("i => SETS[i].nets.length", i) for i in (0, 1)] == [2, 3]
    committed.close()
    assert COMMITTED.stat().st_size <= page.MOST_BYTES
    text = COMMITTED.read_text()
    for name in ("page.css", "net.js", "gif.js", "page.js"):
        assert (page.WEB / name).read_text() in text, "write it anew: make page"


PIXELS = """number => {
    const canvas = document.querySelectorAll('#stage canvas')[number]
    return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]
}"""
IMAGES = {"input": 0, "plain": 1, "adversarial": 3}  # each net has its code's strip behind


def pixels(tab, name):
    return np.array(tab.evaluate(PIXELS, IMAGES[name])).reshape(-1, 4)[:, 0]


@pytest.fixture
def digits(tab):
    """The page on digits, at its first image."""
    tab.evaluate("chooseSet(SETS[0])")
    return tab


@in_chromium
def test_a_drawing_is_answered_during_the_stroke(digits):
    box = digits.locator("#pad").bounding_box()
    begun_with = pixels(digits, "plain")
    place = lambda x, y: (box["x"] + box["width"] * x, box["y"] + box["height"] * y)
    digits.mouse.move(*place(0.25, 0.2))
    digits.mouse.down()
    digits.mouse.move(*place(0.75, 0.2), steps=5)
    during = pixels(digits, "plain")
    digits.mouse.move(*place(0.45, 0.85), steps=5)
    digits.mouse.up()
    after = pixels(digits, "plain")
    assert (begun_with != during).any() and (during != after).any()
    drawn = np.array(digits.evaluate("[...state.image]")).reshape(28, 28)
    rows, columns = np.nonzero(drawn > 0.1)
    assert 19 <= rows.max() - rows.min() + 1 <= 21, "20 high, as MNIST's"
    centre = [np.average(np.arange(28), weights=drawn.sum(axis=axis)) for axis in (1, 0)]
    np.testing.assert_allclose(centre, 13.5, atol=0.6)
    net = digits.evaluate("state.set.nets.map((net, i) => [...encode(net, state.image)])[0]")
    np.testing.assert_allclose(digits.evaluate("[...state.codes[0]]"), net, atol=1e-6)
    digits.locator("#clear").click()
    assert digits.evaluate("state.image === null && strokes.length === 0")


@in_chromium
def test_a_finger_draws(tab, written):
    phone = tab.context.browser.new_page(viewport={"width": 400, "height": 800}, has_touch=True)
    phone.goto(written[0].as_uri())
    before = pixels(phone, "plain")
    box = phone.locator("#pad").bounding_box()
    touch = phone.context.new_cdp_session(phone)
    for name, x, y in (("touchStart", 60, 40), ("touchMove", 90, 90), ("touchMove", 90, 160)):
        points = [{"x": box["x"] + x, "y": box["y"] + y}]
        touch.send("Input.dispatchTouchEvent", {"type": name, "touchPoints": points})
    during = pixels(phone, "plain")
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert (during != before).any() and phone.evaluate("strokes.flat().length") >= 3
    assert phone.evaluate("scrollY") == 0, "the page does not move along"
    last = phone.locator("#stage .net").last.bounding_box()
    assert last["y"] + last["height"] < 800, "the drawing and the results are seen together"
    phone.close()


@in_chromium
def test_a_slider_turns_the_chosen_net_only(digits):
    assert digits.locator("#sliders input").count() == 5
    before = {name: pixels(digits, name) for name in IMAGES}
    slider = digits.locator("#sliders input").nth(1)
    slider.focus()
    for _ in range(10):
        digits.keyboard.press("ArrowRight")
    assert (pixels(digits, "adversarial") != before["adversarial"]).any()
    assert (pixels(digits, "plain") == before["plain"]).all()
    value = float(slider.input_value())
    assert digits.evaluate("state.codes[1][1]") == pytest.approx(value, abs=0.03)
    digits.locator("#stage .net label").first.click()
    slider.press("PageUp")
    assert (pixels(digits, "plain") != before["plain"]).any()
    assert (pixels(digits, "input") == before["input"]).all()


@in_chromium
def test_the_best_place_is_kept(digits):
    meter = digits.locator(".chosen .meter")
    real = lambda: digits.evaluate(
        "probabilityReal(state.set.judge, decode(chosenNet(), state.codes[state.net]))"
    )
    percents = []
    for value in (-3, 0, 3):
        digits.evaluate("value => slide(0, value)", value)
        percents.append(real())
    digits.evaluate(
        "([k, value]) => slide(k, value)", [0, [3, 0, -3][int(np.argmax(percents)) - 1]]
    )
    meter.locator("button").click()
    assert real() >= max(percents) - 0.006
    assert meter.locator("[role=meter]").get_attribute("aria-valuenow") == f"{100 * real():.0f}"


@in_chromium
def test_the_map_decodes_under_the_pointer_and_moves_two_latents(digits):
    digits.locator("#map").scroll_into_view_if_needed()
    box = digits.locator("#map").bounding_box()
    before = digits.evaluate("[...state.codes[1]]")
    x, y = box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.25
    digits.mouse.move(x, y)
    assert digits.locator("#lens").is_visible()
    assert digits.evaluate("[...state.codes[1]]") == before, "hovering moves nothing"
    digits.mouse.click(x, y)
    after = digits.evaluate("[...state.codes[1]]")
    np.testing.assert_allclose(after[:2], [1.5, 1.5], atol=0.05)
    np.testing.assert_allclose(after[2:], before[2:], atol=1e-6)
    digits.locator("#map").press("ArrowLeft")
    np.testing.assert_allclose(digits.evaluate("state.codes[1][0]"), after[0] - 0.2, atol=1e-3)
    digits.mouse.move(5, 5)
    assert not digits.locator("#lens").is_visible()


@in_chromium
def test_walk_samples_and_gif(digits):
    codes = "state.codes.map(code => [...code])"
    start, end = (
        digits.evaluate(f"state.set.nets.map(net => [...encode(net, example({i}))])")
        for i in (0, 1)
    )
    digits.locator("#way").fill("25")
    expected = [0.75 * np.array(a) + 0.25 * np.array(b) for a, b in zip(start, end)]
    np.testing.assert_allclose(digits.evaluate(codes), expected, atol=1e-5)
    digits.locator("#prior button").first.click()
    assert digits.locator("#input-note").inner_text() == "with mouse, finger or pen"
    np.testing.assert_allclose(*digits.evaluate(codes))  # of both nets the same
    digits.locator("#codes button").first.click()
    with digits.expect_download() as download:
        digits.locator("#gif").click()
    with Image.open(download.value.path()) as gif:
        assert gif.format == "GIF" and gif.size == (112, 112) and gif.n_frames == 32
        gif.seek(16)
        last = np.asarray(gif.convert("L"))[::4, ::4].ravel().astype(int)
    shown = digits.evaluate("[...decode(chosenNet(), walk.codes[1][state.net])]")
    assert np.abs(last - 255 * np.array(shown)).max() < 3


@in_chromium
def test_the_address_holds_the_state(digits, written):
    digits.evaluate("beginAt(3); slide(2, 1.25)")
    digits.wait_for_timeout(500)
    assert "#0,1,3," in digits.url
    codes = digits.evaluate("state.codes.map(code => [...code])")
    again = digits.context.browser.new_page()
    again.goto(digits.url)
    assert again.evaluate("state.number") == 3
    np.testing.assert_allclose(
        again.evaluate("state.codes.map(code => [...code])"), codes, atol=2e-4
    )
    for spoilt in ("7,x,99,spoilt", "length", "0,1,3,cut%2"):
        again.goto("about:blank")
        again.goto(f"{written[0].as_uri()}#{spoilt}")
        assert again.evaluate("state.number") == 0, f"{spoilt}: it begins at the beginning"
    again.close()


@in_chromium
def test_everything_has_a_name_and_fits(digits):
    nameless = """() => [...document.querySelectorAll('button, input, select, [tabindex]')].filter(part =>
        !(part.getAttribute('aria-label') || part.textContent.trim() || part.closest('label')))
        .map(part => part.outerHTML)"""
    for width, height in ((1280, 720), (400, 800)):
        digits.set_viewport_size({"width": width, "height": height})
        for number in range(2):
            digits.evaluate("number => chooseSet(SETS[number])", number)
            assert digits.evaluate(nameless) == []
            assert digits.evaluate("document.documentElement.scrollWidth") <= width
    digits.set_viewport_size({"width": 1280, "height": 720})


@in_chromium
def test_a_slider_answers_quickly(digits):
    """The machine may be busy with other tests; benchmarks/explorer.py measures."""
    assert 0 < np.median(benchmark.answers(digits, 16)) < 100


class Doubled(d2lvae.DenseVAE):
    """The page would not know of its `decode`."""

    def decode(self, latents):
        return super().decode(2 * latents)


def test_runs_that_cannot_be_shown_are_left_out_and_said(
    results,  # noqa: F811
    tiny,
    tmp_path,
    monkeypatch,
    capsys,
):
    monkeypatch.setattr(page, "MOST_BYTES", 1_500_000)
    folders = saved_runs.finished_runs(results)
    broken = tmp_path / "broken" / "images" / "nets" / "1"
    broken.mkdir(parents=True)
    (broken / "metrics.json").write_text((folders[-1] / "metrics.json").read_text())
    (broken / "vae.npz").write_bytes(b"no net")
    own = a_run(tmp_path / "own" / "images" / "nets" / "2", Doubled(2, 1, 4), tiny)
    shown = page.write_page([broken, own, *folders], tmp_path / "page.html")
    said = capsys.readouterr().out
    assert f"left out: {own}: the page cannot compute a Doubled" in said
    assert shown == [folders[-1]] + [f for f in shown[1:]]
    assert f"left out: {broken}" in said and "too big" in said
    assert (tmp_path / "page.html").stat().st_size <= 1_500_000
    with pytest.raises(PageError, match="no finished run here can be shown"):
        page.write_page([broken], tmp_path / "none.html")
    assert not (tmp_path / "none.html").exists()


def test_without_a_run_small_ones_are_trained_once(tmp_path, monkeypatch, capsys):
    few = {**small_runs.RECIPES[0][2], "num_train": 128, "epochs": 1}
    recipes = [(*recipe[:2], few, recipe[3]) for recipe in small_runs.RECIPES[:2]]
    monkeypatch.setattr(small_runs, "RECIPES", recipes)
    monkeypatch.setattr(sys, "argv", ["page", str(tmp_path / "a.html"), "--results", str(tmp_path)])
    page.main()
    printed = capsys.readouterr().out
    assert printed.count("epoch   0: ") == 2 and "a.html: " in printed
    assert [len(each["nets"]) for each in data_of(tmp_path / "a.html")] == [2]
    page.main()
    assert "epoch" not in capsys.readouterr().out, "they are finished now"
