//! A picture before it has a format: marks in pixels of the layout, `x` to the right and `y` down.

use crate::colour::Colour;
use crate::font::Font;
use crate::label;
use crate::theme::Theme;

/// Where along a text its point lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// At its beginning.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// One thing to be drawn.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mark {
    /// A filled rectangle, its edges on whole pixels of a PNG.
    Rect {
        /// Its left edge.
        x: f64,
        /// Its upper edge.
        y: f64,
        /// How far it reaches to the right.
        width: f64,
        /// How far it reaches down.
        height: f64,
        /// Its colour.
        fill: Colour,
    },
    /// Equal cells that fill a rectangle, its edges on whole pixels of a PNG; no cell runs into another.
    Cells {
        /// The left edge.
        x: f64,
        /// The upper edge.
        y: f64,
        /// How far they reach to the right together.
        width: f64,
        /// How far they reach down together.
        height: f64,
        /// How many lie beside each other.
        columns: usize,
        /// Their colours, row by row.
        fills: Vec<Colour>,
    },
    /// A line through points, with round joins.
    Stroke {
        /// The points.
        points: Vec<(f64, f64)>,
        /// Its width.
        width: f64,
        /// Its colour.
        colour: Colour,
        /// How much of the ground it covers, from 0 to 1.
        opacity: f64,
    },
    /// A filled area with straight edges.
    Area {
        /// The corners.
        points: Vec<(f64, f64)>,
        /// Its colour.
        fill: Colour,
        /// How much of the ground it covers, from 0 to 1.
        opacity: f64,
    },
    /// A filled circle.
    Disk {
        /// Its middle.
        x: f64,
        /// Its middle.
        y: f64,
        /// Its radius.
        radius: f64,
        /// Its colour.
        colour: Colour,
    },
    /// A text, its baseline at the point; a turned one reads upwards.
    Text {
        /// The point.
        x: f64,
        /// The point.
        y: f64,
        /// The text, everything in it visible.
        text: String,
        /// The size of the font.
        size: f64,
        /// Its colour.
        colour: Colour,
        /// Where along the text the point lies.
        anchor: Anchor,
        /// Whether it reads upwards.
        turned: bool,
    },
}

/// Marks on a ground of some size, in pixels of 1/96 inch: what a backend draws.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Scene {
    /// The width of the ground.
    pub width: f64,
    /// Its height.
    pub height: f64,
    /// The marks, later ones over earlier ones.
    pub marks: Vec<Mark>,
}

impl Scene {
    pub(crate) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: Colour) {
        self.marks.push(Mark::Rect { x, y, width, height, fill });
    }

    /// A line along the axes, one pixel wide, centred on its points.
    pub(crate) fn rule(&mut self, from: (f64, f64), to: (f64, f64), colour: Colour) {
        let corner = (from.0.min(to.0) - 0.5, from.1.min(to.1) - 0.5);
        self.rect(corner, ((from.0 - to.0).abs() + 1.0, (from.1 - to.1).abs() + 1.0), colour);
    }

    /// The outline of a rectangle, just outside it.
    pub(crate) fn frame(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: Colour) {
        let (left, top, right, bottom) = (x - 0.5, y - 0.5, x + width + 0.5, y + height + 0.5);
        self.rule((left, top), (right, top), colour);
        self.rule((left, bottom), (right, bottom), colour);
        self.rule((left, top), (left, bottom), colour);
        self.rule((right, top), (right, bottom), colour);
    }

    pub(crate) fn stroke(&mut self, points: Vec<(f64, f64)>, width: f64, colour: Colour) {
        self.marks.push(Mark::Stroke { points, width, colour, opacity: 1.0 });
    }

    /// A line through which what lies under it can be seen.
    pub(crate) fn pale_stroke(&mut self, points: Vec<(f64, f64)>, width: f64, colour: Colour, opacity: f64) {
        self.marks.push(Mark::Stroke { points, width, colour, opacity });
    }

    /// An area through which what lies under it can be seen.
    pub(crate) fn area(&mut self, points: Vec<(f64, f64)>, fill: Colour, opacity: f64) {
        self.marks.push(Mark::Area { points, fill, opacity });
    }

    /// Equal cells that fill a rectangle, row by row.
    pub(crate) fn cells(
        &mut self,
        (x, y): (f64, f64),
        (width, height): (f64, f64),
        columns: usize,
        fills: Vec<Colour>,
    ) {
        self.marks.push(Mark::Cells { x, y, width, height, columns, fills });
    }

    pub(crate) fn disk(&mut self, (x, y): (f64, f64), radius: f64, colour: Colour) {
        self.marks.push(Mark::Disk { x, y, radius, colour });
    }

    /// A text whose capitals are centred on the height `y`.
    pub(crate) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str, size: f64, colour: Colour) {
        self.write((x, y + Font::drop(size)), anchor, text, size, colour, false);
    }

    /// A text that reads upwards, its capitals centred on `x`.
    pub(crate) fn turned(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str, size: f64, colour: Colour) {
        self.write((x + Font::drop(size), y), anchor, text, size, colour, true);
    }

    fn write(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str, size: f64, colour: Colour, turned: bool) {
        if !text.is_empty() {
            self.marks.push(Mark::Text { x, y, text: text.to_owned(), size, colour, anchor, turned });
        }
    }

    /// Adds the marks of another scene, moved.
    pub(crate) fn append(&mut self, other: Self, (right, down): (f64, f64)) {
        self.marks.extend(other.marks.into_iter().map(|mut mark| {
            match &mut mark {
                Mark::Rect { x, y, .. }
                | Mark::Cells { x, y, .. }
                | Mark::Disk { x, y, .. }
                | Mark::Text { x, y, .. } => {
                    *x += right;
                    *y += down;
                }
                Mark::Stroke { points, .. } | Mark::Area { points, .. } => points.iter_mut().for_each(|point| {
                    point.0 += right;
                    point.1 += down;
                }),
            }
            mark
        }));
    }

    /// A framed scene as a part of another: without its ground and margin.
    pub(crate) fn unframed(mut self) -> Self {
        let mut bare = Self::default();
        self.marks.remove(0);
        (bare.width, bare.height) = (self.width - 2.0 * Theme::MARGIN, self.height - 2.0 * Theme::MARGIN);
        bare.append(self, (-Theme::MARGIN, -Theme::MARGIN));
        bare
    }

    /// This scene with a title above, notes below and a margin around, on the theme's ground.
    pub(crate) fn framed(self, title: &str, notes: &[String], theme: &Theme) -> Self {
        let title = label::visible(title.trim(), &theme.font);
        let most = (theme.width - 2.0 * Theme::MARGIN).max(self.width);
        let wanted = theme.measure(&title, Theme::TITLE).min(most.min(380.0));
        let width = self.width.max(wanted).ceil();
        let titles = label::wrap(&title, Theme::TITLE, width + 1.0, &theme.font);
        let notes: Vec<String> =
            notes.iter().flat_map(|note| label::wrap(note, Theme::SMALL, width, &theme.font)).collect();

        let mut scene = Self::default();
        let mut y = Theme::MARGIN;
        for line in &titles {
            scene.text((Theme::MARGIN, y + 8.0), Anchor::Start, line, Theme::TITLE, theme.ink);
            y += 19.0;
        }
        if !titles.is_empty() {
            y += 7.0;
        }
        let (body_width, body_height) = (width.max(self.width).ceil(), self.height.ceil());
        scene.append(self, (Theme::MARGIN, y));
        y += body_height;
        if !notes.is_empty() {
            y += 8.0;
        }
        for line in &notes {
            scene.text((Theme::MARGIN, y + 6.0), Anchor::Start, line, Theme::SMALL, theme.muted);
            y += 14.0;
        }
        scene.width = body_width + 2.0 * Theme::MARGIN;
        scene.height = y + Theme::MARGIN;
        let ground = Mark::Rect { x: 0.0, y: 0.0, width: scene.width, height: scene.height, fill: theme.ground };
        scene.marks.insert(0, ground);
        scene
    }
}
