"use strict";
// The page: what is chosen and moved, and what is drawn of it. The nets compute in net.js.

const SETS = JSON.parse(document.getElementById("data").textContent);
const element = id => document.getElementById(id);
const state = {set: null, net: 0, image: null, number: -1, codes: [], best: null};
const PEN = 2, FINE = 8, REACH = 3; // pixels of 28; drawn so many times larger; a slider's end

function make(tag, parent, properties = {}, label) {
  const made = parent.appendChild(Object.assign(document.createElement(tag), properties));
  if (label) made.setAttribute("aria-label", label);
  return made;
}

const press = (buttons, chosen) =>
  buttons.forEach((button, i) => button.setAttribute("aria-pressed", i === chosen));

// Numbers from 0 to 1 of an image (channels, height, width) into a part of a canvas
function paint(canvas, image, left = 0, top = 0) {
  const [channels, height, width] = state.set.shape, size = height * width;
  const data = new ImageData(width, height);
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++)
      data.data[4 * i + c] = Math.floor(255 * image[(channels === 3 ? c : 0) * size + i] + .5);
    data.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(data, left, top);
}

function canvasFor(parent, columns = 1, rows = 1) {
  const [, height, width] = state.set.shape;
  return make("canvas", parent, {width: columns * width, height: rows * height});
}

// Long work in pieces, so that sliders stay quick; new work of a name ends the old one.
const jobs = {};
function inPieces(name, work) {
  const own = jobs[name] = {};
  (function go() {
    const begun = performance.now();
    while (jobs[name] === own && performance.now() - begun < 8) if (work.next().done) return;
    if (jobs[name] === own) setTimeout(go, 4);
  })();
}

// ---- a code's coordinates along the directions that have sliders

function coordinates(net, code) {
  return net.scales.map((scale, k) => {
    let sum = 0;
    for (let i = 0; i < code.length; i++) sum += (code[i] - net.origin[i]) * net.axis(k)[i];
    return sum / scale;
  });
}

function moved(net, code, steps) {
  const there = code.slice();
  steps.forEach((step, k) => {
    for (let i = 0; i < there.length; i++) there[i] += step * net.scales[k] * net.axis(k)[i];
  });
  return there;
}

const nameOf = name => name.split(": ").pop(); // without "direction 1: "
const chosenNet = () => state.set.nets[state.net];
const encodeAll = image => state.set.nets.map(net => encode(net, image));
const between = (a, b, share) => a.map((value, i) => value * (1 - share) + b[i] * share);

// ---- nets and images are unpacked when their set is first shown

function prepare(set) {
  if (set.pixels) return;
  set.pixels = bytes(set.images);
  set.judge = set.discriminator && loaded(set.discriminator);
  for (const net of set.nets) {
    for (const name of ["encoder", "decoder"]) net[name] = loaded(net[name]);
    for (const name of ["origin", "axes", "mean", "dots"]) net[name] = floats(net[name]);
    net.scales = [...floats(net.scales)];
    net.spread = unpack(net.spread, net.numLatents ** 2);
    net.axis = k => net.axes.subarray(k * net.numLatents, (k + 1) * net.numLatents);
  }
}

function example(number) {
  const size = state.set.shape.reduce((a, b) => a * b);
  return Float32Array.from(state.set.pixels.subarray(number * size, (number + 1) * size), v => v / 255);
}

const numExamples = () => state.set.pixels.length / state.set.shape.reduce((a, b) => a * b);
const draws = () => state.set.shape.join() === "1,28,28";

// ---- what is shown: the image, and for each net its image, its code, the probability

function showMeter(meter, image) {
  if (!state.set.judge || !image) { meter.replaceChildren(); return 0; }
  if (!meter.firstChild) {
    meter.innerHTML = '<div class="text"><span></span></div><div class="scale" role="meter"' +
      ' aria-valuemin="0" aria-valuemax="100" aria-label="discriminator\'s probability, percent">' +
      '<div class="needle"></div></div>';
  }
  const percent = 100 * probabilityReal(state.set.judge, image), scale = meter.lastChild;
  meter.querySelector("span").innerHTML = `<i>taken for</i> real: <b>${percent.toFixed(0)} %</b>`;
  scale.setAttribute("aria-valuenow", percent.toFixed(0));
  scale.firstChild.style.left = `${percent}%`;
  return percent;
}

// A code as a strip of cells, from orange (negative) over grey to blue
function showCode(canvas, code) {
  const pen = canvas.getContext("2d"), wide = canvas.width / code.length;
  code.forEach((value, i) => {
    const strength = Math.min(1, Math.abs(value) / 2.5);
    pen.fillStyle = `hsl(${value < 0 ? 28 : 206} ${90 * strength}% ${55 - 8 * strength}%)`;
    pen.fillRect(i * wide, 0, wide + 1, canvas.height);
    if (code.length > 8) return;
    pen.fillStyle = "#fff";
    pen.fillText((Math.round(10 * value) / 10 || 0).toFixed(1), (i + .5) * wide, canvas.height / 2 + 1);
  });
}

// The small copies, which are seen when the large ones are not
function mirror(number, canvas) {
  const copy = element("mini").children[number];
  [copy.width, copy.height] = [canvas.width, canvas.height];
  copy.getContext("2d").drawImage(canvas, 0, 0);
}

function showNet(number) {
  const card = state.cards[number], code = state.codes[number];
  const image = decode(state.set.nets[number], code);
  paint(card.canvas, image);
  mirror(number + 1, card.canvas);
  showCode(card.code, code);
  const percent = showMeter(card.meter, image);
  if (number === state.net) keepBest(card, code, percent);
}

function keepBest(card, code, percent) {
  if (!state.set.judge) return;
  const scale = card.meter.lastChild;
  if (!state.best || percent > state.best.percent + .5) state.best = {percent, code};
  let [button, mark] = [card.meter.querySelector("button"), card.meter.querySelector(".best")];
  if (!button) {
    button = make("button", card.meter.firstChild, {onclick: () => goTo(state.best.code)});
    mark = make("div", scale, {className: "best"});
  }
  button.textContent = `best ${state.best.percent.toFixed(0)} %`;
  button.setAttribute("aria-label", `back to the best, ${state.best.percent.toFixed(0)} percent`);
  mark.style.left = `${state.best.percent}%`;
}

function goTo(code) {
  state.codes[state.net] = code;
  showNet(state.net);
  showSliders();
}

function showInput() {
  const pad = element("pad"), drawn = state.number < 0;
  if (state.image && !(draws() && drawn)) {
    [, pad.height, pad.width] = state.set.shape;
    paint(pad, state.image);
  } else if (!state.image) pad.getContext("2d").clearRect(0, 0, pad.width, pad.height);
  element("input-title").textContent = draws() ? "draw a digit here" : "original";
  element("clear").hidden = !draws();
  element("input-note").textContent = state.image
    ? `${state.image.length.toLocaleString("en")} numbers → ${chosenNet().numLatents}`
    : draws() ? "with mouse, finger or pen" : "a sample has no original";
  mirror(0, pad);
  showMeter(document.querySelector("#input .meter"), state.image);
  press([...element("examples").children], state.number);
}

// Everything anew: a new image, a sample, a walk
function begin(image, codes, number = -1) {
  Object.assign(state, {image, codes, number, best: null});
  showInput();
  state.codes.forEach((_, i) => showNet(i));
  showSliders();
}

function beginAt(number) {
  const image = example(number);
  strokes.length = 0;
  begin(image, encodeAll(image), number);
}

// ---- the sliders

function showSliders() {
  const values = coordinates(chosenNet(), state.codes[state.net]);
  state.sliders.forEach(({range, output}, k) => {
    range.value = values[k];
    output.textContent = values[k].toFixed(2);
  });
  showPoint();
  later("map", drawMap);
  later("address", writeAddress);
}

function slide(k, value) {
  const here = coordinates(chosenNet(), state.codes[state.net])[k];
  const steps = Array(k + 1).fill(0);
  steps[k] = value - here;
  goTo(moved(chosenNet(), state.codes[state.net], steps));
}

const timers = {};
function later(name, action) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(action, 200);
}

function buildSliders() {
  const list = element("sliders");
  list.replaceChildren();
  list.style.setProperty("--columns", chosenNet().names.length > 5 ? 4 : 5);
  state.sliders = chosenNet().names.map(nameOf).map((name, k) => {
    const label = make("label", list), row = make("span", label, {className: "row"});
    make("span", row, {textContent: name});
    const output = make("output", row);
    const range = make("input", label, {type: "range", min: -REACH, max: REACH, step: .05}, name);
    range.oninput = () => slide(k, Number(range.value));
    return {range, output};
  });
  for (const [id, chosen] of [["across", 0], ["up", 1]]) {
    element(id).replaceChildren(...chosenNet().names.map((name, k) => new Option(nameOf(name), k)));
    element(id).value = Math.min(chosen, chosenNet().names.length - 1);
  }
}

function chooseNet(number) {
  Object.assign(state, {net: number, best: null});
  state.cards.forEach((card, i) => {
    card.figure.classList.toggle("chosen", i === number);
    card.radio.checked = i === number;
    if (i !== number) card.meter.querySelectorAll("button, .best").forEach(part => part.remove());
  });
  buildSliders();
}

// ---- the drawing: like MNIST's, 20 pixels high or wide, the centre of mass in the middle

const strokes = [];
const fine = Object.assign(document.createElement("canvas"), {width: 28 * FINE, height: 28 * FINE});
const finePen = fine.getContext("2d", {willReadFrequently: true});

function trace(pen, width, place = point => point) {
  Object.assign(pen, {lineCap: "round", lineJoin: "round", lineWidth: width, strokeStyle: "#fff"});
  for (const stroke of strokes) {
    pen.beginPath();
    stroke.map(place).forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
    pen.lineTo(...place(stroke[stroke.length - 1]));
    pen.stroke();
  }
}

function asDigit(side) {
  const points = strokes.flat(), [low, high] = [Math.min, Math.max].map(
    end => [0, 1].map(axis => points.map(point => point[axis]).reduce((a, b) => end(a, b))));
  const scale = (20 - PEN) / Math.max(high[0] - low[0], high[1] - low[1], side / 5);
  finePen.fillRect(0, 0, fine.width, fine.height);
  trace(finePen, PEN * FINE, point =>
    point.map((value, axis) => ((value - (low[axis] + high[axis]) / 2) * scale + 14) * FINE));
  const pixels = finePen.getImageData(0, 0, fine.width, fine.height).data;
  const image = new Float32Array(784);
  for (let y = 0; y < fine.height; y++)
    for (let x = 0; x < fine.width; x++)
      image[(y >> 3) * 28 + (x >> 3)] += pixels[4 * (y * fine.width + x)] / (255 * FINE * FINE);
  return toTheMiddle(image);
}

function toTheMiddle(image) {
  const shift = [0, 0], rows = [new Float32Array(28), new Float32Array(28)];
  image.forEach((ink, i) => { rows[0][i / 28 | 0] += ink; rows[1][i % 28] += ink; });
  rows.forEach((ink, axis) => {
    const total = ink.reduce((a, b) => a + b), used = [...ink.keys()].filter(i => ink[i] > 0);
    const wanted = Math.round(13.5 - ink.reduce((sum, value, i) => sum + i * value, 0) / total);
    shift[axis] = Math.min(Math.max(wanted, -used[0]), 27 - used[used.length - 1]);
  });
  const out = new Float32Array(784);
  image.forEach((ink, i) => { if (ink) out[i + 28 * shift[0] + shift[1]] = ink; });
  return out;
}

function drawTo(event) {
  const pad = element("pad"), box = pad.getBoundingClientRect();
  for (const each of event.getCoalescedEvents?.() || [event])
    strokes[strokes.length - 1].push([each.clientX - box.left, each.clientY - box.top]);
  if (!strokes[strokes.length - 1].length)
    strokes[strokes.length - 1].push([event.clientX - box.left, event.clientY - box.top]);
  pad.width = pad.height = Math.round(box.width * devicePixelRatio);
  const pen = pad.getContext("2d");
  pen.scale(devicePixelRatio, devicePixelRatio);
  trace(pen, box.width * PEN / 20);
  const image = asDigit(box.width);
  begin(image, encodeAll(image));
}

function listenToPad() {
  const pad = element("pad");
  pad.onpointerdown = event => {
    if (!draws()) return;
    pad.setPointerCapture(event.pointerId);
    if (state.number >= 0) strokes.length = 0;
    strokes.push([]);
    drawTo(event);
  };
  pad.onpointermove = event => { if (pad.hasPointerCapture(event.pointerId)) drawTo(event); };
  element("clear").onclick = () => {
    strokes.length = 0;
    begin(null, state.codes);
  };
}

// ---- the map

const tilesAside = () => draws() ? 15 : 9;
const axes = () => [Number(element("across").value), Number(element("up").value)];

function at(x, y) { // the chosen net's code where the map is at x, y (0 to 1, y downwards)
  const here = coordinates(chosenNet(), state.codes[state.net]), [across, up] = axes();
  const steps = here.map(() => 0);
  steps[across] = (2 * x - 1) * REACH - here[across];
  steps[up] = (1 - 2 * y) * REACH - here[up];
  return moved(chosenNet(), state.codes[state.net], steps);
}

function drawMap() {
  const number = tilesAside(), [, height, width] = state.set.shape, tiles = element("tiles");
  const net = chosenNet();
  if (tiles.width !== number * width) Object.assign(tiles, {width: number * width, height: number * height});
  inPieces("map", (function* () {
    for (let i = 0; i < number * number; i++) {
      const column = i % number, row = Math.floor(i / number);
      const code = at((column + .5) / number, (row + .5) / number);
      paint(tiles, decode(net, code), column * width, row * height);
      yield;
    }
  })());
}

function showPoint() {
  const canvas = element("dots"), side = canvas.clientWidth, ratio = devicePixelRatio;
  canvas.width = canvas.height = side * ratio;
  const pen = canvas.getContext("2d"), [across, up] = axes(), net = chosenNet();
  pen.scale(ratio, ratio);
  const circle = (values, offset, radius) => {
    pen.beginPath();
    pen.arc((values[offset + across] / REACH + 1) / 2 * side, (1 - values[offset + up] / REACH) / 2 * side,
      radius, 0, 7);
  };
  if (element("show-dots").checked) {
    pen.strokeStyle = "#fffa";
    state.set.classes.forEach((each, i) => {
      circle(net.dots, i * net.names.length, 3.5);
      pen.fillStyle = state.set.colours[each];
      pen.fill();
      pen.stroke();
    });
  }
  circle(coordinates(net, state.codes[state.net]), 0, 9);
  for (const [width, colour] of [[6, "#000"], [3, "#fff"]]) {
    Object.assign(pen, {lineWidth: width, strokeStyle: colour});
    pen.stroke();
  }
}

function listenToMap() {
  const map = element("map"), lens = element("lens");
  const place = event => {
    const box = map.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top].map(
      value => Math.min(Math.max(value / box.width, 0), 1));
  };
  map.onpointermove = event => {
    const [x, y] = place(event), code = at(x, y);
    if (event.buttons) goTo(code);
    lens.hidden = false;
    lens.style.left = `calc(${100 * x}% ${x < .5 ? "+ 18px" : "- 114px"})`;
    lens.style.top = `calc(${100 * y}% ${y < .5 ? "+ 18px" : "- 114px"})`;
    paint(lens, decode(chosenNet(), code));
  };
  map.onpointerdown = event => { map.setPointerCapture(event.pointerId); goTo(at(...place(event))); };
  map.onpointerleave = () => { lens.hidden = true; };
  map.onkeydown = event => {
    const [across, up] = axes(), move = {ArrowLeft: [across, -1], ArrowRight: [across, 1],
      ArrowDown: [up, -1], ArrowUp: [up, 1]}[event.key];
    if (!move) return;
    event.preventDefault();
    const here = coordinates(chosenNet(), state.codes[state.net])[move[0]];
    slide(move[0], Math.min(Math.max(here + .2 * move[1], -REACH), REACH));
  };
  for (const id of ["across", "up"]) element(id).onchange = () => { showPoint(); drawMap(); };
  element("show-dots").onchange = showPoint;
}

// ---- the walk

const FRAMES = 7;
const walk = {ends: [0, 1], codes: []};

function setWalk(from, to) {
  walk.ends = [from, to].map(number => (number + numExamples()) % numExamples());
  walk.codes = walk.ends.map(number => encodeAll(example(number)));
  ["from", "to"].forEach((id, i) => {
    const button = element(id);
    button.replaceChildren();
    paint(canvasFor(button), example(walk.ends[i]));
    button.setAttribute("aria-label", `${id} image ${walk.ends[i] + 1}; press for another`);
  });
  const films = [...element("films").querySelectorAll("canvas")];
  inPieces("walk", (function* () {
    for (let step = 0; step < FRAMES; step++) {
      for (let i = 0; i < films.length; i++) {
        const code = between(walk.codes[0][i], walk.codes[1][i], step / (FRAMES - 1));
        paint(films[i], decode(state.set.nets[i], code), step * state.set.shape[2]);
        yield;
      }
    }
  })());
}

function walkTo(percent) {
  const nearer = walk.ends[Math.round(percent / 100)];
  const codes = walk.codes[0].map((code, i) => between(code, walk.codes[1][i], percent / 100));
  begin(example(nearer), codes, nearer);
}

// The walk of the chosen net, there and back
function saveGif() {
  const [first, last] = walk.codes.map(codes => codes[state.net]);
  const frames = Array.from({length: 32}, (_, i) => Math.min(i, 32 - i) / 16)
    .map(share => decode(chosenNet(), between(first, last, share)));
  const link = make("a", document.body, {download: "walk.gif"});
  link.href = URL.createObjectURL(new Blob([gif(frames, state.set.shape)], {type: "image/gif"}));
  link.click();
  link.remove();
}

function listenToWalk() {
  const way = element("way"), play = element("play");
  way.oninput = () => walkTo(Number(way.value));
  element("from").onclick = () => setWalk(walk.ends[0] + 1, walk.ends[1]);
  element("to").onclick = () => setWalk(walk.ends[0], walk.ends[1] + 1);
  element("gif").onclick = saveGif;
  let timer = null;
  play.onclick = () => {
    clearInterval(timer);
    timer = timer === null ? setInterval(() => {
      const time = performance.now() / 40 % 240, percent = time < 120 ? time - 10 : 230 - time;
      way.value = Math.min(Math.max(percent, 0), 100);
      walkTo(Number(way.value));
    }, 50) : null;
    play.textContent = timer === null ? "play" : "stop";
  };
}

// ---- samples

const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

function fromCodes(net, noise) { // mean + a matrix · noise
  const number = net.numLatents;
  return net.mean.map((value, i) => {
    for (let j = 0; j < number; j++) value += net.spread[i * number + j] * noise[j];
    return value;
  });
}

function drawSamples() {
  const most = Math.max(...state.set.nets.map(net => net.numLatents));
  const ways = {prior: (net, noise) => noise.slice(0, net.numLatents), codes: fromCodes};
  const todo = [];
  for (const [id, way] of Object.entries(ways)) {
    element(id).replaceChildren();
    for (let i = 0; i < 12; i++) {
      const noise = Float32Array.from({length: most}, normal);
      const button = make("button", element(id), {className: "image"}, `sample ${i + 1}`);
      button.onclick = () => begin(null, state.set.nets.map(net => way(net, noise)));
      const canvas = canvasFor(button);
      todo.push(() => paint(canvas, decode(chosenNet(), way(chosenNet(), noise))));
    }
  }
  inPieces("samples", (function* () { for (const each of todo) { each(); yield; } })());
}

// ---- the address: the set, the net, the image, and all codes as whole numbers of 1/4096

function writeAddress() {
  const codes = new Int16Array(state.codes.flatMap(code =>
    [...code].map(value => Math.min(Math.max(Math.round(4096 * value), -32768), 32767))));
  const text = btoa(String.fromCharCode(...new Uint8Array(codes.buffer)));
  history.replaceState(null, "", `#${SETS.indexOf(state.set)},${state.net},${state.number},${text}`);
}

function readAddress() {
  let address = location.hash.slice(1);
  try { address = decodeURIComponent(address); } catch (error) { address = ""; }  // cut in the middle of a %2C
  const [set, net, number, text] = address.split(",");
  chooseSet(SETS[Number(set)] || SETS[0]);
  if (!text) return;
  try {
    const whole = new Int16Array(bytes(text).buffer);
    if (whole.length !== state.codes.reduce((sum, code) => sum + code.length, 0)) return;
    choose(Math.min(Math.max(Number(net) || 0, 0), state.cards.length - 1));
    let offset = 0;
    const codes = state.codes.map(code => code.map(() => whole[offset++] / 4096));
    const shown = Number(number) >= 0 && Number(number) < numExamples();
    begin(shown ? example(Number(number)) : null, codes, shown ? Number(number) : -1);
  } catch (error) {
    console.warn("this address holds no state of this page", error);
  }
}

// ---- the whole

const CHALLENGES = {
  digits: [
    "Draw a 7, then add a bar through it. What do the nets make of the bar, and why?",
    "Draw something that is no digit. Which digit comes back? Nothing here says <i>I do not know</i>.",
    "Choose a net and fool the discriminator: at least 90 %. Is it then a better digit?",
  ],
  images: [
    "Look at the edges of the hair and at the eyes. Which net keeps most of them?",
    "Find the slider that changes the colour of the hair. What else does it change?",
    "Count the faces among the samples from the prior, and among those from the codes. Which net needs its codes most?",
  ],
};

function buildSet() {
  const examples = element("examples"), stage = element("stage");
  stage.classList.toggle("draws", draws());
  element("pad").classList.toggle("draws", draws());
  element("pad").setAttribute("aria-label", draws() ? "draw a digit here" : "the original image");
  examples.replaceChildren();
  for (let i = 0; i < numExamples(); i++) {
    const button = make("button", examples, {className: "image", onclick: () => beginAt(i)}, `image ${i + 1}`);
    paint(canvasFor(button), example(i));
  }
  stage.querySelectorAll("figure.net").forEach(figure => figure.remove());
  element("films").replaceChildren();
  element("mini").replaceChildren();
  for (let i = 0; i <= state.set.nets.length; i++) make("canvas", element("mini"));
  state.cards = state.set.nets.map((net, i) => {
    const figure = make("figure", stage, {className: "net"});
    const label = make("label", make("figcaption", figure));
    const radio = make("input", label, {type: "radio", name: "net", onchange: () => choose(i)});
    label.append(` ${net.title}`);
    const canvas = canvasFor(figure);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `image decoded by the ${net.title}`);
    const code = make("canvas", make("div", figure, {className: "code"}), {width: 480, height: 36});
    Object.assign(code.getContext("2d"), {font: "22px system-ui", textAlign: "center", textBaseline: "middle"});
    code.setAttribute("role", "img");
    code.setAttribute("aria-label", `its code, ${net.numLatents} numbers`);
    const meter = make("div", figure, {className: "meter"});
    make("p", element("films"), {textContent: net.title});
    canvasFor(element("films"), FRAMES).setAttribute("aria-label", `a walk of the ${net.title}`);
    return {figure, radio, canvas, code, meter};
  });
  canvasSize(element("lens"));
}

function canvasSize(canvas) { [, canvas.height, canvas.width] = state.set.shape; }

function choose(net) {
  chooseNet(net);
  showNet(net);
  showSliders();
  drawSamples();
}

function chooseSet(set) {
  prepare(set);
  Object.assign(state, {set, net: 0});
  press([...element("sets").children], SETS.indexOf(set));
  buildSet();
  chooseNet(set.nets.length - 1);
  beginAt(0);
  setWalk(0, 1);
  drawSamples();
  const few = set.nets[0].numLatents <= 8;
  element("slider-note").textContent = few
    ? `Each slider is one of the ${set.nets[0].numLatents} numbers.`
    : `Of ${set.nets[0].numLatents} numbers, these are the ${set.nets[0].names.length} directions in which codes vary most.`;
  element("dot-note").textContent = set.classNames.length > 1
    ? "Do the digits keep apart?" : set.colours.length > 1 ? "A dot has the colour of the hair." : "";
  element("legend").innerHTML = set.classNames.length > 1 ? set.classNames.map(
    (name, i) => `<span><i style="background:${set.colours[i]}"></i>${name}</span>`).join("") : "";
  element("challenges").innerHTML = CHALLENGES[draws() ? "digits" : "images"].map(
    text => `<li>${text}</li>`).join("");
  element("folders").textContent = set.nets.map(net => net.folder).join(", ");
}

for (const set of SETS) make("button", element("sets"), {textContent: set.title, onclick: () => chooseSet(set)});
listenToPad();
listenToMap();
listenToWalk();
element("again").onclick = drawSamples;
new IntersectionObserver(([entry]) => {
  element("mini").classList.toggle("seen", entry.intersectionRatio < .3 && entry.boundingClientRect.top < 0);
}, {threshold: [0, .3, .6]}).observe(element("stage"));
addEventListener("resize", showPoint);
readAddress();
