//! The log in a browser: a list of runs, a page for each, comparisons, files; nothing is ever written.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::Result;
use arrakis_bench::{Change, Log, Record, Status};
use arrakis_core::{Answer, Part, PlotSpec};
use arrakis_graph::{Cell, Page, Style, plot_parts};
use tiny_http::{Header, Request, Response, Server};

use crate::run_page;

/// How many other runs of the same name a run's page offers to compare with.
const COMPARED: usize = 50;

/// What is answered to a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status of HTTP.
    pub status: u16,
    /// The type of the body.
    pub kind: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

/// A log as pages.
#[derive(Debug, Clone)]
pub struct LogPages {
    log: Log,
    port: u16,
}

impl LogPages {
    /// The pages of a log that is served on that port of this machine.
    #[must_use]
    pub const fn new(log: Log, port: u16) -> Self {
        Self { log, port }
    }

    /// Answers every request until the server is unblocked.
    pub fn serve(&self, server: &Server) {
        for request in server.incoming_requests() {
            let host = header(&request, "Host");
            let reply = self.reply(request.method().as_str(), host.as_deref(), request.url());
            // A browser that has gone away wants no answer.
            let _ = request.respond(response(reply));
        }
    }

    /// What is answered to a request for `path` that came to `host`.
    ///
    /// A `Host` other than this machine's is refused, so that no page of the web can read the log by a name that it
    /// points here; so is every method but `GET` and `HEAD`, and every path that is no run or file of the log.
    #[must_use]
    pub fn reply(&self, method: &str, host: Option<&str>, path: &str) -> Reply {
        let own = ["127.0.0.1", "localhost"].map(|name| format!("{name}:{}", self.port));
        if !host.is_some_and(|host| own.iter().any(|own| own == host)) {
            return refusal(403, "this address answers to 127.0.0.1 and localhost only");
        }
        if !matches!(method, "GET" | "HEAD") {
            return refusal(405, "the log is read, never written");
        }
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let steps: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let found = match steps.as_slice() {
            [""] => self.list().map(Some),
            ["run", id] => self.run(id),
            ["run", id, file] => self.file(id, file),
            ["compare", a, b] => self.compare(a, b),
            _ => Ok(None),
        };
        match found {
            Ok(Some(reply)) => reply,
            Ok(None) => refusal(404, "there is no such page in this log"),
            Err(error) => refusal(500, &error.to_string()),
        }
    }

    fn list(&self) -> Result<Reply> {
        let listing = self.log.listing()?;
        let rows: Vec<Vec<Cell>> = listing.records.iter().rev().map(row).collect();
        let mut page = Page::new("Experiments", &Style::DEFAULT)?;
        page = page.paragraph(&format!("{} runs in {}", rows.len(), self.log.folder().display()));
        for damage in &listing.damaged {
            page = page.paragraph(&format!("damaged: {damage}"));
        }
        html(&page.table(&["run", "what", "status", "started", "seconds", "model", "parameters", "tags"], &rows))
    }

    fn run(&self, id: &str) -> Result<Option<Reply>> {
        let Some(record) = self.record(id) else { return Ok(None) };
        let mut page = Page::new(&record.name, &Style::DEFAULT)?;
        page = page.links(&[("all runs".to_owned(), "/".to_owned())]);
        page = run_page::add(page, &self.log, &record)?;
        let files: Vec<(String, String)> = record
            .files
            .keys()
            .filter(|name| plain(name))
            .map(|name| (name.clone(), format!("/run/{}/{name}", record.id)))
            .collect();
        if !files.is_empty() {
            page = page.heading("Files").links(&files);
        }
        let others: Vec<(String, String)> = self
            .log
            .listing()?
            .records
            .into_iter()
            .rev()
            .filter(|other| other.name == record.name && other.id != record.id)
            .take(COMPARED)
            .map(|other| {
                (
                    format!("{} of {}", other.id, run_page::moment(&other.started.to_string())),
                    format!("/compare/{}/{}", other.id, record.id),
                )
            })
            .collect();
        if !others.is_empty() {
            page = page.heading("Compare with").links(&others);
        }
        html(&page).map(Some)
    }

    /// A file that a run's record names; others are none of ours, wherever a link may lead.
    fn file(&self, id: &str, name: &str) -> Result<Option<Reply>> {
        let Some(record) = self.record(id) else { return Ok(None) };
        if !plain(name) || !record.files.contains_key(name) {
            return Ok(None);
        }
        let path = self.log.run_folder(&record.id).join(name);
        let (Ok(real), Ok(folder)) = (path.canonicalize(), self.log.folder().canonicalize()) else { return Ok(None) };
        if !real.starts_with(folder) || !real.is_file() {
            return Ok(None);
        }
        Ok(Some(Reply { status: 200, kind: kind_of(name), body: fs::read(real)? }))
    }

    fn compare(&self, a: &str, b: &str) -> Result<Option<Reply>> {
        let (Some(a), Some(b)) = (self.record(a), self.record(b)) else { return Ok(None) };
        let diff = self.log.diff(&a.id, &b.id, 0.0)?;
        let mut page = Page::new(&format!("{} and {}", a.id, b.id), &Style::DEFAULT)?;
        page = page.links(&[
            ("all runs".to_owned(), "/".to_owned()),
            (format!("{} ({})", a.id, a.name), format!("/run/{}", a.id)),
            (format!("{} ({})", b.id, b.name), format!("/run/{}", b.id)),
        ]);
        for note in &diff.notes {
            page = page.paragraph(note);
        }
        page = changes(page, "Asked", &diff.asked);
        page = changes(page, "Environment", &diff.environment);
        if let Some(code) = &diff.code {
            page = page.listing("code", code);
        }
        let apart: Vec<String> =
            diff.results.iter().chain(&diff.metrics).filter(|one| !one.is_none()).map(ToString::to_string).collect();
        if !apart.is_empty() {
            page = page.heading("Numbers").listing("what differs", &apart.join("\n"));
        }
        if a.status == Status::Completed
            && b.status == Status::Completed
            && let (Ok(first), Ok(second)) = (self.log.answer(&a.id), self.log.answer(&b.id))
        {
            page = differences(page, &first, &second)?;
        }
        html(&page).map(Some)
    }

    /// The run of that whole id.
    fn record(&self, id: &str) -> Option<Record> {
        let known = !id.is_empty() && id.chars().all(|letter| letter.is_ascii_alphanumeric());
        self.log.get(id).ok().filter(|record| known && record.id == id)
    }
}

/// The grids of the same name of two answers, side by side and their difference, where they are alike.
fn differences(mut page: Page, first: &Answer, second: &Answer) -> Result<Page> {
    for (name, part) in first.parts() {
        let (Part::Grid(a), Some(Part::Grid(b))) = (part, second.get(name)) else { continue };
        if a.rows.labels == b.rows.labels && a.columns.labels == b.columns.labels && a.values != b.values {
            let spec = PlotSpec::new("difference");
            let other = Part::from(b.clone());
            page = page.picture(plot_parts(&spec, &[(name, part), (name, &other)])?.as_ref())?;
        }
    }
    Ok(page)
}

fn changes(page: Page, title: &str, changes: &[Change]) -> Page {
    let shown =
        |value: &Option<serde_json::Value>| Cell::from(value.as_ref().map(ToString::to_string).unwrap_or_default());
    let rows: Vec<Vec<Cell>> =
        changes.iter().map(|change| vec![change.field.clone().into(), shown(&change.a), shown(&change.b)]).collect();
    if rows.is_empty() { page } else { page.heading(title).table(&["field", "first", "second"], &rows) }
}

fn row(record: &Record) -> Vec<Cell> {
    vec![
        Cell { text: record.id.clone(), link: Some(format!("/run/{}", record.id)) },
        record.name.clone().into(),
        record.status.to_string().into(),
        run_page::moment(&record.started.to_string()).into(),
        record.seconds.map(run_page::seconds).unwrap_or_default().into(),
        record.model.name.clone().unwrap_or_else(|| record.model.family.clone()).into(),
        run_page::asked(&record.parameters).into(),
        record.tags.join(", ").into(),
    ]
}

/// Whether a name is that of a file in a folder, and of nothing else.
fn plain(name: &str) -> bool {
    let letters = name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '.'));
    letters && !name.is_empty() && !name.starts_with('.')
}

fn kind_of(name: &str) -> &'static str {
    match Path::new(name).extension().and_then(|ending| ending.to_str()) {
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("json" | "jsonl" | "rs" | "txt" | "md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn html(page: &Page) -> Result<Reply> {
    Ok(Reply { status: 200, kind: "text/html; charset=utf-8", body: page.html()?.into_bytes() })
}

fn refusal(status: u16, why: &str) -> Reply {
    Reply { status, kind: "text/plain; charset=utf-8", body: format!("{why}\n").into_bytes() }
}

fn header(request: &Request, name: &'static str) -> Option<String> {
    let found = request.headers().iter().find(|header| header.field.equiv(name));
    found.map(|header| header.value.as_str().to_owned())
}

fn response(reply: Reply) -> Response<Cursor<Vec<u8>>> {
    let mut response = Response::from_data(reply.body).with_status_code(reply.status);
    let headers = [
        ("Content-Type", reply.kind),
        // Whatever a file holds, it runs nothing and is taken for nothing else.
        ("X-Content-Type-Options", "nosniff"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
    ];
    let sandbox = (!reply.kind.starts_with("text/html")).then_some(("Content-Security-Policy", "sandbox"));
    for (name, value) in headers.into_iter().chain(sandbox) {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    response
}
