//! Plugins: shared libraries of tools, looked at before they are loaded, and loaded for as long as the program runs.

mod elf;
mod folders;
mod inspection;
#[cfg(target_os = "linux")]
mod missing;
mod open;
#[cfg(target_os = "linux")]
mod resident;
#[cfg(target_os = "linux")]
mod search;
mod since;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrakis_core::plugin::{Adopted, Handles, Stamp};
use arrakis_core::{ToolEntry, register};

use crate::{Bench, Error, Result};
pub use folders::{Found, plugin_files};
pub use inspection::Inspection;
pub(crate) use since::since;

/// A library that was loaded.
pub struct Plugin {
    path: PathBuf,
    digest: String,
    stamp: Stamp,
    adopted: Adopted,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, digest, stamp, .. } = self;
        f.debug_struct("Plugin")
            .field("path", path)
            .field("digest", digest)
            .field("stamp", stamp)
            .finish_non_exhaustive()
    }
}

/// Every library that was loaded; none is ever unloaded.
struct Opened {
    plugins: Vec<&'static Plugin>,
    /// Those whose tools are found by name.
    registered: Vec<&'static Plugin>,
    /// The file and digest of each whose code is in the process, those that were refused since among them.
    files: Vec<(PathBuf, String)>,
}

fn opened() -> MutexGuard<'static, Opened> {
    static OPENED: Mutex<Opened> =
        Mutex::new(Opened { plugins: Vec::new(), registered: Vec::new(), files: Vec::new() });
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Loads a plugin, so that its tools are found by name like linked ones; loading it again changes nothing.
///
/// The file is looked at first ([`Inspection`]), and none of its code runs unless it was built for this ABI and this
/// LibTorch. An error adds none of its tools; a name that a tool has already is an error that names both owners.
pub fn load_plugin(path: impl AsRef<Path>) -> Result<&'static Plugin> {
    let plugin = Plugin::open(path)?;
    // Under the lock, so that two threads do not register it twice.
    let mut opened = opened();
    if !opened.registered.iter().any(|known| std::ptr::eq(*known, plugin)) {
        register(&plugin.adopted.tools)?;
        opened.registered.push(plugin);
    }
    Ok(plugin)
}

/// The plugins whose tools are found by name, in the order in which they were loaded.
#[must_use]
pub fn plugins() -> Vec<&'static Plugin> {
    opened().registered.clone()
}

impl Plugin {
    /// Loads a library without making its tools known by name; [`tools`](Self::tools) are asked straight.
    pub fn open(path: impl AsRef<Path>) -> Result<&'static Self> {
        let path = path.as_ref();
        let inspection = Inspection::of(path)?;
        let refuse = |why: String| Error::Plugin { path: path.to_path_buf(), why };
        let stamp = match (&inspection.obstacles[..], &inspection.stamp) {
            ([], Some(stamp)) => stamp.clone(),
            (obstacles, _) => return Err(refuse(obstacles.join("; "))),
        };
        let mut opened = opened();
        if let Some(known) = opened.plugins.iter().find(|known| known.digest == inspection.digest) {
            return Ok(known);
        }
        let Inspection { path, digest, tools, .. } = inspection;
        // The loader of the system knows a library by its path, and would give the old code for the new file.
        if opened.files.iter().any(|(known, loaded)| *known == path && *loaded != digest) {
            let why = "it has changed since it was loaded, and a library is never unloaded; start a new process".into();
            return Err(refuse(why));
        }
        let loaded = || opened.files.push((path.clone(), digest.clone()));
        let adopted = open::open(&path, &stamp, &tools, loaded).map_err(refuse)?;
        let plugin: &'static Self = Box::leak(Box::new(Self { path, digest, stamp, adopted }));
        opened.plugins.push(plugin);
        Ok(plugin)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The digest of the file (blake3, hexadecimal).
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its own name and version.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.stamp.plugin
    }

    /// What it was built for.
    #[must_use]
    pub const fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Its tools.
    #[must_use]
    pub fn tools(&self) -> &[ToolEntry] {
        &self.adopted.tools
    }

    /// The tensors that it has given and taken on this thread, if it counts them.
    #[must_use]
    pub fn handles(&self) -> Option<Handles> {
        self.adopted.handles()
    }
}

impl Bench<'_> {
    /// Loads a plugin, as [`load_plugin`] does: its tools can be asked by name, on this bench and every other.
    pub fn load_plugin(&self, path: impl AsRef<Path>) -> Result<&'static Plugin> {
        load_plugin(path)
    }
}
