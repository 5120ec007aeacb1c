'use strict';
// What pages are made of: elements, numbers out of their bytes, colours, rows of tokens. The files of a page follow one
// another in one script. Nothing is fetched; every text is set as text, never as markup.

const page = JSON.parse(document.getElementById('page').textContent);

/** An element with attributes (functions listen) and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children);
  return element;
}

const unpacked = new Map();

/** The text of a blob, once the whole of it has come. */
async function packedText(place) {
  const whole = () => document.getElementById(`blob-${place}`)?.nextSibling || document.readyState !== 'loading';
  if (!whole()) await new Promise((done) => document.addEventListener('DOMContentLoaded', done, { once: true }));
  return document.getElementById(`blob-${place}`).textContent.trim();
}

async function inflated(place) {
  const packed = atob(await packedText(place));
  const array = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) array[i] = packed.charCodeAt(i);
  const stream = new Blob([array]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The bytes of a blob; unpacked once, when they are first wanted. */
function bytes(place) {
  if (!unpacked.has(place)) unpacked.set(place, inflated(place));
  return unpacked.get(place);
}

const float32 = async (place) => new Float32Array((await bytes(place)).buffer);

/** The colour of a share from 0 to 1: [red, green, blue]. */
function colour(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const below = Math.min(Math.floor(at), stops.length - 2);
  const [a, b] = [stops[below], stops[below + 1]];
  return a.map((channel, i) => Math.round(channel + (b[i] - channel) * (at - below)));
}

const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

/** Black or white, whichever stands out on a colour. */
function inkOn(rgb) {
  const [r, g, b] = rgb.map((channel) => {
    const share = channel / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.19 ? '#141414' : '#ffffff';
}

function written(value) {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '−∞';
  return Number(value.toPrecision(4)).toString().replace('-', '−');
}

/** A scale of a widget: what colour a number has. */
function ramp(data) {
  const stops = page[data.scale];
  const span = data.high - data.low;
  return (value) => colour(stops, span > 0 ? (value - data.low) / span : 0.5);
}

/** The bar that says which number a colour is. */
function scaleBar(data) {
  const stops = page[data.scale].map(css).join(', ');
  const bar = make('i', { 'aria-hidden': 'true', style: `background: linear-gradient(90deg, ${stops})` });
  return make('div', { class: 'scale' }, written(data.low), bar, written(data.high), ` ${data.value}`);
}

const notes = (data) => (data.notes ?? []).map((note) => make('p', { class: 'note' }, note));

/** Makes elements one stop of the tabulator; arrows, Home and End lead from one to the next. */
function arrows(row, elements) {
  row.addEventListener('keydown', (event) => {
    const here = elements.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -elements.length, End: elements.length }[event.key];
    if (here < 0 || step === undefined) return;
    event.preventDefault();
    const to = Math.min(Math.max(here + step, 0), elements.length - 1);
    elements[here].tabIndex = -1;
    elements[to].tabIndex = 0;
    elements[to].focus();
  });
}

/** Tokens in a row, one of which can be reached by the keyboard; arrows lead on. */
function tokenRow(tokens, label, choose, first = 0) {
  const row = make('div', { class: 'tokens', role: 'listbox', 'aria-label': label });
  const spans = tokens.map((token, place) => make('span', {
    role: 'option', tabindex: place === first ? '0' : '-1', 'data-place': place,
    mouseenter: () => choose(place), focus: () => choose(place), click: () => spans[place].focus(),
  }, token));
  arrows(row, spans);
  spans.forEach((span, place) => {
    row.append(span);
    if (tokens[place].includes('↵')) row.append(make('br'));
  });
  return { row, spans };
}
