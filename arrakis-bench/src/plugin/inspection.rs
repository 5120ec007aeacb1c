//! What a file says of itself, and what in it would stop it from loading; none of its code runs.

use std::fs;
use std::path::{Path, PathBuf};

use arrakis_core::plugin::stamp::LIBTORCH;
use arrakis_core::plugin::{Stamp, StampedTool, abi};

use super::elf;
use crate::{Error, Result};

/// What a file says of itself as a plugin.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The file, links resolved.
    pub path: PathBuf,
    /// The digest of the file (blake3, hexadecimal).
    pub digest: String,
    /// What it was built for, if it has a stamp.
    pub stamp: Option<Stamp>,
    /// The tools that it says it has.
    pub tools: Vec<StampedTool>,
    /// What in the file would stop it from loading. What it needs of this machine is told by
    /// [`missing`](Self::missing), and a table that is not what the stamp says shows only when it is loaded.
    pub obstacles: Vec<String>,
}

impl Inspection {
    /// Looks at a file; an error if there is none that can be read.
    pub fn of(path: &Path) -> Result<Self> {
        let canonical = fs::canonicalize(path).map_err(Error::file("read", path))?;
        if !canonical.is_file() {
            return Err(Error::Plugin { path: path.to_path_buf(), why: "it is no file".into() });
        }
        let bytes = fs::read(&canonical).map_err(Error::file("read", path))?;
        let mut found = Self {
            path: canonical,
            digest: blake3::hash(&bytes).to_hex().to_string(),
            stamp: None,
            tools: Vec::new(),
            obstacles: Vec::new(),
        };
        let library = match elf::Library::parse(&bytes) {
            Ok(library) => library,
            Err(why) => {
                found.obstacles.push(why);
                return Ok(found);
            }
        };
        match library.notes() {
            Ok((stamp, tools)) => found.read_stamp(&library, stamp, tools),
            Err(why) => found.obstacles.push(why),
        }
        Ok(found)
    }

    /// What it needs and this machine has not: libraries, symbols of LibTorch or others, versions of the C library.
    ///
    /// Libraries are looked for where the loader of the system does, and none is loaded. A file that is no library needs
    /// nothing; an error if it cannot be read any more.
    pub fn missing(&self) -> Result<Vec<String>> {
        #[cfg(target_os = "linux")]
        {
            let bytes = fs::read(&self.path).map_err(Error::file("read", &self.path))?;
            if let Ok(library) = elf::Library::parse(&bytes) {
                return Ok(super::missing::missing(&self.path, &library).unwrap_or_else(|why| vec![why]));
            }
        }
        Ok(Vec::new())
    }

    /// For each tool whose name is taken already: by whom.
    #[must_use]
    pub fn taken(&self) -> Vec<String> {
        let known = arrakis_core::tools();
        let taken = |stamped: &StampedTool| {
            let holder = known.iter().find(|known| known.name() == stamped.tool)?;
            Some(format!("the tool `{}` is there already, from `{}`", stamped.tool, holder.owner()))
        };
        self.tools.iter().filter_map(taken).collect()
    }

    fn read_stamp(&mut self, library: &elf::Library<'_>, stamp: Stamp, tools: Vec<StampedTool>) {
        match stamp.abi_version() {
            Some((major, _)) if major == abi::MAJOR => {}
            _ => self.obstacles.push(format!(
                "it was built for plugin ABI {}, and this program has {}.{}; build it with the `arrakis-core` of this program",
                stamp.abi,
                abi::MAJOR,
                abi::MINOR,
            )),
        }
        if stamp.libtorch != LIBTORCH {
            self.obstacles.push(format!(
                "it was built for LibTorch {}, and this program has {LIBTORCH}; build it with that one",
                stamp.libtorch
            ));
        }
        if tools.is_empty() {
            self.obstacles.push("it has no tools; `register_tools!` registers them".into());
        }
        if let Some((name, owners)) = twice(&tools) {
            self.obstacles.push(format!("it has the tool `{name}` twice: of {owners}"));
        }
        match library.exports(&stamp.entry) {
            Ok(true) => {}
            Ok(false) => {
                self.obstacles.push(format!("the function `{}` that its stamp names is not there", stamp.entry));
            }
            Err(why) => self.obstacles.push(why),
        }
        self.tools = tools;
        self.stamp = Some(stamp);
    }
}

fn twice(tools: &[StampedTool]) -> Option<(&str, String)> {
    let second = tools.iter().enumerate().find(|(place, tool)| tools[..*place].iter().any(|t| t.tool == tool.tool))?.1;
    let owners: Vec<String> =
        tools.iter().filter(|tool| tool.tool == second.tool).map(|tool| format!("`{}`", tool.owner)).collect();
    Some((&second.tool, owners.join(" and ")))
}
