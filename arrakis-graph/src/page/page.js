'use strict';
// Builds what can be explored on a page from its data. Nothing is fetched; every text is set as text, never as markup.

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

/** The bytes of a blob; unpacked once, when they are first wanted. */
function bytes(place) {
  if (!unpacked.has(place)) {
    const packed = atob(document.getElementById(`blob-${place}`).textContent.trim());
    const array = new Uint8Array(packed.length);
    for (let i = 0; i < packed.length; i++) array[i] = packed.charCodeAt(i);
    const stream = new Blob([array]).stream().pipeThrough(new DecompressionStream('deflate'));
    unpacked.set(place, new Response(stream).arrayBuffer().then((buffer) => new Uint8Array(buffer)));
  }
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

/** Up to how many tokens a map has their texts at its sides. */
const LABELLED = 36;

/** Attention: a layer by a slider, a head by its small map, a token by hovering. */
function attention(section, data) {
  const { tokens, heads, layers, causal, kept, pooled } = data;
  const n = tokens.length;
  const viridis = page.sequential;
  const lookup = Uint8ClampedArray.from({ length: 256 * 4 }, (_, i) => (i % 4 === 3 ? 255 : colour(viridis, ((i >> 2) / 255) ** 2)[i % 4]));
  const state = { layer: 0, head: 0, token: n - 1, maps: [] };

  const layerOut = make('output', {}, layers[0]);
  const slider = make('input', {
    type: 'range', min: 0, max: layers.length - 1, value: 0, 'aria-label': 'layer', 'aria-valuetext': `layer ${layers[0]}`,
    input: () => pickLayer(Number(slider.value)),
  });
  const pools = ['head', 'mean over heads', 'max over heads'].map((name, pool) => make('button', {
    type: 'button', 'aria-pressed': String(pool === 0), click: () => pickHead(pool === 0 ? Math.max(state.head, 0) : -pool),
  }, name));
  const headButtons = heads.map((head, place) => make('button', {
    type: 'button', role: 'radio', 'aria-checked': String(place === 0), 'aria-label': `head ${head}`, tabindex: place === 0 ? '0' : '-1',
    click: () => pickHead(place),
  }, make('canvas', { width: 58, height: 58, 'aria-hidden': 'true' }), head));
  const headGrid = make('div', { class: 'heads', role: 'radiogroup', 'aria-label': 'heads' }, ...headButtons);
  headGrid.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const to = (Math.max(state.head, 0) + step + heads.length) % heads.length;
    pickHead(to);
    headButtons[to].focus();
  });
  const side = Math.max(1, Math.min(Math.floor(440 / n), 64)) * n;
  const map = make('canvas', {
    class: 'map', width: n, height: n, style: `width: ${side}px; aspect-ratio: 1`, role: 'img', 'aria-label': 'map of queries by keys',
    pointermove: (event) => {
      const box = map.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const [key, query] = [Math.floor((x / box.width) * n), Math.floor((y / box.height) * n)];
      if (key < 0 || query < 0 || key >= n || query >= n) return;
      state.token = query;
      show();
      tell(`“${tokens[query]}” (${query}) looks at “${tokens[key]}” (${key}): ${reading(current()[query * n + key])}`);
    },
  });
  // Few tokens stand beside their rows and below their columns; the lists of tokens are what is read aloud.
  const sides = ['queries', 'keys'].map((side) => make('ol', { class: side, 'aria-hidden': 'true' }, ...tokens.map((token) => make('li', {}, token))));
  const mapBox = n <= LABELLED ? make('div', { class: 'labelled' }, sides[0], map, sides[1]) : map;
  const read = make('p', { class: 'read', 'aria-live': 'polite' });
  const from = tokenRow(tokens, 'where this token looks', (place) => pickToken(place));
  const to = tokenRow(tokens, 'what looks at this token', (place) => pickToken(place));
  section.append(
    make('div', { class: 'controls' }, make('label', { hidden: layers.length < 2 }, 'layer', slider, layerOut), make('span', { role: 'group', 'aria-label': 'what is shown' }, ...pools)),
    headGrid,
    make('div', { class: 'split' },
      make('div', {}, mapBox, make('p', { class: 'note' }, 'rows: queries, columns: keys; dark 0, yellow 1, by the root')),
      make('div', {}, make('p', { class: 'which' }, 'where the underlined token looks'), from.row, make('p', { class: 'which' }, 'what looks at it'), to.row, read)),
    ...notes(data),
  );

  /** The weights of every head of the layer, a byte each by their root, and those of the pools. */
  function unpack(raw) {
    const maps = [];
    const full = () => new Uint8Array(n * n);
    if (kept === null) {
      let place = 0;
      for (let h = 0; h < heads.length; h++) {
        const whole = full();
        for (let q = 0; q < n; q++) {
          const seen = causal ? q + 1 : n;
          whole.set(raw.subarray(place, place + seen), q * n);
          place += seen;
        }
        maps.push(whole);
      }
      const [mean, most] = [new Float32Array(n * n), full()];
      for (const whole of maps) {
        for (let i = 0; i < n * n; i++) {
          mean[i] += (whole[i] / 255) ** 2 / heads.length;
          if (whole[i] > most[i]) most[i] = whole[i];
        }
      }
      return { maps, mean: Uint8Array.from(mean, (share) => Math.round(Math.sqrt(share) * 255)), most };
    }
    let place = 0;
    const sparse = (rows, count) => {
      const size = rows * count;
      const [low, high, weights] = [0, 1, 2].map((part) => raw.subarray(place + part * size, place + (part + 1) * size));
      place += 3 * size;
      return (row, into, at) => {
        for (let i = row * count; i < (row + 1) * count; i++) into[at + low[i] + 256 * high[i]] = weights[i];
      };
    };
    const fill = (reader, first) => {
      const whole = full();
      for (let q = 0; q < n; q++) reader(first + q, whole, q * n);
      return whole;
    };
    const ofHeads = sparse(heads.length * n, kept);
    for (let h = 0; h < heads.length; h++) maps.push(fill(ofHeads, h * n));
    const [mean, most] = [sparse(n, pooled), sparse(n, pooled)].map((reader) => fill(reader, 0));
    return { maps, mean, most };
  }

  const current = () => (state.head >= 0 ? state.maps[state.head] : state.head === -1 ? state.mean : state.most);
  const weight = (query, key) => (current()[query * n + key] / 255) ** 2;
  // What a page leaves out is not 0.
  const reading = (byte) => (kept !== null && byte === 0 ? 'not kept' : written((byte / 255) ** 2));
  const tell = (text) => { read.textContent = text; };

  /** Draws a map of n × n bytes into a canvas, the greatest of each block where it is smaller. */
  function draw(canvas, whole) {
    const size = Math.min(n, canvas.width);
    const image = new ImageData(size, size);
    const step = n / size;
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) {
        let most = 0;
        for (let q = Math.floor(y * step); q < Math.max(Math.floor((y + 1) * step), Math.floor(y * step) + 1); q++) {
          for (let k = Math.floor(x * step); k < Math.max(Math.floor((x + 1) * step), Math.floor(x * step) + 1); k++) {
            if (whole[q * n + k] > most) most = whole[q * n + k];
          }
        }
        // No head sees what comes later: there is nothing to draw.
        const later = causal && Math.floor(x * step) > Math.ceil((y + 1) * step) - 1;
        if (!later) image.data.set(lookup.subarray(most * 4, most * 4 + 4), (y * size + x) * 4);
      }
    }
    const small = canvas.width === size ? canvas : make('canvas', { width: size, height: size });
    small.getContext('2d').putImageData(image, 0, 0);
    if (small !== canvas) {
      const context = canvas.getContext('2d');
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, canvas.width, canvas.height);
    }
  }

  function show() {
    const whole = current();
    const { token } = state;
    const paint = (span, byte) => {
      const rgb = colour(viridis, byte / 255);
      span.style.background = byte > 0 ? css(rgb) : '';
      span.style.color = byte > 0 ? inkOn(rgb) : '';
      span.title = reading(byte);
    };
    sides[0].childNodes.forEach((label, place) => label.classList.toggle('here', place === token));
    for (let i = 0; i < n; i++) {
      paint(from.spans[i], whole[token * n + i]);
      paint(to.spans[i], whole[i * n + token]);
      for (const span of [from.spans[i], to.spans[i]]) {
        span.classList.toggle('here', i === token);
        span.setAttribute('aria-selected', String(i === token));
      }
    }
  }

  function pickToken(place) {
    state.token = place;
    show();
    const row = Array.from({ length: n }, (_, key) => [weight(place, key), key]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    const best = row.filter(([share]) => share > 0).map(([share, key]) => `“${tokens[key]}” (${key}) ${written(share)}`);
    tell(`“${tokens[place]}” (${place}) looks at ${best.join(', ') || 'nothing that is kept'}`);
  }

  function pickHead(head) {
    state.head = head;
    headButtons.forEach((button, place) => {
      button.setAttribute('aria-checked', String(place === head));
      button.tabIndex = place === Math.max(head, 0) ? 0 : -1;
    });
    pools.forEach((button, pool) => button.setAttribute('aria-pressed', String(pool === (head >= 0 ? 0 : -head))));
    draw(map, current());
    show();
    const what = head >= 0 ? `head ${heads[head]}` : head === -1 ? 'the mean over heads' : 'the greatest over heads';
    tell(`layer ${layers[state.layer]}, ${what}`);
  }

  async function pickLayer(layer) {
    state.layer = layer;
    layerOut.textContent = layers[layer];
    slider.setAttribute('aria-valuetext', `layer ${layers[layer]}`);
    const found = unpack(await bytes(data.first_blob + layer));
    if (state.layer !== layer) return;
    Object.assign(state, found);
    headButtons.forEach((button, place) => draw(button.firstChild, state.maps[place]));
    pickHead(state.head);
    section.dataset.ready = String(layer);
  }
  pickLayer(0);
}

/** A grid as a table; with texts in its cells it can be read as text too. */
async function grid(section, data) {
  const values = await float32(data.first_blob);
  const { rows, columns, cells } = data;
  const wide = columns.labels.length;
  const tint = ramp(data);
  const read = make('p', { class: 'read', 'aria-live': 'polite' }, 'choose a cell to read it');
  const name = (place) => {
    const [row, column] = [Math.floor(place / wide), place % wide];
    const what = cells ? `“${cells[place]}”, ` : '';
    return `${rows.name} ${rows.labels[row]}, ${columns.name} ${columns.labels[column]}: ${what}${data.value} ${written(values[place])}`;
  };
  const style = (place) => {
    if (Number.isNaN(values[place])) return null;
    const rgb = tint(values[place]);
    return `background: ${css(rgb)}; color: ${inkOn(rgb)}`;
  };
  const holder = make('div');
  section.append(scaleBar(data));
  if (cells) {
    const views = ['table', 'text'].map((view, place) => make('button', {
      type: 'button', 'aria-pressed': String(place === 0),
      click: () => {
        views.forEach((button, other) => button.setAttribute('aria-pressed', String(other === place)));
        holder.replaceChildren(place === 0 ? table() : text());
      },
    }, view));
    section.append(make('div', { class: 'controls', role: 'group', 'aria-label': 'view' }, ...views));
  }
  const many = values.length > 6000;
  holder.append(many ? canvas() : table());
  section.append(read, holder, ...notes(data));
  section.dataset.ready = 'true';

  function table() {
    const long = columns.labels.some((label) => label.length > 4);
    const head = make('tr', {}, make('th', { scope: 'col' }, `${rows.name} \\ ${columns.name}`),
      ...columns.labels.map((label) => make('th', { scope: 'col', class: long && !cells && wide > 8 ? 'turned' : null }, label)));
    const all = [];
    const body = rows.labels.map((label, row) => make('tr', {}, make('th', { scope: 'row' }, label),
      ...columns.labels.map((_, column) => {
        const place = row * wide + column;
        const cell = make('td', {
          tabindex: place === 0 ? '0' : '-1', title: name(place), style: style(place), class: Number.isNaN(values[place]) ? 'odd' : null,
          'aria-label': name(place), 'data-place': place, focus: () => { read.textContent = name(place); }, click: () => go(place),
        }, cells ? cells[place] : Number.isFinite(values[place]) ? '' : written(values[place]));
        all.push(cell);
        return cell;
      })));
    const go = (place) => {
      const before = all.find((cell) => cell.tabIndex === 0);
      if (before) before.tabIndex = -1;
      all[place].tabIndex = 0;
      all[place].focus();
      read.textContent = name(place);
    };
    const whole = make('table', { role: 'grid' }, make('thead', {}, head), make('tbody', {}, ...body));
    whole.addEventListener('keydown', (event) => {
      const here = all.indexOf(document.activeElement);
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide }[event.key];
      if (here < 0 || !step || !all[here + step]) return;
      event.preventDefault();
      go(here + step);
    });
    return make('div', { class: 'cells' }, whole);
  }

  function text() {
    return make('div', {}, ...rows.labels.map((label, row) => {
      const spans = columns.labels.map((_, column) => {
        const place = row * wide + column;
        return make('span', { style: style(place), title: name(place), mouseenter: () => { read.textContent = name(place); } }, cells[place]);
      });
      return make('div', {}, make('p', { class: 'which' }, `${rows.name} ${label}`), make('div', { class: 'tokens' }, ...spans));
    }));
  }

  /** Too many cells for a table: a map that is read under the pointer or by the arrow keys. */
  function canvas() {
    const tall = rows.labels.length;
    let here = [0, 0];
    const image = new ImageData(wide, tall);
    values.forEach((value, place) => image.data.set([...(Number.isNaN(value) ? [224, 224, 225] : tint(value)), 255], place * 4));
    const factor = Math.max(1, Math.floor(Math.min(900 / wide, 700 / tall)));
    const map = make('canvas', {
      class: 'map', width: wide, height: tall, style: `width: ${wide * factor}px`, tabindex: '0', role: 'img',
      'aria-label': `map of ${rows.name} by ${columns.name}; arrow keys read it`,
      pointermove: (event) => {
        const box = map.getBoundingClientRect();
        at(Math.floor(((event.clientY - box.top) / box.height) * tall), Math.floor(((event.clientX - box.left) / box.width) * wide));
      },
      keydown: (event) => {
        const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
        if (!step) return;
        event.preventDefault();
        at(here[0] + step[0], here[1] + step[1]);
      },
    });
    const at = (row, column) => {
      if (row < 0 || column < 0 || row >= tall || column >= wide) return;
      here = [row, column];
      read.textContent = name(row * wide + column);
    };
    map.getContext('2d').putImageData(image, 0, 0);
    return map;
  }
}

/** A text whose tokens are coloured by a number each. */
async function text(section, data) {
  const values = await float32(data.first_blob);
  const tint = ramp(data);
  const read = make('p', { class: 'read', 'aria-live': 'polite' });
  section.append(scaleBar(data));
  data.rows.forEach((name, row) => {
    const value = (place) => values[row * data.tokens.length + place];
    const { row: line, spans } = tokenRow(data.tokens, name || 'text', (place) => {
      read.textContent = `“${data.tokens[place]}” (${place}): ${data.value} ${written(value(place))}`;
    });
    spans.forEach((span, place) => {
      if (Number.isNaN(value(place))) {
        span.classList.add('odd');
        return;
      }
      const rgb = tint(value(place));
      span.style.background = css(rgb);
      span.style.color = inkOn(rgb);
      span.title = written(value(place));
    });
    if (name) section.append(make('p', { class: 'which' }, name));
    section.append(line);
  });
  section.append(read);
  section.dataset.ready = 'true';
}

/** A feature: texts coloured by it, how it is spread, and the rankings that belong to it. */
async function feature(section, data) {
  const values = await float32(data.first_blob);
  const tint = ramp(data);
  const read = make('p', { class: 'read', 'aria-live': 'polite' }, 'choose a token to read it');
  let at = 0;
  const take = (count) => values.subarray(at, (at += count));

  const texts = data.excerpts.map(({ tokens, here }, rank) => {
    const own = take(tokens.length);
    const { row, spans } = tokenRow(tokens, `text ${rank + 1}`, (place) => {
      read.textContent = `“${tokens[place]}”: ${data.value} ${written(own[place])}`;
    }, here);
    spans.forEach((span, place) => {
      span.title = written(own[place]);
      span.classList.toggle('here', place === here);
      if (Number.isNaN(own[place])) {
        span.classList.add('odd');
        return;
      }
      const rgb = tint(own[place]);
      span.style.background = css(rgb);
      span.style.color = inkOn(rgb);
    });
    return make('li', {}, make('span', { class: 'number' }, written(own[here])), row);
  });

  const side = make('div', { class: 'beside' });
  if (data.facts.length) {
    side.append(make('dl', {}, ...data.facts.map(([name, fact]) => make('div', {}, make('dt', {}, name), make('dd', {}, fact)))));
  }
  if (data.spread) {
    const { counted, low, step, bins, log } = data.spread;
    const counts = take(bins);
    const tall = (count) => (log ? Math.log(2 * count) : count);
    const most = tall(Math.max(...counts));
    const bars = [...counts].map((count, bin) => {
      const name = `${data.value} ${written(low + bin * step)} to ${written(low + (bin + 1) * step)}: ${count} ${counted}`;
      const tell = () => { read.textContent = name; };
      return make('span', {
        role: 'option', tabindex: bin === 0 ? '0' : '-1', title: name, 'aria-label': name, mouseenter: tell, focus: tell, click: () => bars[bin].focus(),
      }, make('i', { style: `height: ${count > 0 ? Math.max((100 * tall(count)) / most, 2) : 0}%` }));
    });
    const row = make('div', { class: 'bars', role: 'listbox', 'aria-label': `${counted} by ${data.value}` }, ...bars);
    arrows(row, bars);
    const ends = [low, low + bins * step].map((end) => make('span', {}, written(end)));
    side.append(make('p', { class: 'which' }, `${counted} by ${data.value}${log ? ', heights by their logarithm' : ''}`), row, make('div', { class: 'ends' }, ...ends));
  }
  for (const { title, value, labels } of data.rankings) {
    const own = take(labels.length);
    const most = Math.max(...[...own].map((number) => (Number.isFinite(number) ? Math.abs(number) : 0))) || 1;
    const rows = labels.map((label, place) => {
      const share = Math.min(Math.abs(own[place]) / most, 1) * 100 || 0;
      const bar = make('i', { class: own[place] < 0 ? 'negative' : null, style: `width: ${share}%` });
      return make('tr', {}, make('th', { scope: 'row' }, label), make('td', { class: 'bar', 'aria-hidden': 'true' }, bar), make('td', {}, written(own[place])));
    });
    side.append(make('table', { class: 'ranking' }, make('caption', {}, `${title} (${value})`), make('tbody', {}, ...rows)));
  }
  section.append(
    scaleBar(data), read,
    make('div', { class: 'split' }, make('ol', { class: 'excerpts' }, ...texts), side.childElementCount ? side : ''),
  );
  section.dataset.ready = 'true';
}

const builders = { attention, grid, text, feature };
page.widgets.forEach((data, place) => builders[data.kind](document.getElementById(`widget-${place}`), data));

// Tables of rows can be filtered by words.
for (const listed of document.querySelectorAll('.listed')) {
  const rows = [...listed.querySelectorAll('tbody tr')];
  if (rows.length < 6) continue;
  const filter = make('input', {
    type: 'search', placeholder: 'filter rows by words', 'aria-label': 'filter rows by words',
    input: () => {
      const words = filter.value.toLowerCase().split(/\s+/);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    },
  });
  listed.prepend(filter);
}
