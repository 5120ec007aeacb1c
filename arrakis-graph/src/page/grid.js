// Grids, to be read cell by cell.

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
