//! What a library needs and this machine has not, found without loading it.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use arrakis_core::plugin::stamp::LIBTORCH;

use super::elf::{Library, Needs};
use super::resident::Resident;
use super::search;

/// How many symbols are named.
const NAMED: usize = 5;

/// What the library at `path` needs and this machine has not, in words.
pub(super) fn missing(path: &Path, library: &Library<'_>) -> Result<Vec<String>, String> {
    let origin = |path: &Path| path.parent().unwrap_or(path).to_owned();
    let mut wanting = vec![("it".to_owned(), library.needs(&origin(path))?)];
    let (mut known, mut exported, mut missing) = (HashSet::new(), HashSet::new(), Vec::new());
    let (mut resident, mut next) = (Resident::default(), 0);
    while let Some((who, needs)) = wanting.get(next) {
        let (who, mut found) = (who.clone(), Vec::new());
        for library in &needs.libraries {
            if !known.insert(library.clone()) || resident.holds(library) {
                continue;
            }
            let fits = |path: &Path| {
                let bytes = fs::read(path).ok()?;
                let library = Library::parse(&bytes).ok()?;
                Some((library.needs(&origin(path)).ok()?, library.exported().ok()?))
            };
            match search::find(library, &needs.folders, fits) {
                Some((needs, symbols)) => {
                    exported.extend(symbols);
                    found.push((format!("`{library}`"), needs));
                }
                None => missing.push(format!("{who} needs the library `{library}`, which is not found")),
            }
        }
        wanting.extend(found);
        next += 1;
    }
    // A library that is not found may have what seems to be missing.
    if missing.is_empty() {
        missing = wanting.iter().flat_map(|(who, needs)| unresolved(who, needs, &exported, &mut resident)).collect();
    }
    Ok(missing)
}

/// The symbols and versions of one library that nobody has.
fn unresolved(who: &str, needs: &Needs, exported: &HashSet<String>, resident: &mut Resident) -> Vec<String> {
    let (mut symbols, mut versions) = (Vec::new(), BTreeMap::new());
    for needed in &needs.symbols {
        let version = needed.version.as_ref().map(|(version, _)| version.as_str());
        if exported.contains(&needed.name) || resident.has(&needed.name, version) {
            continue;
        }
        match &needed.version {
            Some((version, library)) if resident.holds(library) => {
                versions.entry((library, version)).or_insert(&needed.name);
            }
            _ => symbols.push(format!("`{}`", needed.name)),
        }
    }
    let version = |((library, version), symbol): ((&String, &String), &String)| {
        format!("{who} needs `{symbol}` of version `{version}` of `{library}`, and the one of this machine has it not")
    };
    let mut words: Vec<String> = versions.into_iter().map(version).collect();
    if !symbols.is_empty() {
        let (count, rest) = (symbols.len(), symbols.len().saturating_sub(NAMED));
        let shown = symbols[..count - rest].join(", ");
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        let what = if count == 1 { "a symbol".to_owned() } else { format!("{count} symbols") };
        words.push(format!(
            "{who} needs {what} that no library here has, LibTorch {LIBTORCH} among them: {shown}{more}"
        ));
    }
    words
}
