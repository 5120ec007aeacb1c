//! A record at the start of its run: the id, and the key over all that is known by then.

use std::collections::BTreeMap;

use arrakis_core::Model;
use jiff::Timestamp;
use serde_json::json;

use super::{FORMAT, ModelRecord, Record, Status};
use crate::{Environment, Result, Subject, environment};

impl Record {
    /// A run of `subject` that starts now.
    pub(crate) fn start(
        subject: &Subject,
        seed: u64,
        memory_limit: Option<u64>,
        name: Option<&str>,
        parent: Option<&str>,
        model: &dyn Model,
    ) -> Result<Self> {
        let mut record = Self {
            format: FORMAT,
            id: id(),
            key: String::new(),
            what: subject.what,
            name: subject.name.clone(),
            owner: subject.owner.clone(),
            version: subject.version.clone(),
            parameters: subject.parameters.clone(),
            seed,
            memory_limit,
            streams: Vec::new(),
            status: Status::Running,
            error: None,
            started: Timestamp::now(),
            ended: None,
            seconds: None,
            peak_memory: None,
            parent: parent.map(str::to_owned),
            model: ModelRecord {
                name: name.map(str::to_owned),
                family: model.dims().family.clone(),
                digest: model.digest()?,
                layout: model.layout().map(str::to_owned),
                tokenizer: model.tokenizer_digest()?,
            },
            plugins: environment::plugins(),
            environment: Environment::of(model),
            read: subject.read()?,
            wrote: BTreeMap::new(),
            calls: Vec::new(),
            metrics: Vec::new(),
            outcome: None,
            tensors: BTreeMap::new(),
            files: BTreeMap::new(),
            pictures: Vec::new(),
            notes: Vec::new(),
            tags: Vec::new(),
            warnings: Vec::new(),
        };
        record.key = record.key();
        Ok(record)
    }

    /// blake3 over what is known beforehand and determines the result; time and git are not in it.
    fn key(&self) -> String {
        let Environment { device, dtype, threads, arrakis, libtorch, executable, system, processor, .. } =
            &self.environment;
        let Environment { accelerator, variables, .. } = &self.environment;
        let mut known = json!({
            "what": self.what, "name": self.name, "owner": self.owner, "version": self.version,
            "parameters": self.parameters, "read": self.read, "seed": self.seed,
            "memory_limit": self.memory_limit,
            "model": self.model.digest, "layout": self.model.layout, "tokenizer": self.model.tokenizer,
            "plugins": self.plugins, "executable": executable, "device": device, "dtype": dtype, "threads": threads,
            "arrakis": arrakis, "libtorch": libtorch, "system": system,
            "processor": processor, "accelerator": accelerator, "variables": variables,
        });
        known.sort_all_objects();
        blake3::hash(known.to_string().as_bytes()).to_hex().to_string()
    }
}

/// A new id, its random part first so that few letters of it suffice.
fn id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.write_i128(Timestamp::now().as_nanosecond());
    format!("{:016x}", hasher.finish())
}
