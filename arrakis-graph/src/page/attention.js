// Attention patterns, to be explored by layer, head and token.

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
