// The maths of the figure "the skip connection": real forward and backward passes of small nets, nothing else.
// minires.explain.figure.measure computes the same numbers with minires; golden.json holds what it found, and the
// tests hold this file to it. Every layer of both columns, and the block above them, is F(x) = act(norm(W x)).

export const WIDTH = 64;
export const BATCH = 16;
export const EPS = 1e-5;

export const DEPTHS = Array.from({ length: 54 }, (_, i) => 4 + 2 * i); // 4, 6 ... 110
export const GAINS = [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, Math.SQRT2, 1.5, 1.6];
export const SCALES = {
  one: () => 1,
  half: () => 0.5,
  tenth: () => 0.1,
  root: (depth) => 1 / Math.sqrt(depth),
  zero: () => 0,
};
export const ACTIVATIONS = {
  relu: { f: (z) => (z > 0 ? z : 0), slope: (z) => (z > 0 ? 1 : 0) },
  tanh: { f: Math.tanh, slope: (z) => 1 - Math.tanh(z) ** 2 },
};
export const NORMS = { none: null, batch: "batch", layer: "layer" };

export const DEFAULTS = { depth: 56, gain: 1, scale: "one", act: "relu", norm: "none", seed: 0 };

// The block that is stepped through. The first entries of g and of Jᵀg nearly cancel: the +1 is a summand, no floor.
export const BLOCK = { x: [1.2, -0.7], w: [[0.8, -0.5], [0.6, 0.9]], g: [0.5, -1] };

/** y = x + F(x) for F(x) = tanh(W x): what each step of the forward pass holds. */
export function forward({ x, w }) {
  const f = w.map((row) => Math.tanh(dot(row, x)));
  return { x, f, y: add(x, f) };
}

/** The gradient at x, taken apart: `skip` came past F (the +1), `branch` is Jᵀg, and `gx` is their sum. */
export function backward({ x, w, g }, dropped = false) {
  const { f } = forward({ x, w });
  const gz = g.map((gi, i) => gi * (1 - f[i] * f[i]));
  const branch = x.map((_, j) => dot(gz, w.map((row) => row[j])));
  const skip = dropped ? g.map(() => 0) : g;
  return { g, skip, branch, gx: add(skip, branch) };
}

/**
 * |∂ℒ/∂x_l| for l = 0 (the input) to L (the output) of three nets with the same weights: `plain` is x ↦ F(x), `skip`
 * is x ↦ x + s F(x), and `dropped` is that net when its backward pass forgets the +1. ℒ = ⟨c, x_L⟩ with a random c.
 */
export function stack({ depth, gain, scale, act, norm, seed }) {
  const net = { depth, gain: gain / Math.sqrt(WIDTH), act: ACTIVATIONS[act], axis: NORMS[norm], seed };
  const plain = record({ ...net, carried: 0, scaled: 1 });
  const skip = record({ ...net, carried: 1, scaled: SCALES[scale](depth) });
  return { plain: replay(plain, 0), skip: replay(skip, 1), dropped: replay(skip, 0) };
}

/** The forward pass x ← carried x + scaled F(x), and what the backward pass needs of each layer. */
function record({ depth, gain, act, axis, seed, carried, scaled }) {
  const layers = [];
  let x = noise(seed, 1, BATCH * WIDTH);
  for (let l = 0; l < depth; l++) {
    const w = noise(seed, 3 + l, WIDTH * WIDTH);
    const normed = normalize(times(x, w, gain), axis);
    layers.push({ w, ...normed });
    x = x.map((v, i) => carried * v + scaled * act.f(normed.z[i]));
  }
  return { layers, gain, act, scaled, seed };
}

/** The backward pass g ← carried g + scaled J_Fᵀg. Returns |g| at each x_l, from the input on. */
function replay({ layers, gain, act, scaled, seed }, carried) {
  let g = noise(seed, 2, BATCH * WIDTH);
  const norms = [length(g)];
  for (const { w, z, rows, inverse } of [...layers].reverse()) {
    const gz = g.map((v, i) => scaled * v * act.slope(z[i]));
    const branch = timesTransposed(normalizeBackward(gz, z, rows, inverse), w, gain);
    g = branch.map((v, i) => carried * g[i] + v);
    norms.push(length(g));
  }
  return norms.reverse();
}

/** gain x wᵀ of an (N, WIDTH) and a (WIDTH, WIDTH) array, both flat: forward. */
function times(x, w, gain) {
  const y = new Float64Array(x.length);
  for (let n = 0; n < x.length; n += WIDTH) {
    for (let i = 0; i < WIDTH; i += 2) {
      let even = 0; // two sums at once keep the processor busy
      let odd = 0;
      for (let j = 0, k = i * WIDTH; j < WIDTH; j++, k++) {
        even += x[n + j] * w[k];
        odd += x[n + j] * w[k + WIDTH];
      }
      y[n + i] = gain * even;
      y[n + i + 1] = gain * odd;
    }
  }
  return y;
}

/** gain g w of the same arrays: backward, row by row of w. */
function timesTransposed(g, w, gain) {
  const y = new Float64Array(g.length);
  for (let n = 0; n < g.length; n += WIDTH) {
    for (let j = 0, k = 0; j < WIDTH; j++) {
      const v = gain * g[n + j];
      for (let i = 0; i < WIDTH; i++, k++) y[n + i] += v * w[k];
    }
  }
  return y;
}

/** z = (u - mean) / √(var + eps) over the batch or over a sample's entries, without a learned scale or shift. */
function normalize(u, axis) {
  if (!axis) return { z: u, rows: [], inverse: [] };
  const [outer, inner, far, near] = axis === "batch" ? [WIDTH, BATCH, 1, WIDTH] : [BATCH, WIDTH, WIDTH, 1];
  const rows = Array.from({ length: outer }, (_, o) => Array.from({ length: inner }, (_, i) => o * far + i * near));
  const z = new Float64Array(u.length);
  const inverse = rows.map((row) => {
    const mean = row.reduce((sum, i) => sum + u[i], 0) / inner;
    const variance = row.reduce((sum, i) => sum + (u[i] - mean) ** 2, 0) / inner;
    for (const i of row) z[i] = (u[i] - mean) / Math.sqrt(variance + EPS);
    return 1 / Math.sqrt(variance + EPS);
  });
  return { z, rows, inverse };
}

/** gu = (gz - mean(gz) - z mean(gz z)) / √(var + eps): batch and layer norm share it, over different rows. */
function normalizeBackward(gz, z, rows, inverse) {
  if (!rows.length) return gz;
  const gu = new Float64Array(gz.length);
  rows.forEach((row, r) => {
    const mean = row.reduce((sum, i) => sum + gz[i], 0) / row.length;
    const along = row.reduce((sum, i) => sum + gz[i] * z[i], 0) / row.length;
    for (const i of row) gu[i] = (gz[i] - mean - z[i] * along) * inverse[r];
  });
  return gu;
}

const drawn = new Map();

/** `count` numbers with mean 0 and variance 1, uniform, the same in every language: a hash of (seed, stream, i). */
export function noise(seed, stream, count) {
  const key = `${seed} ${stream} ${count}`;
  if (!drawn.has(key)) {
    const start = mix(mix(seed) ^ stream);
    const uniform = (_, i) => ((mix((start + Math.imul(i, 0x9e3779b9)) >>> 0) + 0.5) / 2 ** 32 - 0.5) * Math.sqrt(12);
    drawn.set(key, Float64Array.from({ length: count }, uniform));
  }
  return drawn.get(key);
}

/** A 32-bit mixer: multiply, shift, exclusive or (the constants are those of MurmurHash3's last step). */
function mix(h) {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** The largest relative deviation of what this file computes from one case, or from the block, of golden.json. */
export function deviation(computed, golden) {
  let worst = 0;
  for (const [name, expected] of Object.entries(golden)) {
    expected.forEach((v, i) => {
      worst = Math.max(worst, Math.abs(computed[name][i] - v) / (Math.abs(v) || 1)); // NaN, once met, stays
    });
  }
  return worst;
}

export const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
export const length = (a) => Math.sqrt(dot(a, a));
const add = (a, b) => a.map((v, i) => v + b[i]);
