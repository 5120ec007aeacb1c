//! `arrakis leviathan train`: a model, or several that differ by their seed, trained and written.

use std::path::PathBuf;

use anyhow::Result;
use arrakis_leviathan::{Error, FeedForward, Folder, Mixer, leviathan_train};
use clap::Args;
use serde_json::json;

use super::listener::Listener;
use super::options::{Setting, untrained, untrained_name};
use crate::command::console::Console;
use crate::command::options::Options;
use crate::process;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder to train in; if a training was stopped there, it goes on
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// `attention`, `diagonal:W`, `separable:W`, `low_rank:W:R`, `involution:K` or `original`
    #[arg(long, default_value = "separable:4")]
    mixer: Mixer,
    /// `dense`, or `mixture:EXPERTS:TOP_K`
    #[arg(long, default_value = "dense")]
    feed_forward: FeedForward,
    #[command(flatten)]
    setting: Setting,
}

impl Arguments {
    pub(super) fn run(self, options: &Options, console: &Console<'_>) -> Result<()> {
        let (text, training) = self.setting.read(options)?;
        let config = self.setting.config(self.mixer, self.feed_forward, &text)?;
        let (precision, begun) = untrained(&config, options)?;
        let (listener, name) = (Listener(console), untrained_name(&self.out));
        let bench = options.bench_of(&begun, &name, &listener);
        process::catch_interrupt();
        console.tell(format_args!("{}, {} parameters\n", self.mixer, config.parameters()))?;
        let (path, cut) = self.setting.text();
        let trained = leviathan_train(&bench, path, cut, &config, &training, precision, Some(self.out.clone()));
        if matches!(trained, Err(Error::Core(arrakis_core::Error::Cancelled))) {
            console.tell(format_args!("the same command goes on from `{}`\n", self.out.display()))?;
        }
        let trained = trained?;
        if self.setting.json {
            let found = json!({ "folder": self.out, "config": config, "trained": trained, "seconds": trained.seconds });
            return Ok(console.json(&found)?);
        }
        let folder = Folder::open(&self.out)?;
        let seeds = trained.seeds.iter().zip(trained.nats.iter().zip(&trained.bits_per_character));
        for (seed, (nats, bits)) in seeds {
            let model = folder.model(&training, *seed);
            console.line(format_args!(
                "seed {seed}: {nats:.4} nats per token, {bits:.4} bits per character, {}",
                model.display()
            ))?;
        }
        let each = 1000.0 * trained.seconds / trained.steps.max(1) as f64;
        console.tell(format_args!("{} steps of {each:.1} ms\n", trained.steps))?;
        Ok(())
    }
}
