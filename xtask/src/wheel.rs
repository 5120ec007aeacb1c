//! Wheels of the Python package index: fetched by pip against a required digest, and unpacked in part.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use zip::ZipArchive;

use crate::{pip, say, write_failed};

/// One wheel, the same whatever the Python at hand is.
pub(crate) struct Wheel {
    /// Name of the package.
    pub(crate) name: &'static str,
    /// Its exact version.
    pub(crate) version: &'static str,
    /// Digest of the file, in hexadecimal.
    pub(crate) sha256: &'static str,
    /// Size of the file in MB, told before it is fetched.
    pub(crate) megabytes: u32,
    /// The wheel's ABI tag: `none`, or that of one `CPython`.
    pub(crate) abi: &'static str,
    /// The wheel's platform tag.
    pub(crate) platform: &'static str,
    /// What is taken out of it beside the licences: `(start of the name in the wheel, what replaces it)`.
    pub(crate) members: &'static [(&'static str, &'static str)],
}

impl Wheel {
    /// Where the fetched wheel is kept until the folder it is for is whole.
    pub(crate) fn path(&self, downloads: &Path) -> PathBuf {
        downloads.join(format!("{}-{}.whl", self.name, self.version))
    }

    /// Fetches the wheel by way of the folder `partial`, unless it lies in `downloads`, where only whole ones come.
    pub(crate) fn fetch(&self, downloads: &Path, partial: &Path) -> Result<PathBuf> {
        let kept = self.path(downloads);
        if !kept.exists() {
            say(format_args!("fetching `{}` {} ({} MB)", self.name, self.version, self.megabytes));
            let fetched = pip::download(self, &partial.join("pip"))?;
            fs::rename(&fetched, &kept).map_err(|error| write_failed(error, &kept))?;
        }
        Ok(kept)
    }

    /// Unpacks [`Wheel::members`] and the licences of `file`; returns what was unpacked, C++ headers left out.
    ///
    /// # Errors
    /// If the disk is full, or the wheel is damaged: then it is removed, to be fetched again.
    pub(crate) fn unpack(&self, file: &Path, into: &Path) -> Result<Vec<PathBuf>> {
        self.unpack_members(file, into).or_else(|error| {
            let of_disk =
                |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if error.downcast_ref().is_some_and(of_disk) {
                return Err(error);
            }
            let _ = fs::remove_file(file);
            Err(error).with_context(|| format!("`{}` could not be unpacked: run this again", file.display()))
        })
    }

    fn unpack_members(&self, file: &Path, into: &Path) -> Result<Vec<PathBuf>> {
        let mut archive = ZipArchive::new(File::open(file)?)?;
        let mut wanted = Vec::new();
        let mut total = 0;
        for index in 0..archive.len() {
            let member = archive.by_index_raw(index)?;
            if let Some(place) = self.place(member.name()) {
                total += member.size();
                wanted.push((index, place));
            }
        }
        say(format_args!("unpacking `{}` {} ({} MB)", self.name, self.version, total.div_ceil(1_000_000)));
        let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}")?;
        let bar = ProgressBar::new(total).with_style(style);
        let mut files = Vec::new();
        for (index, place) in wanted {
            let path = into.join(&place);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(|error| write_failed(error, folder))?;
            }
            let out = File::create(&path).map_err(|error| write_failed(error, &path))?;
            // Reading a member to its end checks its CRC.
            io::copy(&mut archive.by_index(index)?, &mut bar.wrap_write(out))
                .map_err(|error| write_failed(error, &path))?;
            if !place.starts_with("include") {
                files.push(place);
            }
        }
        bar.finish_and_clear();
        if files.is_empty() {
            bail!("it holds none of the files that are needed");
        }
        Ok(files)
    }

    /// Where the member `name` goes, if it is wanted.
    fn place(&self, name: &str) -> Option<PathBuf> {
        let path = Path::new(name);
        if name.ends_with('/') || !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        let (package, file) = (name.split('/').next()?, path.file_name()?.to_str()?);
        if let Some(package) = package.strip_suffix(".dist-info") {
            let is_notice = ["licen", "notice"].iter().any(|word| file.to_lowercase().starts_with(word));
            return is_notice.then(|| ["licenses", package, file].iter().collect());
        }
        let (from, to) = self.members.iter().find(|(from, _)| name.starts_with(from))?;
        Some(PathBuf::from(name.replacen(from, to, 1)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::Wheel;

    const WHEEL: Wheel = Wheel {
        name: "thing",
        version: "1",
        sha256: "",
        megabytes: 0,
        abi: "none",
        platform: "any",
        members: &[("torch/lib/libc10.so", "lib/libc10.so"), ("torch/include/", "include/")],
    };

    #[test]
    fn only_wanted_members_have_a_place_and_none_is_outside() {
        let place = |name| WHEEL.place(name).map(|path: PathBuf| path.display().to_string());
        assert_eq!(place("torch/lib/libc10.so").as_deref(), Some("lib/libc10.so"));
        assert_eq!(place("torch/lib/libc10_cuda.so"), None);
        assert_eq!(place("torch/include/ATen/ATen.h").as_deref(), Some("include/ATen/ATen.h"));
        assert_eq!(place("torch-1.dist-info/licenses/LICENSE").as_deref(), Some("licenses/torch-1/LICENSE"));
        assert_eq!(place("torch-1.dist-info/METADATA"), None);
        assert_eq!(place("torch/include/../../../x"), None);
        assert_eq!(place("/torch/include/x"), None);
    }

    #[test]
    fn a_damaged_wheel_is_removed() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("thing-1.whl");
        fs::write(&file, "not a wheel")?;
        assert!(WHEEL.unpack(&file, folder.path()).is_err());
        assert!(!file.exists());
        Ok(())
    }
}
