// Sheets of features.

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
