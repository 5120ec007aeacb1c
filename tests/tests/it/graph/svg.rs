//! Reads back what was drawn: the marks of an SVG in pixels, the colours of a PNG.

/// Units of the SVG in a pixel.
const FINE: f64 = 20.0;

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
}

impl Svg {
    pub(super) fn of(text: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let rects = lines.iter().filter(|line| line.starts_with("<rect")).map(|line| Rect {
            x: number(line, "x"),
            y: number(line, "y"),
            width: number(line, "width"),
            height: number(line, "height"),
            fill: attribute(line, "fill").to_owned(),
        });
        let texts = lines.windows(2).filter(|pair| pair[0].starts_with("<text")).map(|pair| Text {
            x: number(pair[0], "x"),
            size: number(pair[0], "font-size"),
            fill: attribute(pair[0], "fill").to_owned(),
            turned: pair[0].contains("rotate(270"),
            written: pair[1].to_owned(),
        });
        let strokes = lines.iter().filter(|line| line.starts_with("<polyline")).count();
        Self { rects: rects.collect(), texts: texts.collect(), strokes, text: text.to_owned() }
    }

    /// The cells of heatmaps: the rectangles inside the ground that are neither lines nor parts of a colour bar.
    pub(super) fn cells(&self) -> Vec<Rect> {
        let cell = |rect: &&Rect| rect.width >= 4.0 && rect.height >= 4.0;
        self.rects.iter().skip(1).filter(cell).cloned().collect()
    }

    pub(super) fn has(&self, text: &str) -> bool {
        self.texts.iter().any(|found| found.written == text)
    }
}

fn attribute<'a>(line: &'a str, name: &str) -> &'a str {
    let start = format!(" {name}=\"");
    let rest = line.split_once(&start).unwrap_or_else(|| panic!("no `{name}` in {line}")).1;
    rest.split_once('"').unwrap().0
}

fn number(line: &str, name: &str) -> f64 {
    attribute(line, name).parse::<f64>().unwrap() / FINE
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

    pub(super) fn hex(&self, x: usize, y: usize) -> String {
        let start = (y * self.width + x) * 3;
        self.pixels[start..start + 3].iter().fold("#".to_owned(), |hex, channel| format!("{hex}{channel:02X}"))
    }
}
