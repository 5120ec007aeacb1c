//! Reads back what was drawn: the marks of an SVG in pixels, the colours of a PNG.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[derive(Debug, Clone)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) fill: String,
}

#[derive(Debug)]
pub(super) struct Text {
    pub(super) x: f64,
    pub(super) size: f64,
    pub(super) fill: String,
    pub(super) turned: bool,
    /// As it stands in the file, entities and all.
    pub(super) written: String,
}

pub(super) struct Svg {
    pub(super) text: String,
    pub(super) rects: Vec<Rect>,
    pub(super) texts: Vec<Text>,
    pub(super) strokes: usize,
    pub(super) disks: usize,
    pub(super) areas: usize,
    /// The images that stand for dense cells.
    pub(super) images: Vec<Image>,
}

impl Svg {
    pub(super) fn of(text: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let starting = |start: &'static str| lines.iter().copied().filter(move |line| line.starts_with(start));
        let rects = starting("<rect").map(|line| Rect {
            x: number(line, "x"),
            y: number(line, "y"),
            width: number(line, "width"),
            height: number(line, "height"),
            fill: attribute(line, "fill").to_owned(),
        });
        let texts = starting("<text").map(|line| Text {
            x: number(line, "x"),
            size: number(line, "font-size"),
            fill: attribute(line, "fill").to_owned(),
            turned: line.contains("rotate(-90"),
            written: line.split_once('>').unwrap().1.strip_suffix("</text>").unwrap().to_owned(),
        });
        let images = starting("<image").map(|line| {
            let data = attribute(line, "href").strip_prefix("data:image/png;base64,").unwrap();
            Image::of(&STANDARD.decode(data).unwrap())
        });
        Self {
            rects: rects.collect(),
            texts: texts.collect(),
            strokes: starting("<polyline").count(),
            disks: starting("<circle").count(),
            areas: starting("<polygon").count(),
            images: images.collect(),
            text: text.to_owned(),
        }
    }

    /// The cells of heatmaps: the rectangles inside the ground that are neither lines nor parts of a colour bar.
    pub(super) fn cells(&self) -> Vec<Rect> {
        let cell = |rect: &&Rect| rect.width >= 4.0 && rect.height >= 4.0;
        self.rects.iter().skip(1).filter(cell).cloned().collect()
    }

    pub(super) fn has(&self, text: &str) -> bool {
        self.texts.iter().any(|found| found.written == text)
    }

    /// How many texts and marks there are, and every text: what a picture is made of.
    pub(super) fn outline(&self) -> String {
        let counts = format!(
            "{} rectangles, {} lines, {} areas, {} disks, {} images\n",
            self.rects.len(),
            self.strokes,
            self.areas,
            self.disks,
            self.images.len()
        );
        let texts: Vec<&str> = self.texts.iter().map(|text| text.written.as_str()).collect();
        counts + &texts.join(" | ")
    }
}

fn attribute<'a>(line: &'a str, name: &str) -> &'a str {
    let start = format!(" {name}=\"");
    let rest = line.split_once(&start).unwrap_or_else(|| panic!("no `{name}` in {line}")).1;
    rest.split_once('"').unwrap().0
}

fn number(line: &str, name: &str) -> f64 {
    attribute(line, name).parse::<f64>().unwrap()
}

/// A decoded PNG.
pub(super) struct Image {
    pub(super) width: usize,
    pub(super) height: usize,
    pixels: Vec<u8>,
}

impl Image {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(info.color_type, png::ColorType::Rgb);
        Self { width: info.width as usize, height: info.height as usize, pixels }
    }

    /// How many pixels have a colour.
    pub(super) fn count(&self, hex: &str) -> usize {
        let places = (0..self.height).flat_map(|y| (0..self.width).map(move |x| (x, y)));
        places.filter(|&(x, y)| self.hex(x, y) == hex).count()
    }

    pub(super) fn hex(&self, x: usize, y: usize) -> String {
        let start = (y * self.width + x) * 3;
        self.pixels[start..start + 3].iter().fold("#".to_owned(), |hex, channel| format!("{hex}{channel:02X}"))
    }
}
