//! The stamp of a plugin: what it was built for and which tools it has, in ELF notes that are read before it is loaded.
//!
//! The notes lie in the section `.note.arrakis`, under the name `Arrakis`: one of [`STAMP`], and one of [`TOOL`] for each
//! registered tool. Their contents are JSON.

use serde::{Deserialize, Serialize};

/// The name of the notes, with its final zero.
pub const NOTE_NAME: &[u8; 8] = b"Arrakis\0";
/// The section that the notes lie in.
pub const SECTION: &str = ".note.arrakis";
/// The kind of the note that holds a [`Stamp`].
pub const STAMP: u32 = 1;
/// The kind of a note that holds a [`StampedTool`].
pub const TOOL: u32 = 2;
/// The version of LibTorch that this crate was built for; without one at hand, that of the `torch-sys` it is pinned to.
pub const LIBTORCH: &str = match option_env!("ARRAKIS_LIBTORCH") {
    Some(version) => version,
    None => "2.11.0",
};

/// What a plugin was built for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The ABI, `major.minor`.
    pub abi: String,
    /// The version of LibTorch.
    pub libtorch: String,
    /// The version of `arrakis-core`, or of the header for a plugin in C; for information.
    pub core: String,
    /// The plugin's own name and version.
    pub plugin: String,
    /// Which tools of the library it hands over.
    pub tools: Whose,
    /// The function that hands the tools over.
    pub entry: String,
}

/// Which of the tools in a library a plugin hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// Those whose owner is the plugin.
    Own,
    /// All of them.
    All,
}

impl Whose {
    /// The word for it.
    const fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::All => "all",
        }
    }
}

/// A tool that a library has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StampedTool {
    /// Its name.
    pub tool: String,
    /// The crate that holds it, with its version.
    pub owner: String,
}

impl Stamp {
    /// The ABI's major and minor version.
    #[must_use]
    pub fn abi_version(&self) -> Option<(u32, u32)> {
        let (major, minor) = self.abi.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }
}

/// An ELF note of `N` bytes.
#[doc(hidden)]
#[repr(C, align(4))]
pub struct Note<const N: usize>([u8; N]);

/// The pieces of the JSON of a [`Stamp`].
#[doc(hidden)]
#[must_use]
pub const fn stamp_text(plugin: &'static str, entry: &'static str, tools: Whose) -> [&'static str; 13] {
    [
        r#"{"abi":""#,
        ABI,
        r#"","libtorch":""#,
        LIBTORCH,
        r#"","core":""#,
        env!("CARGO_PKG_VERSION"),
        r#"","plugin":""#,
        plain(plugin),
        r#"","tools":""#,
        tools.word(),
        r#"","entry":""#,
        plain(entry),
        r#""}"#,
    ]
}

/// The pieces of the JSON of a [`StampedTool`].
#[doc(hidden)]
#[must_use]
pub const fn tool_text(tool: &'static str, owner: &'static str) -> [&'static str; 5] {
    [r#"{"tool":""#, plain(tool), r#"","owner":""#, plain(owner), r#""}"#]
}

const ABI: &str = "1.1";
const _: () = assert!(super::abi::MAJOR == 1 && super::abi::MINOR == 1, "`ABI` says what `abi` says");

/// A text that stands in JSON as it is.
const fn plain(text: &'static str) -> &'static str {
    let bytes = text.as_bytes();
    let mut place = 0;
    while place < bytes.len() {
        let byte = bytes[place];
        assert!(byte >= b' ' && byte != b'"' && byte != b'\\', "names of tools and plugins have no quotes in them");
        place += 1;
    }
    text
}

const HEAD: usize = 12 + NOTE_NAME.len();

/// The bytes of a note with that text.
#[doc(hidden)]
#[must_use]
pub const fn note_len(pieces: &[&str]) -> usize {
    HEAD + text_len(pieces).next_multiple_of(4)
}

const fn text_len(pieces: &[&str]) -> usize {
    let (mut piece, mut len) = (0, 0);
    while piece < pieces.len() {
        len += pieces[piece].len();
        piece += 1;
    }
    len
}

/// A note with that text.
#[doc(hidden)]
#[must_use]
pub const fn note<const N: usize>(kind: u32, pieces: &[&str]) -> Note<N> {
    let mut bytes = [0; N];
    let words = [NOTE_NAME.len() as u32, text_len(pieces) as u32, kind];
    let mut place = 0;
    while place < 12 {
        bytes[place] = words[place / 4].to_ne_bytes()[place % 4];
        place += 1;
    }
    while place < HEAD {
        bytes[place] = NOTE_NAME[place - 12];
        place += 1;
    }
    let mut piece = 0;
    while piece < pieces.len() {
        let text = pieces[piece].as_bytes();
        let mut at = 0;
        while at < text.len() {
            bytes[place] = text[at];
            (place, at) = (place + 1, at + 1);
        }
        piece += 1;
    }
    Note(bytes)
}
