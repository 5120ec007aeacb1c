//! `arrakis report`: a page with runs, their parameters, results, pictures and source.

use std::path::PathBuf;

use anyhow::{Result, bail};
use arrakis_bench::Record;
use arrakis_graph::{Page, Style, save};
use clap::Args;

use super::Usage;
use super::ask::check_folder;
use super::console::Console;
use super::options::Options;
use crate::run_page;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The runs, or the first letters of their ids, in the order of the page
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// The page
    #[arg(long, default_value = "report.html", value_name = "FILE.html")]
    out: PathBuf,
    /// What the page is called
    #[arg(long, default_value = "Report")]
    title: String,
    /// The greatest width of a picture, in pixels of 1/96 inch
    #[arg(long, default_value_t = Style::DEFAULT.width, value_name = "PIXELS")]
    width: f64,
}

impl Arguments {
    pub(crate) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let ending = self.out.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        if ending.as_deref() != Some("html") {
            bail!(Usage(format!("`--out {}`: a report is a page and ends in `.html`", self.out.display())));
        }
        check_folder(&self.out)?;
        let log = options.bench.log();
        let records = self.runs.iter().map(|run| Ok(log.get(run)?)).collect::<Result<Vec<Record>>>()?;
        let mut page = Page::new(&self.title, &Style { width: self.width, ..Style::DEFAULT })?;
        for record in &records {
            page = run_page::add(page.heading(&format!("{} · {}", record.name, record.id)), &log, record)?;
        }
        save(&self.out, page.html()?.as_bytes())?;
        console.tell(format_args!("wrote {}\n", self.out.display()))?;
        Ok(())
    }
}
