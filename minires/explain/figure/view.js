import { ACTIVATIONS, BLOCK, DEFAULTS, DEPTHS, GAINS, NORMS, SCALES } from "./skip.js";
import { backward, deviation, forward, length, stack } from "./skip.js";

// What the reader sees: the static figure that Python wrote comes to life. All texts stand in skip.html, all numbers
// come from skip.js, and the looks are skip.css's.

const STEPS = 8;
const START = { step: 1, dropped: false, ...DEFAULTS };
const PRESETS = [
  ["ReLU, gain 1", {}],
  ["He initialization", { gain: Math.SQRT2 }],
  ["branches scaled by 1/√L", { gain: Math.SQRT2, scale: "root" }],
  ["branches switched off", { gain: Math.SQRT2, scale: "zero" }],
  ["batch norm", { gain: Math.SQRT2, norm: "batch", depth: 36 }],
  ["tanh, gain 0.8", { act: "tanh", gain: 0.8 }],
];

// --- numbers as text; minires.explain.figure.text writes them alike

/** Two decimals, with a true minus sign. */
export const decimal = (v) => v.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−");

/** Two significant digits; beyond 30 decades only the bound. */
export function short(v) {
  if (!(v >= 1e-30)) return v === 0 ? "0" : Number.isNaN(v) ? "overflow" : "<1e-30";
  if (v > 1e30) return ">1e30";
  const [mantissa, exponent] = v.toExponential(1).split("e");
  const power = Number(exponent);
  return -3 < power && power < 3 ? (mantissa * 10 ** power).toFixed(Math.max(0, 1 - power)) : `${mantissa}e${power}`;
}

/** What became of a gradient of which the share r arrives. */
export function fate(r) {
  if (r === 0) return "nothing arrives";
  if (r < 0.1) return `fades by ${r < 1e-30 ? "more than 1e30" : short(1 / r)}`;
  if (r <= 10) return `stays within a factor of 10 (${short(r)})`;
  return `grows by ${r > 1e30 ? "more than 1e30" : short(r)}`;
}

const vector = (a) => `(${a.map(decimal).join(",\u00a0")})`; // no line end breaks it
const sum = (a, b) => `${vector(a)} + ${vector(b)} = ${vector(a.map((v, i) => v + b[i]))}`;

/** Every number of the block as it is shown, by the name that skip.html gives its place. */
export function shown(dropped) {
  const parts = { ...forward(BLOCK), ...backward(BLOCK, dropped) };
  const sums = { sumy: sum(parts.x, parts.f), sumgx: sum(parts.skip, parts.branch) };
  const texts = { ...sums, whole: vector(backward(BLOCK).gx) };
  for (const [name, part] of Object.entries(parts)) {
    texts[name] = vector(part);
    part.forEach((v, i) => (texts[name + i] = decimal(v)));
    texts[`${name}norm`] = decimal(length(part));
  }
  return texts;
}

// --- the chart of one column; minires.explain.figure.draw makes the same for readers without JavaScript

/** The half-width of the log scale, in decades, that both columns fit into. */
export const decades = (shares) => {
  const far = Math.max(...shares.map((r) => (r > 0 ? Math.abs(Math.log10(r)) : 0)));
  return [3, 6, 10, 15, 20].find((d) => far <= d) ?? 30;
};

/** One row a layer, from the output down: a colored cell, a bar from 1 to the share, and some of the numbers. */
export function chart(shares, span, width) {
  const rows = shares.length;
  const row = Math.min(22, Math.max(4, 420 / rows));
  const cell = width < 220 ? 10 : 18;
  const [left, right] = [34 + cell, width - 54];
  const middle = (left + right) / 2;
  const step = [1, 2, 4, 5, 10].find((n) => n * row >= 15);
  const high = row - (row > 6 ? 2 : 0.6);
  const parts = [`<path class="mr-axis" d="M${f(middle)} -4V${f(rows * row + 4)}"/>`];
  shares.forEach((r, layer) => {
    const y = (rows - 1 - layer) * row;
    const x = middle + ((right - left) / 2) * Math.max(-1, Math.min(1, r > 0 ? Math.log10(r) / span : -1));
    const t = (x - middle) / (right - middle);
    parts.push(rect(28, y, cell, high, t));
    parts.push(rect(Math.min(x, middle), y, Math.max(1.5, Math.abs(x - middle)), high, t));
    if (!(r >= 1e-30 && r <= 1e30)) parts.push(beyond(x, y, high, x < middle ? -1 : 1));
    if (layer === 0 || layer === rows - 1 || (layer % step === 0 && (rows - 1 - layer) * row >= 15)) {
      parts.push(write(24, y + row / 2 + 4, "end", layer), write(right + 8, y + row / 2 + 4, "start", short(r)));
    }
  });
  const bottom = rows * row;
  const piece = (right - left) / 21;
  for (let i = 0; i < 21; i++) parts.push(rect(left + i * piece, bottom + 6, piece + 0.3, 6, (i - 10) / 10));
  const ticks = [[28, "start", `1e-${span}`], [right + 8, "start", `1e${span}`]];
  if (cell > 10) ticks.push([middle, "middle", "1"]);
  parts.push(...ticks.map(([x, anchor, text]) => write(x, bottom + 26, anchor, text)));
  const size = `width="${width}" height="${f(bottom + 36)}" viewBox="0 -4 ${width} ${f(bottom + 36)}"`;
  return `<svg ${size} aria-hidden="true">${parts.join("")}</svg>`;
}

/** A rectangle in the color of t: -1 for a gradient faded to the scale's end, 1 for one grown to it. */
const rect = (x, y, width, height, t) =>
  `<rect class="${t < 0 ? "mr-fade" : "mr-grow"}" style="--t:${f(100 * Math.abs(t))}%" ` +
  `x="${f(x)}" y="${f(y)}" width="${f(width)}" height="${f(height)}"/>`;
const write = (x, y, anchor, text) => `<text x="${f(x)}" y="${f(y)}" text-anchor="${anchor}">${escaped(text)}</text>`;
const escaped = (text) => String(text).replace("<", "&lt;").replace(">", "&gt;");
/** The mark of a number beyond 30 decades: an arrowhead out of the chart. */
const beyond = (x, y, high, way) =>
  `<path class="mr-beyond" d="M${f(x - 2 * way)} ${f(y)}l${5 * way} ${f(high / 2)}l${-5 * way} ${f(high / 2)}z"/>`;
const f = (v) => String(Math.round(v * 10) / 10);

// --- the state, and the address that holds it

const nearest = (values, v) => values.reduce((best, w) => (Math.abs(w - v) < Math.abs(best - v) ? w : best));
const whole = (low, high) => (s) => Math.min(high, Math.max(low, Math.round(Number(s))));
const among = (table) => (s) => (Object.hasOwn(table, s) ? s : NaN);
const READ = {
  step: whole(1, STEPS),
  dropped: (s) => s === "1",
  depth: (s) => (Number(s) ? nearest(DEPTHS, Number(s)) : NaN),
  gain: (s) => (Number(s) ? nearest(GAINS, Number(s)) : NaN),
  scale: among(SCALES),
  act: among(ACTIVATIONS),
  norm: among(NORMS),
  seed: whole(0, 999),
};

/** The state as one word, such as `step-3_gain-1.414`: only what is not as at the start, in characters URLs keep. */
export function encode(state) {
  const word = (v) => (typeof v === "boolean" ? Number(v) : typeof v === "number" ? Number(v.toFixed(3)) : v);
  const changed = Object.keys(START).filter((k) => state[k] !== START[k]);
  return changed.map((k) => `${k}-${word(state[k])}`).join("_");
}

/** The state of such a word. What it does not understand, it leaves as at the start. */
export function decode(word) {
  const state = { ...START };
  for (const [name, text] of word.split("_").map((pair) => pair.split("-"))) {
    const value = Object.hasOwn(READ, name) ? READ[name](text) : NaN;
    if (!Number.isNaN(value)) state[name] = value;
  }
  return state;
}

/** Reads and writes one search parameter of the address, where the figure's page is the reader's own page. */
function address(name) {
  const notebook = document.querySelector("#jupyter-config-data, .jp-Notebook, body.notebook_app");
  if (window.top !== window.self || notebook) return { read: () => "", write: () => {} };
  let last = { control: null, time: 0 };
  return {
    read: () => new URLSearchParams(location.search).get(name) ?? "",
    write(word, control) {
      const url = new URL(location.href);
      if (word) url.searchParams.set(name, word);
      else url.searchParams.delete(name);
      // A run of changes of one control is one entry, so that Back undoes what the reader thinks of as one thing.
      const fresh = control !== "play" && (control !== last.control || Date.now() - last.time > 3000);
      last = { control, time: Date.now() };
      if (url.href !== location.href) history[fresh ? "pushState" : "replaceState"](history.state, "", url);
    },
  };
}

// --- the figure itself

/** Brings one static figure to life. */
export function mount(root, index) {
  const one = (selector) => root.querySelector(selector);
  const all = (selector) => [...root.querySelectorAll(selector)];
  const place = address(index ? `skip${index + 1}` : "skip");
  let state = decode(place.read());
  let timer = null;
  let columns = null;
  let told = "";

  function furnish() {
    root.classList.add("mr-on");
    all("[hidden]").forEach((part) => (part.hidden = false));
    const dot = (i) => `<button type="button" data-go="${i}" aria-label="Step ${i}">${i}</button>`;
    one(".mr-dots").innerHTML = Array.from({ length: STEPS }, (_, i) => dot(i + 1)).join("");
    const preset = ([name], i) => `<button type="button" data-preset="${i}">${name}</button>`;
    one(".mr-presets").insertAdjacentHTML("beforeend", PRESETS.map(preset).join(""));
    one("[data-set=depth]").max = DEPTHS.length - 1;
    one("[data-set=gain]").max = GAINS.length - 1;
  }

  function showBlock() {
    root.classList.toggle("mr-dropped", state.dropped);
    const texts = shown(state.dropped);
    all(".mr-steps [data-v], .mr-stage [data-v], td[data-v]").forEach((spot) => (spot.textContent = texts[spot.dataset.v]));
    all("[data-from]").forEach((part) => {
      const from = part.dataset.from.split(" ").map(Number);
      part.classList.toggle("mr-later", state.step < from[0]);
      part.classList.toggle("mr-now", from.includes(state.step));
    });
    const count = `<span class="mr-count">Step ${state.step} of ${STEPS}</span> `;
    const news = count + all(".mr-steps li")[state.step - 1].innerHTML;
    if (news !== told) one(".mr-live").innerHTML = told = news; // what is written again is read out again
    all(".mr-dots button").forEach((dot, i) => {
      if (i + 1 === state.step) dot.setAttribute("aria-current", "step");
      else dot.removeAttribute("aria-current");
    });
    one("[data-go=back]").setAttribute("aria-disabled", state.step === 1);
    one("[data-go=next]").setAttribute("aria-disabled", state.step === STEPS);
    one("[data-go=play]").textContent = timer ? "Pause" : "Play";
  }

  function showSettings() {
    all("[data-set=dropped]").forEach((box) => (box.checked = state.dropped));
    const gain = state.gain === Math.SQRT2 ? "√2 ≈ 1.41" : state.gain.toFixed(1);
    const sliders = [["depth", DEPTHS, String(state.depth)], ["gain", GAINS, gain]];
    for (const [name, values, text] of sliders) {
      one(`[data-set=${name}]`).value = values.indexOf(state[name]);
      one(`[data-set=${name}]`).setAttribute("aria-valuetext", text);
      one(`[data-show=${name}]`).textContent = text;
    }
    for (const name of ["scale", "act", "norm"]) one(`[data-set=${name}]`).value = state[name];
    all("[data-preset]").forEach((button, i) => {
      const settings = { ...DEFAULTS, seed: state.seed, ...PRESETS[i][1] };
      const same = Object.entries(settings).every(([k, v]) => state[k] === v);
      button.setAttribute("aria-pressed", same);
    });
  }

  function showColumns() {
    const { depth, gain, scale, act, norm, seed } = state;
    const key = JSON.stringify([depth, gain, scale, act, norm, seed]);
    if (columns?.key !== key) columns = { key, nets: stack(state) };
    const share = (norms) => norms.map((v) => v / norms.at(-1));
    const pair = [share(columns.nets.plain), share(columns.nets[state.dropped ? "dropped" : "skip"])];
    const span = decades(pair.flat());
    const name = state.dropped ? "With skips, +1 dropped" : "With skips";
    all(".mr-chart").forEach((box, i) => {
      box.innerHTML = chart(pair[i], span, Math.max(140, Math.min(440, Math.floor(box.clientWidth))));
    });
    all("[data-name=skip]").forEach((spot) => (spot.textContent = name));
    const verdict = `Plain: ${fate(pair[0][0])}. ${name}: ${fate(pair[1][0])}.`;
    if (one(".mr-verdict").textContent !== verdict) one(".mr-verdict").textContent = verdict;
    const cell = (r) => `<td>${escaped(short(r))}</td>`;
    const line = (l) => `<tr><th scope="row">${l}</th>${cell(pair[0][l])}${cell(pair[1][l])}</tr>`;
    one(".mr-layers").innerHTML = pair[0].map((_, l) => line(depth - l)).join("");
  }

  let waiting = false;
  /** Shows the state; the columns wait for the next frame, so that a slider can be dragged. */
  function show() {
    showBlock();
    showSettings();
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      showColumns();
    });
  }

  function change(control, news) {
    if (control !== "play") stop();
    state = { ...state, ...news };
    place.write(encode(state), control);
    show();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
  }

  function play() {
    const begin = state.step === STEPS ? 1 : state.step + 1;
    timer = setInterval(() => {
      if (state.step === STEPS - 1) stop();
      change("play", { step: Math.min(STEPS, state.step + 1) });
    }, 3000);
    change("play", { step: begin });
  }

  const steps = { back: -1, next: 1, ArrowLeft: -1, ArrowRight: 1, Home: -STEPS, End: STEPS };
  const go = (where) => change("step", { step: READ.step(where in steps ? state.step + steps[where] : where) });

  root.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const { go: where, preset } = button.dataset;
    if (preset) change(`preset${preset}`, { ...DEFAULTS, seed: state.seed, ...PRESETS[preset][1] });
    else if (where === "draw") change("draw", { seed: (state.seed + 1) % 1000 });
    else if (where === "play" && !timer) play();
    else if (where === "play") change("step", {});
    else if (where) go(where);
  });
  root.addEventListener("input", ({ target }) => {
    const name = target.dataset.set;
    if (name === "dropped") change(name, { dropped: target.checked });
    else if (name === "depth") change(name, { depth: DEPTHS[target.value] });
    else if (name === "gain") change(name, { gain: GAINS[target.value] });
    else if (name) change(name, { [name]: target.value });
  });
  one(".mr-block").addEventListener("keydown", (event) => {
    const others = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest(".mr-scroll");
    if (!(event.key in steps) || others) return;
    event.preventDefault();
    go(event.key);
  });
  window.addEventListener("popstate", () => {
    stop();
    state = decode(place.read());
    show();
  });
  window.addEventListener("beforeprint", () => (one(".mr-block details").open = true));

  furnish();
  show();
  new ResizeObserver(() => columns && showColumns()).observe(one(".mr-columns"));
}

/** Computes cases of golden.json again, one after the other, and says how far from minires the numbers are. */
async function compare(spot, golden, cases) {
  const block = (dropped) => ({ ...forward(BLOCK), ...backward(BLOCK, dropped) });
  let worst = Math.max(deviation(block(false), golden.block.kept), deviation(block(true), golden.block.dropped));
  for (const { settings, norms } of cases) {
    worst = Math.max(worst, deviation(stack(settings), norms));
    await new Promise((resume) => setTimeout(resume));
  }
  spot.textContent = `${worst.toExponential(1)} (in the block and ${cases.length} of ${golden.cases.length} settings)`;
}

/** The last line of a whole page: compares what it shows first at once, and the rest when asked to. */
function vouch(spot, button, golden) {
  compare(spot, golden, golden.cases.slice(0, 1));
  button.hidden = false;
  button.addEventListener("click", () => {
    button.disabled = true;
    compare(spot, golden, golden.cases);
  });
}

if (typeof document !== "undefined") {
  for (const root of document.querySelectorAll(".mr-skip:not(.mr-on)")) {
    mount(root, document.querySelectorAll(".mr-skip.mr-on").length);
  }
  const golden = document.querySelector("script.mr-golden");
  const [spot, button] = [".mr-deviation", ".mr-compare"].map((name) => document.querySelector(name));
  if (golden) vouch(spot, button, JSON.parse(golden.textContent));
}
