//! Answers as text: tables that fit the width of a terminal, thinned where they do not.

use std::fmt;

use unicode_width::UnicodeWidthStr;

use crate::answer::numbers;
use crate::{Answer, Grid, Part, Ranking, Series, Stack};

/// The widest label or cell; longer ones are cut.
const LABEL: usize = 24;
/// Between two columns.
const GAP: &str = "  ";
/// Stands where rows or columns were left out.
const LEFT_OUT: &str = "…";
/// The longest bar of a ranking.
const BAR: usize = 24;

/// The room that a table has; it is thinned to it where that is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Letters in a line.
    pub width: usize,
    /// Rows of a table, its head not counted; a quarter more are shown before any is left out.
    pub rows: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { width: 100, rows: 36 }
    }
}

impl Room {
    /// Whether a table of so many rows is thinned; for a few rows too many it is not.
    const fn thins(self, rows: usize) -> bool {
        rows > self.rows.saturating_add(self.rows / 4)
    }

    /// The rows of a table that are shown; `None` where some are left out.
    fn rows_of(self, len: usize) -> Vec<Option<usize>> {
        if self.thins(len) { thin(len, self.rows.max(2)) } else { (0..len).map(Some).collect() }
    }
}

impl Answer {
    /// The most rows that a table of it has, if some are left out in that room.
    #[must_use]
    pub fn rows_beyond(&self, room: Room) -> Option<usize> {
        let rows = |(_, part): (&str, &Part)| match part {
            Part::Grid(grid) => grid.rows.len(),
            Part::Series(series) => series.axis.len(),
            Part::Ranking(ranking) => ranking.entries.len(),
            Part::Number(_) | Part::Text(_) | Part::Stack(_) => 0,
        };
        self.parts().map(rows).max().filter(|rows| room.thins(*rows))
    }

    /// The answer as text.
    #[must_use]
    pub fn text(&self, room: Room) -> String {
        let parts: Vec<String> = self.parts().map(|(name, part)| part.text(name, room)).collect();
        parts.join("\n\n")
    }
}

impl Part {
    /// The part as text; `name` stands before a lone value.
    #[must_use]
    pub fn text(&self, name: &str, room: Room) -> String {
        match self {
            Self::Number(number) => format!("{name}: {}", Format::of(&[*number]).show(*number)),
            Self::Text(text) => format!("{name}: {text}"),
            Self::Grid(grid) => grid_text(grid, room),
            Self::Series(series) => series_text(series, room),
            Self::Ranking(ranking) => ranking_text(ranking, room),
            Self::Stack(stack) => stack_text(stack),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(Room::default()))
    }
}

/// A label on one line, its leading space visible: `·Mary`.
#[must_use]
pub fn label(text: &str) -> String {
    let shown: String = match text.strip_prefix(' ') {
        Some(rest) => format!("·{}", rest.escape_debug()),
        None => text.escape_debug().to_string(),
    };
    // Quotes need no escape outside quotes.
    cut(&shown.replace("\\'", "'").replace("\\\"", "\""))
}

fn cut(text: &str) -> String {
    if text.width() <= LABEL {
        return text.to_owned();
    }
    let mut shown = String::new();
    for letter in text.chars() {
        if shown.width() >= LABEL - 1 {
            break;
        }
        shown.push(letter);
    }
    shown + LEFT_OUT
}

fn grid_text(grid: &Grid, room: Room) -> String {
    let format = Format::of(&grid.values);
    let cell = |row: usize, column: usize| {
        let place = row * grid.columns.len() + column;
        let number = grid.values.get(place).map(|number| format.show(*number)).unwrap_or_default();
        match grid.cells.as_ref().and_then(|cells| cells.get(place)) {
            Some(text) => format!("{} {number}", label(text)),
            None => number,
        }
    };
    let corner = format!("{} \\ {}", grid.rows.name, grid.columns.name);
    let table = Table { corner, rows: &grid.rows.labels, columns: &grid.columns.labels, cell: &cell };
    format!("{} ({})\n{}", grid.title, grid.value, table.text(room))
}

fn series_text(series: &Series, room: Room) -> String {
    let all: Vec<f64> = series.lines.iter().flat_map(|line| line.values.iter().copied()).collect();
    let format = Format::of(&all);
    let columns: Vec<String> = series.lines.iter().map(|line| line.name.clone()).collect();
    let cell = |row: usize, column: usize| {
        let number = series.lines.get(column).and_then(|line| line.values.get(row));
        number.map(|number| format.show(*number)).unwrap_or_default()
    };
    let table = Table { corner: series.axis.name.clone(), rows: &series.axis.labels, columns: &columns, cell: &cell };
    format!("{} ({})\n{}", series.title, series.value, table.text(room))
}

fn ranking_text(ranking: &Ranking, room: Room) -> String {
    let values: Vec<f64> = ranking.entries.iter().map(|entry| entry.value).collect();
    let format = Format::of(&values);
    let most = values.iter().filter(|value| value.is_finite()).fold(0.0_f64, |most, value| most.max(value.abs()));
    let places = room.rows_of(ranking.entries.len());
    let rows: Vec<[String; 3]> = places
        .iter()
        .map(|place| match place.and_then(|place| ranking.entries.get(place)) {
            Some(entry) => {
                let share = if most > 0.0 && entry.value.is_finite() { entry.value.abs() / most } else { 0.0 };
                let bar = "█".repeat((share * BAR as f64).round() as usize);
                [label(&entry.label), format.show(entry.value), bar]
            }
            None => [LEFT_OUT.to_owned(), String::new(), String::new()],
        })
        .collect();
    let widest = |column: usize| rows.iter().map(|row| row[column].width()).max().unwrap_or(0);
    let (names, numbers) = (widest(0), widest(1));
    let mut text = format!("{} ({})", ranking.title, ranking.value);
    for [name, number, bar] in &rows {
        let line = format!("{}{GAP}{}{GAP}{bar}", left(name, names), right(number, numbers));
        text.push('\n');
        text.push_str(line.trim_end());
    }
    if let Some(line) = counted(&places, ranking.entries.len()) {
        text.push('\n');
        text.push_str(&line);
    }
    text
}

fn stack_text(stack: &Stack) -> String {
    let axes: Vec<String> = stack.axes.iter().map(|axis| format!("{} {}", axis.name, axis.len())).collect();
    let values = numbers(&stack.values).unwrap_or_default();
    let format = Format::of(&values);
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let range = if values.is_empty() {
        "no numbers".to_owned()
    } else {
        format!("least {}, mean {}, greatest {}", format.show(least), format.show(mean), format.show(greatest))
    };
    format!("{} ({})\n{}: {range}", stack.title, stack.value, axes.join(" × "))
}

/// How the numbers of one table are written: all alike, so that they can be compared by eye.
enum Format {
    Whole,
    Fixed(usize),
    Scientific,
}

impl Format {
    fn of(values: &[f64]) -> Self {
        let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let most = finite.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
        if most < 1e9 && finite.iter().all(|value| value.fract() == 0.0) {
            return Self::Whole;
        }
        match most {
            most if !(1e-3..1e6).contains(&most) => Self::Scientific,
            most if most < 0.1 => Self::Fixed(5),
            most if most < 100.0 => Self::Fixed(3),
            most if most < 10_000.0 => Self::Fixed(2),
            _ => Self::Fixed(1),
        }
    }

    fn show(&self, number: f64) -> String {
        match self {
            _ if number.is_nan() => "NaN".to_owned(),
            _ if number.is_infinite() => if number > 0.0 { "∞" } else { "-∞" }.to_owned(),
            Self::Whole => format!("{number:.0}"),
            Self::Fixed(digits) => {
                let shown = format!("{number:.digits$}");
                let zero = shown.bytes().all(|digit| b"-0.".contains(&digit));
                if zero { shown.trim_start_matches('-').to_owned() } else { shown }
            }
            Self::Scientific => format!("{number:.2e}"),
        }
    }
}

struct Table<'a> {
    corner: String,
    rows: &'a [String],
    columns: &'a [String],
    cell: &'a dyn Fn(usize, usize) -> String,
}

impl Table<'_> {
    fn text(&self, room: Room) -> String {
        let rows = room.rows_of(self.rows.len());
        let name = |row: &Option<usize>| row.map_or_else(|| LEFT_OUT.to_owned(), |row| label(&self.rows[row]));
        let names: Vec<String> = rows.iter().map(name).collect();
        let first = names.iter().map(|name| name.width()).max().unwrap_or(0).max(self.corner.width());
        let shown: Vec<Vec<String>> = (0..self.columns.len()).map(|column| self.column(column, &rows)).collect();
        let widths: Vec<usize> =
            shown.iter().map(|column| column.iter().map(|cell| cell.width()).max().unwrap_or(0)).collect();
        let columns = fitting(&widths, room.width.saturating_sub(first));

        let mut lines = vec![left(&self.corner, first)];
        lines.extend(names.iter().map(|name| left(name, first)));
        for (place, line) in lines.iter_mut().enumerate() {
            for column in &columns {
                line.push_str(GAP);
                match column {
                    Some(column) => line.push_str(&right(&shown[*column][place], widths[*column])),
                    None => line.push_str(LEFT_OUT),
                }
            }
            line.truncate(line.trim_end().len());
        }
        lines.extend(counted(&rows, self.rows.len()));
        lines.join("\n")
    }

    /// The head of a column and its cells.
    fn column(&self, column: usize, rows: &[Option<usize>]) -> Vec<String> {
        let cells = rows.iter().map(|row| row.map_or_else(String::new, |row| (self.cell)(row, column)));
        std::iter::once(label(&self.columns[column])).chain(cells).collect()
    }
}

/// The places of `0..len` to show, at most `most` of them: the first and the last, and `None` where some are left out.
fn thin(len: usize, most: usize) -> Vec<Option<usize>> {
    if len <= most {
        return (0..len).map(Some).collect();
    }
    let (head, tail) = (most / 2, most - most / 2);
    (0..head).map(Some).chain([None]).chain((len - tail..len).map(Some)).collect()
}

/// A line that says how many rows are shown, where some are left out.
fn counted(shown: &[Option<usize>], len: usize) -> Option<String> {
    let count = shown.iter().flatten().count();
    (count < len).then(|| format!("({count} of {len} rows)"))
}

/// The columns that fit into `width`, thinned as [`thin`] does; always at least the first and the last.
fn fitting(widths: &[usize], width: usize) -> Vec<Option<usize>> {
    let taken = |columns: &[Option<usize>]| -> usize {
        columns.iter().map(|column| GAP.len() + column.map_or(1, |column| widths[column])).sum()
    };
    let choices = (2..=widths.len()).rev().map(|most| thin(widths.len(), most));
    let fits = choices.into_iter().find(|columns| taken(columns) <= width);
    fits.unwrap_or_else(|| thin(widths.len(), 2))
}

fn left(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

fn right(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(text.width())))
}
