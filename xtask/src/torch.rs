//! LibTorch: found, or made of the CPU part of the wheel.

use std::env::consts::{ARCH, DLL_PREFIX, DLL_SUFFIX, OS};
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Cache};
use crate::wheel::Wheel;
use crate::{link, pip, say, write_failed};

/// The LibTorch that tch speaks.
const VERSION: &str = "2.11.0";

/// On x86-64 Linux the wheel is a CUDA build whose CPU library needs two small libraries of CUDA, and no more.
const WHEELS: [Wheel; 3] = [
    Wheel {
        name: "nvidia-cuda-runtime",
        version: "13.0.96",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        megabytes: 3,
        abi: "none",
        platform: "manylinux2014_x86_64",
        members: &[("nvidia/cu13/lib/libcudart.so.13", "lib/libcudart.so.13")],
    },
    Wheel {
        name: "nvidia-cuda-cupti",
        version: "13.0.85",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        megabytes: 11,
        abi: "none",
        platform: "manylinux_2_25_x86_64",
        members: &[("nvidia/cu13/lib/libcupti.so.13", "lib/libcupti.so.13")],
    },
    Wheel {
        name: "torch",
        version: VERSION,
        sha256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a",
        megabytes: 531,
        abi: "cp311",
        platform: "manylinux_2_28_x86_64",
        members: &[
            ("torch/lib/libtorch_cpu.so", "lib/libtorch_cpu.so"),
            ("torch/lib/libc10.so", "lib/libc10.so"),
            ("torch/lib/libgomp", "lib/libgomp"),
            ("torch/include/", "include/"),
        ],
    },
];

/// Stands for the wheel's `libtorch.so`, which asks for the CUDA libraries; every linker reads it.
const LINKER_SCRIPT: &str = "INPUT(libtorch_cpu.so libc10.so)\n";

/// Finds LibTorch, or fetches it, and links it as `libtorch` in the checkout, where builds look for it.
pub(crate) fn set_up(root: &Path) -> Result<()> {
    let ours = root.join("libtorch");
    // Cargo sets LIBTORCH to our own folder when the user has not set it.
    if let Some(own) = env::var_os("LIBTORCH").map(PathBuf::from).filter(|own| *own != ours) {
        if !own.is_absolute() {
            bail!("LIBTORCH is `{}`: give an absolute path, or unset it", own.display());
        }
        check(&own).context("LIBTORCH is set to an unusable folder: correct it, or unset it to have one fetched")?;
        say(format_args!("LibTorch {VERSION} at `{}` (LIBTORCH)", own.display()));
        return Ok(());
    }
    if check(&ours).is_ok() && cache::is_undamaged(&ours) {
        let place = fs::canonicalize(&ours)?;
        say(format_args!("LibTorch {VERSION} at `{}`", place.display()));
        return Ok(());
    }
    if fs::symlink_metadata(&ours).is_ok_and(|now| !now.is_symlink()) {
        let error = check(&ours).err().unwrap_or_else(|| anyhow::anyhow!("its files are damaged"));
        return Err(error.context(format!("`{}` is unusable: move it elsewhere and run this again", ours.display())));
    }
    let found = match of_python() {
        Some(torch) => torch,
        None => fetch()?,
    };
    link::put(&found, &ours)?;
    say(format_args!("LibTorch {VERSION} at `{}`", found.display()));
    Ok(())
}

fn of_python() -> Option<PathBuf> {
    let torch = pip::installed("torch", VERSION)?;
    match check(&torch) {
        Ok(()) => Some(torch),
        Err(error) => {
            say(format_args!("python3 has torch {VERSION}, which cannot be linked ({error:#}); fetching LibTorch"));
            None
        }
    }
}

fn fetch() -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        bail!(
            "no LibTorch is prepared for {OS} on {ARCH}: install it with `python3 -m pip install torch=={VERSION}`, \
             or set LIBTORCH to a LibTorch {VERSION}, and run this again"
        );
    }
    Cache::of_user()?.folder(&format!("libtorch-{VERSION}-cpu"), &WHEELS, |folder| {
        for (name, text) in [("lib/libtorch.so", LINKER_SCRIPT), ("build-version", VERSION)] {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| write_failed(error, &path))?;
        }
        check(folder)
    })
}

/// Whether `folder` is a LibTorch that tch can be built with.
///
/// # Errors
/// If a library or the headers are missing, or the version is another.
fn check(folder: &Path) -> Result<()> {
    let library = format!("lib/{DLL_PREFIX}torch_cpu{DLL_SUFFIX}");
    for part in [&library, "include/torch/csrc/api/include/torch/torch.h"] {
        if !folder.join(part).is_file() {
            bail!("`{}` has no `{part}`", folder.display());
        }
    }
    if env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some() {
        return Ok(());
    }
    match version(folder) {
        Some(version) if version.split('+').next() == Some(VERSION) => Ok(()),
        Some(version) => bail!("`{}` is LibTorch {version}, and {VERSION} is needed", folder.display()),
        None => bail!("`{}` does not tell its version (it has no `build-version`)", folder.display()),
    }
}

/// The version in `build-version`, or in `version.py` where the folder is a Python package.
fn version(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(line.trim_matches(['\'', '"']).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{check, version};

    #[test]
    fn version_is_read_from_either_file() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        assert_eq!(version(folder.path()), None);
        fs::write(folder.path().join("version.py"), "x = 1\n__version__ = '2.11.0+cu130'\ndebug = False\n")?;
        assert_eq!(version(folder.path()).as_deref(), Some("2.11.0+cu130"));
        fs::write(folder.path().join("build-version"), "2.10.0\n")?;
        assert_eq!(version(folder.path()).as_deref(), Some("2.10.0"));
        Ok(())
    }

    #[test]
    fn an_empty_folder_and_another_version_are_refused_by_name() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let said = |error: anyhow::Result<()>| error.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(said(check(folder.path())).contains("torch_cpu"));
        for part in ["lib", "include/torch/csrc/api/include/torch"] {
            fs::create_dir_all(folder.path().join(part))?;
        }
        fs::write(folder.path().join("include/torch/csrc/api/include/torch/torch.h"), "")?;
        let library = format!("lib/{}torch_cpu{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        fs::write(folder.path().join(library), "")?;
        fs::write(folder.path().join("build-version"), "2.12.0+cpu")?;
        assert!(said(check(folder.path())).contains("2.12.0+cpu"));
        fs::write(folder.path().join("build-version"), "2.11.0+cpu\n")?;
        check(folder.path())
    }
}
