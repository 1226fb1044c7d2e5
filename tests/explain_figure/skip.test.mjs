// The figure's script, as fragment() ships it, against golden.json and against Python's texts and drawings.
// Run by test_figure.py, which writes what is expected into MINIRES_FIGURE: node --test skip.test.mjs

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import test from "node:test";
import { pathToFileURL } from "node:url";

const where = process.env.MINIRES_FIGURE;
const read = (name) => JSON.parse(fs.readFileSync(path.join(where, name), "utf8"));
const figure = await import(pathToFileURL(path.join(where, "figure.mjs")));
const golden = read("golden.json");
const expected = read("expected.json");

test("the block's numbers are those that minires measured", () => {
  for (const [name, dropped] of [["kept", false], ["dropped", true]]) {
    const computed = { ...figure.forward(figure.BLOCK), ...figure.backward(figure.BLOCK, dropped) };
    assert.deepEqual(new Set(Object.keys(computed)), new Set(Object.keys(golden.block[name])));
    assert.ok(figure.deviation(computed, golden.block[name]) < 1e-10);
  }
});

for (const { settings, norms } of golden.cases) {
  test(`every layer's gradient is what minires measured: ${JSON.stringify(settings)}`, () => {
    const computed = figure.stack(settings);
    for (const column of ["plain", "skip", "dropped"]) assert.equal(computed[column].length, settings.depth + 1);
    const off = figure.deviation(computed, norms);
    assert.ok(off < 1e-10, `relative deviation ${off}`);
  });
}

test("a deviation is seen, also where a number is missing or none", () => {
  assert.equal(figure.deviation({ a: [1, 2.2] }, { a: [1, 2] }), Math.abs(2.2 - 2) / 2);
  assert.ok(Number.isNaN(figure.deviation({ a: [1, NaN, 1] }, { a: [1, 2, 1] })));
  assert.ok(Number.isNaN(figure.deviation({ a: [1] }, { a: [1, 2] })));
});

test("numbers are written as Python writes them", () => {
  for (const [v, text] of expected.decimal) assert.equal(figure.decimal(v), text);
  for (const [v, text] of expected.short) assert.equal(figure.short(v), text);
  for (const [v, text] of expected.fate) assert.equal(figure.fate(v), text);
  assert.deepEqual(figure.shown(false), expected.shown.kept);
  assert.deepEqual(figure.shown(true), expected.shown.dropped);
});

test("what is beyond all bounds is said to be so", () => {
  assert.deepEqual([NaN, 0, 9e-31, 1e-300, 2e30, Infinity].map(figure.short),
    ["overflow", "0", "<1e-30", "<1e-30", ">1e30", ">1e30"]);
});

test("the columns are drawn as Python draws them", () => {
  for (const { shares, span, width, svg } of expected.charts) {
    assert.equal(figure.decades(shares), span);
    assert.equal(figure.chart(shares, span, width), svg);
  }
});

test("the state survives the way through the address, and nonsense does it no harm", () => {
  const start = figure.decode("");
  assert.equal(figure.encode(start), "");
  for (const gain of figure.GAINS) for (const scale of Object.keys(figure.SCALES)) {
    const state = { ...start, step: 5, dropped: true, depth: 110, gain, scale, act: "tanh", norm: "layer", seed: 7 };
    const word = figure.encode(state);
    assert.match(word, /^[\w.-]+$/);
    assert.deepEqual(figure.decode(word), state);
  }
  for (const word of ["step", "step-", "depth-x_gain-", "scale-toString", "norm-7_act-_", "__proto__-1", "-_-", "<b>"]) {
    assert.deepEqual(figure.decode(word), word === "step-" ? { ...start, step: 1 } : start, word);
  }
  assert.deepEqual(figure.decode("step-99_depth-7777_gain-9_seed--3"), { ...start, step: 8, depth: 110, gain: 1.6 });
});
