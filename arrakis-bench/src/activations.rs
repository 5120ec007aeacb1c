//! Activations of a corpus, streamed to a folder of safetensors shards; a stopped stream goes on where it was.

use std::fs;
use std::path::{Path, PathBuf};

use arrakis_core::{AxisKind, Corpus, HookPoint, Host, Model, ModelExt, PosSlice, Selector, Window};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result, dtype_name, replace, write_tensors};

/// The file that says what the shards hold.
const PLAN: &str = "activations.json";

/// Which activations of a corpus are wanted, and in what pieces.
///
/// Each shard is a safetensors file with one row for each token: every kept point under its printed name
/// (`[token, …]`), and `token`, `document` and `position` (`[token]`, integers), where `position` counts in the document.
/// `activations.json` says what the folder holds. Shards are written whole or not at all, so that the same call, made
/// again after a stop, computes only what is missing; a folder of another model, corpus or choice is refused.
#[derive(Debug, Clone)]
pub struct ActivationStream {
    /// The points to keep.
    pub keep: Vec<Selector>,
    /// Tokens that the model reads at once; documents are cut into windows of so many.
    pub window: usize,
    /// Windows in a pass.
    pub batch: usize,
    /// Bytes of a shard, about.
    pub shard_bytes: u64,
}

/// What a folder of activations holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activations {
    /// The model's digest.
    pub model: String,
    /// A digest of the corpus, as token ids in windows.
    pub corpus: String,
    /// The kept points, with the shape of one token's value.
    pub points: Vec<(String, Vec<i64>)>,
    /// The kind of the kept values.
    pub dtype: String,
    /// Tokens of a window.
    pub window: usize,
    /// Windows of a shard.
    pub windows_of_shard: usize,
    /// Shards of the whole corpus.
    pub shards: usize,
    /// Tokens of the whole corpus.
    pub tokens: usize,
}

/// What a call has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streamed {
    /// What the folder holds now.
    pub activations: Activations,
    /// Shards that this call wrote; the others were there.
    pub written: usize,
    /// Bytes of kept values of the whole corpus.
    pub bytes: u64,
}

impl ActivationStream {
    /// The chosen points of windows of 128 tokens, eight at a time, in shards of 256 MiB.
    pub fn new(keep: impl IntoIterator<Item = impl Into<Selector>>) -> Self {
        Self { keep: keep.into_iter().map(Into::into).collect(), window: 128, batch: 8, shard_bytes: 256 << 20 }
    }

    /// The file of a shard in `folder`.
    #[must_use]
    pub fn shard(folder: &Path, shard: usize) -> PathBuf {
        folder.join(format!("shard-{shard:05}.safetensors"))
    }

    /// Runs the corpus through the model and writes what is kept to `folder`.
    ///
    /// `host` hears of every shard, and may cancel between passes.
    pub fn write(&self, model: &dyn Model, corpus: &Corpus, folder: &Path, host: &dyn Host) -> Result<Streamed> {
        let points = self.points(model)?;
        let windows = corpus.windows(model, self.window)?;
        let (activations, bytes_of_token) = self.describe(model, &points, &windows)?;
        claim(folder, &activations)?;
        let mut written = 0;
        for (shard, windows) in windows.chunks(activations.windows_of_shard).enumerate() {
            host.progress(shard as u64, activations.shards as u64);
            let file = Self::shard(folder, shard);
            if file.exists() {
                continue;
            }
            let tensors = self.run(model, &points, windows, host)?;
            write_tensors(&file, tensors.iter().map(|(name, tensor)| (name.clone(), tensor)))?;
            written += 1;
        }
        host.progress(activations.shards as u64, activations.shards as u64);
        let bytes = bytes_of_token * activations.tokens as u64;
        Ok(Streamed { activations, written, bytes })
    }

    /// The chosen points, each of which has a value for every token.
    fn points(&self, model: &dyn Model) -> Result<Vec<HookPoint>> {
        let invalid = |what: String, why: &str| arrakis_core::Error::Invalid { what, why: why.into() };
        for (what, number) in [("window", self.window), ("batch", self.batch)] {
            if number == 0 {
                return Err(invalid(format!("{what} 0"), "give at least 1").into());
            }
        }
        let mut points = Vec::new();
        for selector in &self.keep {
            points.extend(selector.resolve(model.points())?);
        }
        points.sort_by_key(|point| model.points().iter().position(|known| known == point));
        points.dedup();
        if points.is_empty() {
            return Err(invalid("points to keep".into(), "there are none; name one").into());
        }
        let rowless = points.iter().find(|point| point.site.axes().get(..2) != Some(&[AxisKind::Batch, AxisKind::Pos]));
        match rowless {
            None => Ok(points),
            Some(point) => {
                let why =
                    "has no row for each token, so it cannot be streamed; choose points such as `hook_resid_post`";
                Err(invalid(format!("`{point}`"), why).into())
            }
        }
    }

    fn describe(&self, model: &dyn Model, points: &[HookPoint], windows: &[Window]) -> Result<(Activations, u64)> {
        let shape = |point: &HookPoint| point.shape(model.dims(), 1, 1)[2..].to_vec();
        let named: Vec<(String, Vec<i64>)> = points.iter().map(|point| (point.to_string(), shape(point))).collect();
        let numbers: i64 = named.iter().map(|(_, shape)| shape.iter().product::<i64>()).sum();
        let bytes_of_token = numbers as u64 * model.kind().elt_size_in_bytes() as u64;
        let bytes_of_window = (bytes_of_token * self.window as u64).max(1);
        let windows_of_shard = ((self.shard_bytes / bytes_of_window) as usize).clamp(1, windows.len().max(1));
        let mut digest = blake3::Hasher::new();
        for window in windows {
            digest.update(&(window.document as u64).to_le_bytes());
            window.ids.iter().for_each(|id| {
                digest.update(&id.to_le_bytes());
            });
        }
        let activations = Activations {
            model: model.digest()?,
            corpus: digest.finalize().to_hex().to_string(),
            points: named,
            dtype: dtype_name(model.kind()),
            window: self.window,
            windows_of_shard,
            shards: windows.len().div_ceil(windows_of_shard),
            tokens: windows.iter().map(|window| window.ids.len()).sum(),
        };
        Ok((activations, bytes_of_token))
    }

    /// The tensors of one shard.
    fn run(
        &self,
        model: &dyn Model,
        points: &[HookPoint],
        windows: &[Window],
        host: &dyn Host,
    ) -> Result<Vec<(String, Tensor)>, arrakis_core::Error> {
        let total: usize = windows.iter().map(|window| window.ids.len()).sum();
        let whole = |point: &HookPoint, kind: Kind| {
            let shape = [&[total as i64], &point.shape(model.dims(), 1, 1)[2..]].concat();
            Tensor::f_empty(&shape[..], (kind, Device::Cpu))
        };
        let mut shard: Vec<(HookPoint, Option<Tensor>)> = points.iter().map(|point| (*point, None)).collect();
        // Blocks after the last kept point are not run.
        let last = points.iter().map(|point| point.layer).max().flatten();
        let ends_early = points.iter().all(|point| point.layer.is_some() || model.points().first() == Some(point));
        let mut done = 0;
        for windows in windows.chunks(self.batch) {
            if host.cancelled() {
                return Err(arrakis_core::Error::Cancelled);
            }
            let tokens = Window::batch(windows)?;
            let trace = model.trace(&tokens).logits(PosSlice::None).keep_on(Device::Cpu);
            let trace = points.iter().fold(trace, |trace, point| trace.keep(*point));
            let run = match last {
                Some(last) if ends_early => trace.stop_at(last + 1).run()?,
                _ => trace.run()?,
            };
            let count: i64 = windows.iter().map(|window| window.ids.len() as i64).sum();
            for (point, values) in &mut shard {
                let value = run.cache.get(*point)?;
                let real = match tokens.mask() {
                    Some(mask) => value.f_index(&[Some(mask)])?,
                    None => value.f_flatten(0, 1)?,
                };
                if values.is_none() {
                    *values = Some(whole(point, value.kind())?);
                }
                if let Some(values) = values {
                    values.f_narrow(0, done, count)?.f_copy_(&real)?;
                }
            }
            done += count;
        }
        let integers = |of: &dyn Fn(&Window, usize) -> i64| {
            let values = windows.iter().flat_map(|window| (0..window.ids.len()).map(move |place| of(window, place)));
            Tensor::f_from_slice(&values.collect::<Vec<i64>>())
        };
        let mut tensors = vec![
            ("token".to_owned(), integers(&|window, place| window.ids[place])?),
            ("document".to_owned(), integers(&|window, _| window.document as i64)?),
            ("position".to_owned(), integers(&|window, place| (window.start + place) as i64)?),
        ];
        tensors.extend(shard.into_iter().filter_map(|(point, values)| Some((point.to_string(), values?))));
        Ok(tensors)
    }
}

/// Takes a folder for these activations; an error that says what is other if it holds others.
fn claim(folder: &Path, activations: &Activations) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    let path = folder.join(PLAN);
    if !path.exists() {
        let text = serde_json::to_string_pretty(activations).map_err(arrakis_core::Error::from)?;
        return replace(&path, |temporary| fs::write(temporary, text + "\n").map_err(Error::file("write", &path)));
    }
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let there: Activations = serde_json::from_str(&text).map_err(|error| Error::damaged(&path, error.to_string()))?;
    let differences = [
        ("model", there.model != activations.model),
        ("corpus", there.corpus != activations.corpus),
        ("points", there.points != activations.points),
        ("dtype", there.dtype != activations.dtype),
        ("window", there.window != activations.window),
        ("shard size", there.windows_of_shard != activations.windows_of_shard),
    ];
    let other: Vec<&str> = differences.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect();
    if other.is_empty() {
        return Ok(());
    }
    let why = format!("it holds activations with another {}; choose another folder", other.join(", another "));
    Err(arrakis_core::Error::Invalid { what: format!("folder `{}`", folder.display()), why }.into())
}
