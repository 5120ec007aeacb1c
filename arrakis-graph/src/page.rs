//! Pages of HTML that hold everything they show: no request leaves them, and no script but their own runs.

mod attention;
mod blobs;
mod feature;
mod grid;
mod pictures;
mod text;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::colour;
use crate::svg::escaped;
use crate::theme::{Style, Theme};
use crate::{Error, Result, label};

use blobs::Blob;

pub(crate) use attention::widget as attention;
pub(crate) use feature::widget as feature;
pub(crate) use grid::widget as grid;
pub(crate) use text::widget as text;

const SCRIPT: &str = concat!(
    include_str!("page/make.js"),
    include_str!("page/attention.js"),
    include_str!("page/grid.js"),
    include_str!("page/text.js"),
    include_str!("page/feature.js"),
    include_str!("page/build.js"),
);
const LOOKS: &str = include_str!("page/page.css");

/// How many letters a cell of a table may have and stay on one line.
const WHOLE: usize = 24;

/// A part of a page that can be explored: what the page's script is to build, and its numbers.
#[derive(Debug, Clone)]
pub struct Widget {
    /// Which of the script's builders makes it, and all that it needs but numbers.
    pub(crate) data: Value,
    /// Its numbers; `data` counts them from 0.
    pub(crate) blobs: Vec<Blob>,
}

/// An entry of a table on a page: a text, perhaps with somewhere to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The text.
    pub text: String,
    /// Where a click on it leads: an address relative to the page.
    pub link: Option<String>,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, link: None }
    }
}

/// A page being written, from top to bottom.
#[derive(Debug, Clone)]
pub struct Page {
    title: String,
    /// Whether a picture shows the title, so that the page need only speak it.
    title_is_drawn: bool,
    theme: Theme,
    body: String,
    widgets: Vec<Value>,
    blobs: Vec<Blob>,
}

impl Page {
    /// A page with a title and nothing below it yet; pictures on it are as wide as `style` says.
    pub fn new(title: &str, style: &Style) -> Result<Self> {
        let theme = Theme::new(&Style { dark: false, ..*style })?;
        Ok(Self {
            title: label::spelled(title),
            title_is_drawn: false,
            theme,
            body: String::new(),
            widgets: vec![],
            blobs: vec![],
        })
    }

    /// A heading.
    #[must_use]
    pub fn heading(mut self, text: &str) -> Self {
        self.put(format_args!("<h2>{}</h2>\n", escaped(&label::spelled(text))));
        self
    }

    /// A paragraph.
    #[must_use]
    pub fn paragraph(mut self, text: &str) -> Self {
        self.put(format_args!("<p>{}</p>\n", escaped(&label::spelled(text))));
        self
    }

    /// Names with what is known of each.
    #[must_use]
    pub fn facts(mut self, facts: &[(String, String)]) -> Self {
        self.put(format_args!("<dl>\n"));
        for (name, fact) in facts {
            let (name, fact) = (escaped(&label::spelled(name)), escaped(&label::spelled(fact)));
            self.put(format_args!("<div><dt>{name}</dt><dd>{fact}</dd></div>\n"));
        }
        self.put(format_args!("</dl>\n"));
        self
    }

    /// A text as it stands, line by line: source, JSON.
    #[must_use]
    pub fn listing(mut self, summary: &str, text: &str) -> Self {
        let (summary, text) = (escaped(&label::spelled(summary)), escaped(text));
        self.put(format_args!("<details><summary>{summary}</summary><pre>{text}</pre></details>\n"));
        self
    }

    /// Texts with where each leads.
    #[must_use]
    pub fn links(mut self, links: &[(String, String)]) -> Self {
        self.put(format_args!("<ul>\n"));
        for (text, link) in links {
            self.put(format_args!("<li><a href=\"{}\">{}</a></li>\n", escaped(link), escaped(&label::spelled(text))));
        }
        self.put(format_args!("</ul>\n"));
        self
    }

    /// A table; a reader can filter its rows by words.
    #[must_use]
    pub fn table(mut self, head: &[&str], rows: &[Vec<Cell>]) -> Self {
        self.put(format_args!("<div class=\"listed\"><table><thead><tr>"));
        for name in head {
            self.put(format_args!("<th scope=\"col\">{}</th>", escaped(name)));
        }
        self.put(format_args!("</tr></thead><tbody>\n"));
        for row in rows {
            self.put(format_args!("<tr>"));
            for cell in row {
                let text = escaped(&label::spelled(&cell.text));
                let whole = if cell.text.chars().count() <= WHOLE { " class=\"whole\"" } else { "" };
                match &cell.link {
                    Some(link) => self.put(format_args!("<td{whole}><a href=\"{}\">{text}</a></td>", escaped(link))),
                    None => self.put(format_args!("<td{whole}>{text}</td>")),
                }
            }
            self.put(format_args!("</tr>\n"));
        }
        self.put(format_args!("</tbody></table></div>\n"));
        self
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a `String` cannot fail.
        let _ = self.body.write_fmt(text);
    }

    /// The whole page.
    pub fn html(&self) -> Result<String> {
        let data = json!({
            "widgets": self.widgets,
            "sequential": colour::viridis(),
            "diverging": colour::blue_red(),
        });
        let data = serde_json::to_string(&data).map_err(arrakis_core::Error::from)?;
        // Within a script, `<` could end it.
        let data = data.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
        let title = escaped(&self.title);
        let spoken = if self.title_is_drawn { " class=\"spoken\"" } else { "" };
        let (light, dark) = (inks(false)?, inks(true)?);
        let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'sha256-{hash}'; img-src data:; form-action 'none'; base-uri 'none'\">\n\
             <title>{title}</title>\n<style>\n{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{LOOKS}</style>\n</head>\n<body>\n<main>\n<h1{spoken}>{title}</h1>\n{}</main>\n",
            self.body
        );
        let packed: Vec<_> = self.blobs.par_iter().map(|blob| blob.packed().map(|it| STANDARD.encode(it))).collect();
        // The script runs when it has what it shows first; what only a reader's choice brings up may still be on its way.
        let (mut first, mut later) = (String::new(), String::new());
        for (place, blob) in packed.into_iter().enumerate() {
            let blob = blob.map_err(|error| Error::Encode(error.to_string()))?;
            let needed = self.widgets.iter().any(|widget| widget["first_blob"] == place);
            let part = if needed { &mut first } else { &mut later };
            let _ = writeln!(part, "<script type=\"application/octet-stream\" id=\"blob-{place}\">{blob}</script>");
        }
        let _ = write!(
            out,
            "{first}<script type=\"application/json\" id=\"page\">{data}</script>\n<script>{SCRIPT}</script>\n\
             {later}</body>\n</html>\n"
        );
        Ok(out)
    }
}

/// The inks of the light or the dark theme as a rule of CSS.
fn inks(dark: bool) -> Result<String> {
    let theme = Theme::new(&Style { dark, ..Style::DEFAULT })?;
    let inks = theme.inks().map(|(ink, name)| format!("--{name}: {ink};"));
    Ok(format!(":root {{ --ground: {}; {} }}", theme.ground, inks.join(" ")))
}
