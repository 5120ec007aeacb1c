//! Heads as a graph: layers from left to right, the strongest links between heads as curves.

use crate::Result;
use crate::colour::{Ramp, scale_of};
use crate::colour_bar::ColourBar;
use crate::field::some;
use crate::picture::Picture;
use crate::scene::{Anchor, Scene};
use crate::theme::Theme;

/// The most links that are drawn.
const MOST: usize = 80;
const PITCH: (f64, f64) = (14.0, 26.0);
const TALL: f64 = 460.0;
/// In how many straight pieces a curve is drawn.
const PIECES: usize = 24;

/// A link from a head to a later one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Link {
    /// Layer and head where it begins.
    pub(crate) from: (usize, usize),
    /// Layer and head where it ends.
    pub(crate) to: (usize, usize),
    pub(crate) weight: f64,
}

/// Links between heads.
#[derive(Debug, Clone)]
pub(crate) struct HeadGraph {
    pub(crate) title: String,
    /// What the weight of a link is.
    pub(crate) value: String,
    /// The number of each layer and of each head that is shown.
    pub(crate) layers: Vec<usize>,
    pub(crate) heads: Vec<usize>,
    /// Links between places in `layers` and `heads`.
    pub(crate) links: Vec<Link>,
    pub(crate) notes: Vec<String>,
}

impl Picture for HeadGraph {
    fn title(&self) -> &str {
        &self.title
    }

    fn scene(&self, theme: &Theme) -> Result<Scene> {
        some(&self.title, "it has no layers", self.layers.len())?;
        some(&self.title, "it has no heads", self.heads.len())?;
        let odd = self.links.iter().filter(|link| !link.weight.is_finite()).count();
        let mut links: Vec<Link> = self.links.iter().copied().filter(|link| link.weight.is_finite()).collect();
        some(&self.title, "it has no links between heads", links.len())?;
        links.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()).then(a.from.cmp(&b.from)).then(a.to.cmp(&b.to)));
        let mut notes = self.notes.clone();
        if links.len() > MOST {
            notes.push(format!("the {MOST} strongest of {} links", links.len()));
            links.truncate(MOST);
        }
        if odd > 0 {
            notes.push(format!("left out: {odd} links without a finite weight"));
        }
        let scale = scale_of(links.iter().map(|link| &link.weight));
        let ramp = Ramp::over(links.iter().map(|link| link.weight), scale);
        let n_heads = self.heads.len() as f64;
        let down = (TALL / n_heads).clamp(PITCH.0, PITCH.1);
        let bar = ColourBar::new(ramp, &self.value, n_heads * down, theme);

        let left = 44.0;
        let room = theme.width - 2.0 * Theme::MARGIN - left - bar.width() - 10.0;
        let across = (room / self.layers.len() as f64).clamp(PITCH.0, 90.0);
        let place = |(layer, head): (usize, usize)| (left + (layer as f64 + 0.5) * across, (head as f64 + 0.5) * down);
        let (width, height) = (across * self.layers.len() as f64, down * n_heads);

        let mut scene = Scene::default();
        let most = links.first().map_or(1.0, |link| link.weight.abs()).max(f64::MIN_POSITIVE);
        let radius = (across.min(down) * 0.2).clamp(1.5, 4.0);
        for layer in 0..self.layers.len() {
            for head in 0..self.heads.len() {
                scene.disk(place((layer, head)), radius, theme.border);
            }
        }
        // The strongest lie on top.
        for link in links.iter().rev() {
            let strength = link.weight.abs() / most;
            let colour = ramp.colour(link.weight);
            let curve = curve(place(link.from), place(link.to));
            scene.pale_stroke(curve, 0.7 + 2.8 * strength, colour, 0.35 + 0.6 * strength);
        }
        for link in links.iter().rev() {
            for end in [link.from, link.to] {
                scene.disk(place(end), radius + 0.8, theme.ink);
            }
        }
        let step = |pitch: f64, room: f64| (room / pitch).ceil().max(1.0) as usize;
        for (index, layer) in self.layers.iter().enumerate().step_by(step(across, 18.0)) {
            let x = place((index, 0)).0;
            scene.text((x, height + 10.0), Anchor::Middle, &layer.to_string(), Theme::LABEL, theme.ink);
        }
        for (index, head) in self.heads.iter().enumerate().step_by(step(down, 13.0)) {
            scene.text((left - 4.0, place((0, index)).1), Anchor::End, &head.to_string(), Theme::LABEL, theme.ink);
        }
        scene.text((left + width / 2.0, height + 27.0), Anchor::Middle, "layer", Theme::LABEL, theme.muted);
        scene.turned((6.0, height / 2.0), Anchor::Middle, "head", Theme::LABEL, theme.muted);
        let end = bar.draw(&mut scene, (left + width + 14.0, 0.0), height.clamp(96.0, 320.0), theme);
        scene.width = left + width + bar.width();
        scene.height = end.max(height + 34.0);
        Ok(scene.framed(&self.title, &notes, theme))
    }
}

/// A curve that leaves and arrives level.
fn curve(from: (f64, f64), to: (f64, f64)) -> Vec<(f64, f64)> {
    let bend = (to.0 - from.0) / 2.0;
    let (a, b, c, d) = (from, (from.0 + bend, from.1), (to.0 - bend, to.1), to);
    let mix = |t: f64, pick: fn((f64, f64)) -> f64| {
        let s = 1.0 - t;
        s * s * s * pick(a) + 3.0 * s * s * t * pick(b) + 3.0 * s * t * t * pick(c) + t * t * t * pick(d)
    };
    (0..=PIECES)
        .map(|piece| piece as f64 / PIECES as f64)
        .map(|t| (mix(t, |point| point.0), mix(t, |point| point.1)))
        .collect()
}
