// Texts coloured by numbers.

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
