//! Where the loader of the system looks for a library that is not loaded yet.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// What `fits` takes of the file of a library that another one needs: in `folders`, then where the loader looks for every
/// program.
///
/// A file that it does not take, one for another machine, say, is passed over.
pub(super) fn find<T>(library: &str, folders: &[PathBuf], fits: impl Fn(&Path) -> Option<T>) -> Option<T> {
    // A name with a slash is a path, and nothing is looked for.
    let places = if library.contains('/') {
        vec![PathBuf::from(library)]
    } else {
        let listed = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let listed = env::split_paths(&listed).filter(|folder| !folder.as_os_str().is_empty());
        let folders = folders.iter().cloned().chain(listed).map(|folder| folder.join(library));
        let cached = fs::read("/etc/ld.so.cache").map(|cache| cached(&cache, library)).unwrap_or_default();
        let standard = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(|folder| Path::new(folder).join(library));
        folders.chain(cached).chain(standard).collect()
    };
    places.iter().find_map(|place| fits(place))
}

/// The files of that name in the loader's cache, whose format glibc's `dl-cache.h` tells; none where it is another one.
fn cached(cache: &[u8], library: &str) -> Vec<PathBuf> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    // An old table may stand before the one that counts.
    let Some(start) = cache.windows(MAGIC.len()).position(|window| window == MAGIC) else { return Vec::new() };
    let table = &cache[start..];
    let number = |at: usize| Some(u32::from_ne_bytes(table.get(at..at + 4)?.try_into().ok()?) as usize);
    let text = |at: usize| table.get(at..)?.split(|byte| *byte == 0).next();
    let path = |entry: usize| {
        let at = HEADER + entry * ENTRY;
        let (name, path) = (text(number(at + 4)?)?, text(number(at + 8)?)?);
        (name == library.as_bytes()).then(|| PathBuf::from(String::from_utf8_lossy(path).into_owned()))
    };
    let count = number(MAGIC.len()).unwrap_or(0).min(table.len() / ENTRY);
    (0..count).filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with an old table before the one that counts.
    fn cache(libraries: &[(&str, &str)]) -> Vec<u8> {
        let mut table = b"glibc-ld.so.cache1.1".to_vec();
        table.extend((libraries.len() as u32).to_ne_bytes());
        table.resize(48, 0);
        let (mut entries, mut texts, first) = (Vec::new(), Vec::new(), 48 + libraries.len() * 24);
        let mut place = |text: &str| {
            let at = (first + texts.len()) as u32;
            texts.extend(text.as_bytes());
            texts.push(0);
            at.to_ne_bytes()
        };
        for (name, path) in libraries {
            let (name, path) = (place(name), place(path));
            entries.extend([&3_i32.to_ne_bytes()[..], &name, &path, &[0; 12]].concat());
        }
        [b"ld.so-1.7.0\0 an old table ", &table[..], &entries, &texts].concat()
    }

    #[test]
    fn the_cache_of_the_loader_tells_every_file_of_a_name() {
        let cache =
            cache(&[("libz.so.1", "/lib/libz.so.1"), ("libm.so", "/a/libm.so"), ("libz.so.1", "/32/libz.so.1")]);
        let paths = |name| cached(&cache, name).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(paths("libz.so.1"), ["/lib/libz.so.1", "/32/libz.so.1"]);
        assert_eq!(paths("libm.so"), ["/a/libm.so"]);
        assert!(paths("libz.so").is_empty());
        assert!(cached(b"another format", "libz.so.1").is_empty());
        for len in 0..cache.len() {
            cached(&cache[..len], "libz.so.1");
        }
    }
}
