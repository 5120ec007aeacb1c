//! What a shared library needs of others, and what it has for them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{Dyn, Sym};

use super::Library;

/// What a library needs of others.
pub(in super::super) struct Needs {
    /// The libraries that it names.
    pub(in super::super) libraries: Vec<String>,
    /// The folders in which it wants them to be looked for.
    pub(in super::super) folders: Vec<PathBuf>,
    /// The symbols that must be there.
    pub(in super::super) symbols: Vec<Needed>,
}

/// A symbol that another library must have.
pub(in super::super) struct Needed {
    pub(in super::super) name: String,
    /// The version that it must have, and the library that is to have it.
    pub(in super::super) version: Option<(String, String)>,
}

fn damaged(error: object::Error) -> String {
    format!("its dynamic section is damaged: {error}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Library<'_> {
    /// What it needs of other libraries; `origin` is the folder that it lies in.
    pub(in super::super) fn needs(&self, origin: &Path) -> Result<Needs, String> {
        let (mut libraries, mut rpath, mut runpath) = (Vec::new(), None, None);
        if let Some((entries, strings)) = self.sections.dynamic(self.endian, self.bytes).map_err(damaged)? {
            let strings = self.sections.strings(self.endian, self.bytes, strings).map_err(damaged)?;
            let word = |entry: &elf::Dyn64<_>| entry.string(self.endian, strings).map(text).map_err(damaged);
            for entry in entries {
                match entry.tag32(self.endian) {
                    Some(elf::DT_NEEDED) => libraries.push(word(entry)?),
                    Some(elf::DT_RPATH) => rpath = Some(word(entry)?),
                    Some(elf::DT_RUNPATH) => runpath = Some(word(entry)?),
                    Some(elf::DT_NULL) => break,
                    _ => {}
                }
            }
        }
        let origin = origin.to_string_lossy();
        let folder = |folder: &str| PathBuf::from(folder.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin));
        let folders = runpath.or(rpath).unwrap_or_default();
        let folders = folders.split(':').filter(|folder| !folder.is_empty()).map(folder).collect();
        Ok(Needs { libraries, folders, symbols: self.needed()? })
    }

    fn needed(&self) -> Result<Vec<Needed>, String> {
        let symbols = self.sections.symbols(self.endian, self.bytes, elf::SHT_DYNSYM).map_err(damaged)?;
        let versions = self.sections.versions(self.endian, self.bytes).map_err(damaged)?;
        let mut needed = Vec::new();
        for (index, symbol) in symbols.enumerate() {
            let must = symbol.is_undefined(self.endian) && symbol.st_bind() == elf::STB_GLOBAL;
            let name = symbol.name(self.endian, symbols.strings()).map_err(damaged)?;
            if !must || name.is_empty() {
                continue;
            }
            let version = match &versions {
                Some(versions) => {
                    let version = versions.version(versions.version_index(self.endian, index)).map_err(damaged)?;
                    version.and_then(|version| Some((text(version.name()), text(version.file()?))))
                }
                None => None,
            };
            needed.push(Needed { name: text(name), version });
        }
        Ok(needed)
    }

    /// The symbols that it has for others.
    pub(in super::super) fn exported(&self) -> Result<HashSet<String>, String> {
        let symbols = self.sections.symbols(self.endian, self.bytes, elf::SHT_DYNSYM).map_err(damaged)?;
        let shown = symbols.iter().filter(|symbol| {
            !symbol.is_undefined(self.endian) && matches!(symbol.st_bind(), elf::STB_GLOBAL | elf::STB_WEAK)
        });
        shown.map(|symbol| symbol.name(self.endian, symbols.strings()).map(text).map_err(damaged)).collect()
    }
}
