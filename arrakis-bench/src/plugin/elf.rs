//! A shared library as a file: whether it is whole, of this machine, and stamped as a plugin.

mod needs;

use arrakis_core::plugin::stamp::{NOTE_NAME, SECTION, STAMP, TOOL, Whose};
use arrakis_core::plugin::{Stamp, StampedTool};
use object::Endianness;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};

pub(super) use needs::Needs;

type Header = FileHeader64<Endianness>;

/// A shared library whose parts lie within its file.
pub(super) struct Library<'a> {
    bytes: &'a [u8],
    endian: Endianness,
    sections: SectionTable<'a, Header>,
}

/// The machine of this program.
const MACHINE: Option<u16> = if cfg!(target_arch = "x86_64") {
    Some(elf::EM_X86_64)
} else if cfg!(target_arch = "aarch64") {
    Some(elf::EM_AARCH64)
} else {
    None
};

impl<'a> Library<'a> {
    /// Looks at a file; what is wrong with it, in words.
    ///
    /// A file that lost its end would kill the process while it is loaded, so every part is checked to be there.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("the file is empty".into());
        }
        if !bytes.starts_with(&elf::ELFMAG) {
            return Err("it is no shared library (no ELF file)".into());
        }
        let cut = |what: &'static str| move |error: object::Error| format!("its {what} is cut off or damaged: {error}");
        if bytes.get(4) != Some(&elf::ELFCLASS64) {
            return Err("it is no 64-bit library".into());
        }
        let header = Header::parse(bytes).map_err(cut("header"))?;
        let endian = header.endian().map_err(cut("header"))?;
        if MACHINE != Some(header.e_machine(endian)) || header.is_big_endian() != cfg!(target_endian = "big") {
            let machine = header.e_machine(endian);
            return Err(format!(
                "it is for another machine (ELF machine {machine}), and this is {}",
                std::env::consts::ARCH
            ));
        }
        if header.e_type(endian) != elf::ET_DYN {
            return Err("it is no shared library".into());
        }
        let segments = header.program_headers(endian, bytes).map_err(cut("table of segments"))?;
        if !segments.iter().any(|segment| segment.p_type(endian) == elf::PT_DYNAMIC) {
            return Err("it is no shared library: it has nothing to link".into());
        }
        for segment in segments {
            segment.data(endian, bytes).map_err(|()| "a segment of it is cut off".to_owned())?;
        }
        let sections = header.sections(endian, bytes).map_err(cut("table of sections"))?;
        for section in sections.iter() {
            section.data(endian, bytes).map_err(cut("contents"))?;
        }
        Ok(Self { bytes, endian, sections })
    }

    /// The stamp, and the tools that the library says it has.
    pub(super) fn notes(&self) -> Result<(Stamp, Vec<StampedTool>), String> {
        let damaged = |error: object::Error| format!("its stamp is damaged: {error}");
        let (mut stamps, mut tools) = (Vec::new(), Vec::new());
        for section in self.sections.iter() {
            if self.sections.section_name(self.endian, section).map_err(damaged)? != SECTION.as_bytes() {
                continue;
            }
            let Some(mut notes) = section.notes(self.endian, self.bytes).map_err(damaged)? else { continue };
            while let Some(note) = notes.next().map_err(damaged)? {
                if note.name() != &NOTE_NAME[..NOTE_NAME.len() - 1] {
                    continue;
                }
                match note.n_type(self.endian) {
                    STAMP => stamps.push(parsed::<Stamp>(note.desc())?),
                    TOOL => tools.push(parsed::<StampedTool>(note.desc())?),
                    // A later version may say more.
                    _ => {}
                }
            }
        }
        let Some(stamp) = stamps.pop() else {
            return Err("it is no plugin of arrakis: it has no stamp; `export_plugin!()` makes one".into());
        };
        if let Some(other) = stamps.pop() {
            let why = "build one of them without its feature `plugin`";
            return Err(format!("it is two plugins in one, `{}` and `{}`; {why}", other.plugin, stamp.plugin));
        }
        tools.retain(|tool: &StampedTool| stamp.tools == Whose::All || tool.owner == stamp.plugin);
        Ok((stamp, tools))
    }

    /// Whether the library exports a function of that name.
    pub(super) fn exports(&self, name: &str) -> Result<bool, String> {
        let damaged = |error: object::Error| format!("its table of symbols is damaged: {error}");
        let symbols = self.sections.symbols(self.endian, self.bytes, elf::SHT_DYNSYM).map_err(damaged)?;
        for symbol in symbols.iter() {
            let found = symbol.name(self.endian, symbols.strings()).map_err(damaged)? == name.as_bytes();
            if found && symbol.st_shndx(self.endian) != elf::SHN_UNDEF && symbol.st_type() == elf::STT_FUNC {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn parsed<T: serde::de::DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| format!("its stamp cannot be read: {error}"))
}
