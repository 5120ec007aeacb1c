//! Where words go: results to stdout, words about them to stderr, a progress bar to a terminal only.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use arrakis_core::Host;
use arrakis_core::print::Room;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// The two streams of the command.
pub struct Console<'a> {
    out: RefCell<&'a mut dyn Write>,
    err: RefCell<&'a mut dyn Write>,
    room: Room,
    live: bool,
    shows: bool,
    bar: RefCell<Option<ProgressBar>>,
}

impl<'a> Console<'a> {
    /// Streams that nobody watches.
    pub fn pipe(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Self {
            out: RefCell::new(out),
            err: RefCell::new(err),
            room: Room::default(),
            live: false,
            shows: false,
            bar: RefCell::default(),
        }
    }

    /// The process' own streams; they may be a terminal.
    pub fn terminal(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        let mut room = Room::default();
        if let Some((width, _)) = terminal_size::terminal_size_of(io::stdout()) {
            room.width = usize::from(width.0);
        }
        Self { room, live: io::stderr().is_terminal(), shows: io::stdout().is_terminal(), ..Self::pipe(out, err) }
    }

    /// The room of tables.
    pub const fn room(&self) -> Room {
        self.room
    }

    /// Whether a terminal reads the results.
    pub const fn is_terminal(&self) -> bool {
        self.shows
    }

    /// Whether somebody watches a terminal.
    pub const fn is_live(&self) -> bool {
        self.live
    }

    /// Writes a result, as it is.
    pub fn print(&self, text: impl Display) -> io::Result<()> {
        self.clear();
        write!(self.out.borrow_mut(), "{text}")
    }

    /// Writes a result and ends the line.
    pub fn line(&self, text: impl Display) -> io::Result<()> {
        self.print(format_args!("{text}\n"))
    }

    /// Writes a result as one JSON object.
    pub fn json(&self, value: &Value) -> io::Result<()> {
        self.line(value)
    }

    /// Writes words about results, as they are.
    pub fn tell(&self, text: impl Display) -> io::Result<()> {
        self.clear();
        write!(self.err.borrow_mut(), "{text}")
    }

    /// Lets what was written be seen.
    pub fn flush(&self) -> io::Result<()> {
        self.out.borrow_mut().flush()
    }

    fn clear(&self) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

impl Host for Console<'_> {
    fn progress(&self, done: u64, total: u64) {
        if !self.live {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}");
            ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    fn log(&self, line: &str) {
        let _ = self.tell(format_args!("{line}\n"));
    }
}
