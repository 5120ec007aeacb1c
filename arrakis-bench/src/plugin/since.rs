//! The plugins of a run that is done again, beside those of this process.

use arrakis_core::tool;

use crate::{Error, Record, Result, Work, environment};

/// In what the plugins of a run are not those of this process, in words; an error if its tool is gone with one of them.
pub(crate) fn since(before: &Record) -> Result<Vec<String>> {
    let here = environment::plugins();
    let other: Vec<_> = before.plugins.iter().filter(|plugin| !here.contains(plugin)).collect();
    if before.what == Work::Tool && tool(&before.name).is_err() && !other.is_empty() {
        let names = other.iter().map(|plugin| format!("`{}`", plugin.name)).collect::<Vec<_>>().join(", ");
        let why = format!("there is no tool `{}`, and it had {names} loaded; load that by `--plugin`", before.name);
        return Err(Error::NoRerun { id: before.id.clone(), why });
    }
    let told = other.iter().map(|plugin| {
        let name = &plugin.name;
        let what =
            if here.iter().any(|known| known.name == *name) { "is another build than" } else { "is not loaded as" };
        format!("the plugin `{name}` {what} in run `{}`", before.id)
    });
    Ok(told.collect())
}
