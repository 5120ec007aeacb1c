// Builds every part of the page: what comes before are functions.

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
