//! A profile as a table, and as an answer that prints, logs and draws.

use std::fmt;
use std::time::Duration;

use arrakis_core::{Answer, Axis, Grid, Part, Ranking};

use super::{Profile, Spent};

/// The row of what no pass took.
const OUTSIDE: &str = "outside";

impl Profile {
    /// The profile in a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let whole = self.whole();
        let failed = if self.failed() > 0 { format!(", {} of them failed", self.failed()) } else { String::new() };
        format!(
            "{} over {} positions{failed}: {:.1} ms on the clock, {:.1} ms of processors, {:.2} GFLOP ({:.1} \
             GFLOP/s), {:.2} MB of activations, at most {:.1} MB above the resident memory at the start",
            if self.passes() == 1 { "1 pass".to_owned() } else { format!("{} passes", self.passes()) },
            self.positions(),
            milliseconds(whole.wall),
            milliseconds(whole.cpu),
            giga(whole),
            rate(whole),
            mega(whole.bytes),
            mega(whole.resident),
        )
    }

    /// Every component, and what lies outside the passes.
    fn components(&self) -> Vec<(String, Spent)> {
        let components = self.by_component().into_iter().map(|(name, spent)| (name.to_owned(), spent));
        components.chain([(OUTSIDE.to_owned(), self.outside())]).collect()
    }

    fn layers(&self) -> Vec<(String, Spent)> {
        let name =
            |layer: Option<usize>| layer.map_or_else(|| "before and after".to_owned(), |layer| layer.to_string());
        let layers = self.by_layer().into_iter().map(|(layer, spent)| (name(layer), spent));
        layers.chain([(OUTSIDE.to_owned(), self.outside())]).collect()
    }

    fn table(&self, head: &str, rows: &[(String, Spent)]) -> String {
        let whole = self.whole();
        let width = rows.iter().map(|(name, _)| name.len()).chain([head.len(), 5]).max().unwrap_or(0);
        let line = |name: &str, spent: Spent| {
            let share = 100.0 * spent.wall.as_secs_f64() / whole.wall.as_secs_f64().max(f64::MIN_POSITIVE);
            format!(
                "{name:width$} {:>10.3} {share:>6.1} % {:>10.3} {:>9.3} {:>9.1} {:>9.2}",
                milliseconds(spent.wall),
                milliseconds(spent.cpu),
                giga(spent),
                rate(spent),
                mega(spent.bytes)
            )
        };
        let head = format!(
            "{head:width$} {:>10} {:>8} {:>10} {:>9} {:>9} {:>9}",
            "ms", "share", "CPU ms", "GFLOP", "GFLOP/s", "MB"
        );
        let rows = rows.iter().map(|(name, spent)| line(name, *spent));
        [head].into_iter().chain(rows).chain([line("whole", whole)]).collect::<Vec<String>>().join("\n")
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (components, layers) = (self.table("component", &self.components()), self.table("layer", &self.layers()));
        write!(f, "{}\n\n{components}\n\n{layers}", self.summary())
    }
}

impl From<&Profile> for Answer {
    fn from(profile: &Profile) -> Self {
        let components = profile.components();
        let ranking = |title: &str, value: &str, of: &dyn Fn(Spent) -> f64| {
            Ranking::new(title, value, components.iter().map(|(name, spent)| (name.clone(), of(*spent))))
        };
        let whole = profile.whole();
        let answer = Self::new()
            .with("summary", profile.summary())
            .with("wall_ms", milliseconds(whole.wall))
            .with("cpu_ms", milliseconds(whole.cpu))
            .with("outside_ms", milliseconds(profile.outside().wall))
            .with("flops", whole.flops as f64)
            .with("activation_bytes", whole.bytes as f64)
            .with("resident_bytes", whole.resident as f64)
            .with("passes", profile.passes() as f64)
            .with("wall_by_component", ranking("Time by component", "ms", &|spent| milliseconds(spent.wall)))
            .with("cpu_by_component", ranking("Processor time by component", "ms", &|spent| milliseconds(spent.cpu)))
            .with("flops_by_component", ranking("Matrix products by component", "GFLOP", &giga))
            .with("bytes_by_component", ranking("Activations by component", "MB", &|spent| mega(spent.bytes)));
        match by_place(profile) {
            Some(grid) => answer.with("wall_by_place", grid),
            None => answer,
        }
    }
}

impl From<Profile> for Answer {
    fn from(profile: Profile) -> Self {
        Self::from(&profile)
    }
}

/// Time in each layer and component; nothing without a layer.
fn by_place(profile: &Profile) -> Option<Part> {
    let inside: Vec<_> = profile.rows().iter().filter(|row| row.layer.is_some()).collect();
    let mut layers: Vec<usize> = inside.iter().filter_map(|row| row.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    let mut components: Vec<&str> = Vec::new();
    for row in &inside {
        if !components.contains(&row.component) {
            components.push(row.component);
        }
    }
    let place = |layer: usize, component: &str| {
        let found = inside.iter().find(|row| row.layer == Some(layer) && row.component == component);
        found.map_or(0.0, |row| milliseconds(row.spent.wall))
    };
    let values = layers.iter().flat_map(|layer| components.iter().map(|component| place(*layer, component))).collect();
    let rows = Axis::new("layer", layers.iter().map(ToString::to_string));
    let grid = Grid::new("Time by layer and component", "ms", rows, Axis::new("component", components.clone()), values);
    grid.ok().filter(|_| !inside.is_empty()).map(Part::Grid)
}

fn milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

fn giga(spent: Spent) -> f64 {
    spent.flops as f64 / 1e9
}

/// GFLOP in a second; 0 of nothing.
fn rate(spent: Spent) -> f64 {
    if spent.flops == 0 { 0.0 } else { giga(spent) / spent.wall.as_secs_f64().max(f64::MIN_POSITIVE) }
}

/// Millions of bytes.
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
