//! What a terminal can show, by what its environment says and by what it answers.

use std::env;

use super::Way;

/// The best way to show a picture in this terminal.
pub(super) fn best() -> Way {
    by_environment(|name| env::var(name).ok()).unwrap_or_else(|| match terminal::attributes() {
        Some(answer) if has_sixels(&answer) => Way::Sixel,
        _ => Way::Text,
    })
}

/// How many pixels the terminal is wide, if it says.
pub(super) fn pixels_across() -> Option<f64> {
    terminal::pixels_across()
}

/// What the environment tells for certain; else the terminal must be asked.
fn by_environment(variable: impl Fn(&str) -> Option<String>) -> Option<Way> {
    let term = variable("TERM").unwrap_or_default();
    let program = variable("TERM_PROGRAM").unwrap_or_default().to_lowercase();
    // A multiplexer hands its own variables on with those of the terminal around it, and no pictures of kitty's.
    let multiplexed = variable("TMUX").is_some() || variable("STY").is_some();
    let kitty = variable("KITTY_WINDOW_ID").is_some()
        || ["kitty", "ghostty"].iter().any(|name| term.contains(name))
        || matches!(program.as_str(), "ghostty" | "wezterm");
    // Neither answers a question.
    let mute = matches!(term.as_str(), "" | "dumb");
    match (mute, kitty && !multiplexed) {
        (true, _) => Some(Way::Text),
        (false, true) => Some(Way::Kitty),
        (false, false) => None,
    }
}

/// Whether an answer to a question for primary device attributes, `ESC [ ? 62 ; 4 ; … c`, holds 4: sixel graphics.
fn has_sixels(answer: &str) -> bool {
    let attributes = answer.rsplit_once("\x1b[?").and_then(|(_, after)| after.split_once('c'));
    // The first number is the class of the terminal.
    attributes.is_some_and(|(numbers, _)| numbers.split(';').skip(1).any(|number| number == "4"))
}

#[cfg(unix)]
mod terminal {
    use std::fs::File;
    use std::io::{self, Read as _, Write as _};
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};

    /// How long a terminal may take to answer, were it at the other end of the world.
    const PATIENCE: Duration = Duration::from_millis(800);

    /// What the terminal answers to a question for its primary device attributes (DEC's DA1).
    pub(super) fn attributes() -> Option<String> {
        ask(&mut open()?, PATIENCE).ok()
    }

    pub(super) fn pixels_across() -> Option<f64> {
        let size = tcgetwinsize(open()?).ok()?;
        (size.ws_xpixel > 0).then(|| f64::from(size.ws_xpixel))
    }

    fn open() -> Option<File> {
        File::options().read(true).write(true).open("/dev/tty").ok()
    }

    pub(super) fn ask(terminal: &mut File, patience: Duration) -> io::Result<String> {
        let before = tcgetattr(&*terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        // What was written before is shown first.
        tcsetattr(&*terminal, OptionalActions::Drain, &raw)?;
        let answer = exchange(terminal, patience);
        tcsetattr(&*terminal, OptionalActions::Now, &before)?;
        answer
    }

    fn exchange(terminal: &mut File, patience: Duration) -> io::Result<String> {
        terminal.write_all(b"\x1b[c")?;
        let (mut answer, asked) = (Vec::new(), Instant::now());
        while !(answer.ends_with(b"c") && answer.windows(3).any(|three| three == b"\x1b[?")) {
            let left = patience.saturating_sub(asked.elapsed());
            let wait = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            if left.is_zero() || poll(&mut [PollFd::new(&*terminal, PollFlags::IN)], Some(&wait))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut some = [0; 64];
            match terminal.read(&mut some)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend(&some[..count]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

#[cfg(not(unix))]
mod terminal {
    pub(super) const fn attributes() -> Option<String> {
        None
    }

    pub(super) const fn pixels_across() -> Option<f64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{Way, by_environment, has_sixels};

    #[test]
    fn the_environment_tells_of_kitty_and_of_mute_terminals() {
        let of = |variables: &[(&str, &str)]| {
            by_environment(|asked| {
                variables.iter().find(|(name, _)| *name == asked).map(|(_, value)| (*value).to_owned())
            })
        };
        let term = ("TERM", "xterm-256color");
        assert_eq!(of(&[("TERM", "xterm-kitty")]), Some(Way::Kitty));
        assert_eq!(of(&[term, ("TERM_PROGRAM", "WezTerm")]), Some(Way::Kitty));
        assert_eq!(of(&[term, ("KITTY_WINDOW_ID", "1")]), Some(Way::Kitty));
        assert_eq!(of(&[term, ("KITTY_WINDOW_ID", "1"), ("TMUX", "/tmp/x")]), None, "tmux is asked itself");
        assert_eq!(of(&[term]), None);
        assert_eq!((of(&[]), of(&[("TERM", "dumb")])), (Some(Way::Text), Some(Way::Text)));
    }

    #[test]
    fn sixels_are_an_attribute_and_no_class() {
        assert!(has_sixels("\x1b[?62;4;22c") && has_sixels("\x1b[?63;1;2;4c"));
        assert!(has_sixels("typed ahead\x1b[?62;4c"));
        for answer in ["\x1b[?4;6c", "\x1b[?62;22c", "\x1b[?1;2c", "\x1b[?62;44c", "4c", ""] {
            assert!(!has_sixels(answer), "{answer:?}");
        }
    }

    /// A terminal that gives an answer: what `ask` made of it.
    #[cfg(unix)]
    fn asked(answer: &'static [u8], patience: std::time::Duration) -> std::io::Result<String> {
        use std::fs::File;
        use std::io::{Read as _, Write as _};

        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

        let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&outside)?;
        unlockpt(&outside)?;
        let name = ptsname(&outside, Vec::new())?.into_string().unwrap();
        let mut inside = File::options().read(true).write(true).open(name)?;
        let mut outside = File::from(outside);
        let terminal = std::thread::spawn(move || {
            let mut question = [0; 3];
            outside.read_exact(&mut question).unwrap();
            assert_eq!(&question, b"\x1b[c");
            outside.write_all(answer).unwrap();
            // It stays open until the asker is gone.
            let _ = outside.read(&mut question);
        });
        let before = rustix::termios::tcgetattr(&inside)?.local_modes;
        let answer = super::terminal::ask(&mut inside, patience);
        assert_eq!(rustix::termios::tcgetattr(&inside)?.local_modes, before, "it is left as it was");
        drop(inside);
        terminal.join().unwrap();
        answer
    }

    #[test]
    #[cfg(unix)]
    fn a_terminal_is_asked_and_left_as_it_was() {
        let answer = asked(b"\x1b[?62;4;22c", std::time::Duration::from_mins(1)).unwrap();
        assert_eq!(answer, "\x1b[?62;4;22c");
        assert_eq!(asked(b"", std::time::Duration::ZERO).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }
}
