//! What a run ran on: machine, libraries, program and repository.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::OnceLock;

use arrakis_core::remembered::{FileIdentity, remembered};
use arrakis_core::{Model, device};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::{Plugin, git};

/// What a run ran on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// `cpu`, `cuda:0` …
    pub device: String,
    /// `float32`, `float64` …
    pub dtype: String,
    /// LibTorch's threads.
    pub threads: i32,
    /// The version of Arrakis.
    pub arrakis: String,
    /// The version of LibTorch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libtorch: Option<String>,
    /// The file name of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The digest of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// The system: `linux x86_64`.
    pub system: String,
    /// The model of the processor, where the system tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// The model of the accelerator, where it runs on one and the system tells; all models, if there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<String>,
    /// The variables that choose how LibTorch computes, those that are set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// The process.
    pub pid: u32,
    /// The folder's git commit, if it is in a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
}

/// The state of the git repository that a run was started in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// The commit.
    pub commit: String,
    /// The branch, unless the head is detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The digest of what `git diff HEAD` prints, `unknown` where git cannot tell; absent where all is as committed.
    ///
    /// Looked at once in a process. Files that git does not track are not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<String>,
}

/// A plugin that was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginRecord {
    /// Its name.
    pub name: String,
    /// The digest of its file.
    pub digest: String,
}

impl Environment {
    pub(crate) fn of(model: &dyn Model) -> Self {
        static LIBTORCH: OnceLock<Option<String>> = OnceLock::new();
        static PROCESSOR: OnceLock<Option<String>> = OnceLock::new();
        let (program, executable) = program();
        Self {
            device: device_name(model.device()),
            dtype: dtype_name(model.kind()),
            threads: tch::get_num_threads(),
            arrakis: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: LIBTORCH.get_or_init(libtorch_version).clone(),
            program,
            executable,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: PROCESSOR.get_or_init(processor).clone(),
            accelerator: matches!(model.device(), Device::Cuda(_)).then(accelerator).flatten(),
            variables: variables(),
            pid: std::process::id(),
            git: git::head(),
        }
    }
}

/// The model of the processor: kernels are chosen by it, and round differently.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.trim_start().strip_prefix(':'))?;
    Some(name.trim().to_owned())
}

/// The models of the graphics processors, as NVIDIA's driver tells them.
fn accelerator() -> Option<String> {
    let folders = fs::read_dir("/proc/driver/nvidia/gpus").ok()?.flatten();
    let texts = folders.filter_map(|folder| fs::read_to_string(folder.path().join("information")).ok());
    let model = |text: String| Some(text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned());
    let models: BTreeSet<String> = texts.filter_map(model).collect();
    // Which of several a number means, the variable says.
    let visible = if models.len() > 1 { std::env::var("CUDA_VISIBLE_DEVICES").ok() } else { None };
    let words: Vec<String> = models.into_iter().chain(visible.map(|chosen| format!("visible {chosen}"))).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// The variables by which LibTorch, oneDNN, MKL and cuBLAS choose kernels and precision: they round differently.
const VARIABLES: [&str; 12] = [
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
];

fn variables() -> BTreeMap<String, String> {
    let set = |name: &str| Some((name.to_owned(), std::env::var_os(name)?.to_string_lossy().into_owned()));
    VARIABLES.into_iter().filter_map(set).collect()
}

/// The name of a device, as `--device` takes it: `cpu`, `cuda:0` …
#[must_use]
pub fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The name of a kind, as `--dtype` takes it: `float32`, `bfloat16` …
#[must_use]
pub fn dtype_name(kind: Kind) -> String {
    match kind {
        Kind::Float => "float32".to_owned(),
        Kind::Double => "float64".to_owned(),
        Kind::Half => "float16".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// The plugins of this process.
pub(crate) fn plugins() -> Vec<PluginRecord> {
    let record = |plugin: &Plugin| PluginRecord { name: plugin.name().to_owned(), digest: plugin.digest().to_owned() };
    crate::plugins().into_iter().map(record).collect()
}

/// The most bytes that were ever resident in this process, where the system tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// blake3 over the bytes of a file, hexadecimal, and their number.
pub(crate) fn digest_of_file(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            // Small files are digested quicker than threads are woken.
            read if read < buffer.len() => hasher.update(&buffer[..read]),
            read => hasher.update_rayon(&buffer[..read]),
        };
    }
    Ok((hasher.finalize().to_hex().to_string(), hasher.count()))
}

/// Name and digest of the running program, where they can be found; looked for once.
pub(crate) fn program() -> (Option<String>, Option<String>) {
    static PROGRAM: OnceLock<(Option<String>, Option<String>)> = OnceLock::new();
    PROGRAM.get_or_init(find_program).clone()
}

fn find_program() -> (Option<String>, Option<String>) {
    let Ok(path) = std::env::current_exe() else { return (None, None) };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    // The file itself, which may have been replaced under its name by now.
    let own = Path::new("/proc/self/exe");
    let file = if own.exists() { own } else { &path };
    let identity = fs::metadata(file).and_then(|found| FileIdentity::of(&path, &found));
    let files = identity.map_or_else(|_| Vec::new(), |identity| vec![identity]);
    let digest = remembered(b"executable", &files, || digest_of_file(file).map(|(digest, _)| digest));
    (name, digest.ok())
}

/// What the file `build-version` beside the running LibTorch says.
fn libtorch_version() -> Option<String> {
    let file = device::libtorch_folder()?.parent()?.join("build-version");
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}
