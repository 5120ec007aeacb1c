//! Results on the console.

use serde_json::{Value, json};

use super::console::Console;
use crate::{Asked, Error, Kept, Result};

/// Shows a result, as text or as one JSON object, and tells where the run lies.
pub(super) fn show(asked: &Asked<Kept>, as_json: bool, console: &Console<'_>) -> Result<()> {
    let printed = match (&asked.answer, as_json) {
        (_, true) => console.json(&json_of(asked)?),
        (Kept::Answer(answer), false) => console.line(answer.text(console.room())),
        (Kept::Json(Value::String(text)), false) => console.line(text),
        (Kept::Json(value), false) => console.line(format_args!("{value:#}")),
    };
    printed.map_err(Error::Console)?;
    if let Some(folder) = &asked.folder {
        let seconds = asked.record.seconds.unwrap_or_default();
        let took = if asked.reused { "is reused".to_owned() } else { format!("took {seconds:.2} s") };
        let told = console.tell(format_args!("run {} {took}: {}\n", asked.record.id, folder.display()));
        told.map_err(Error::Console)?;
    }
    Ok(())
}

/// The run and its result; its tensors lie in the run's folder.
fn json_of(asked: &Asked<Kept>) -> Result<Value> {
    let result = match &asked.answer {
        Kept::Answer(answer) => answer.split()?.0,
        Kept::Json(value) => value.clone(),
    };
    let record = &asked.record;
    let mut object = json!({
        "name": record.name, "version": record.version, "parameters": record.parameters, "seed": record.seed,
    });
    if let Some(folder) = &asked.folder {
        object["run"] = json!(record.id);
        object["folder"] = json!(folder);
    }
    object["seconds"] = json!(record.seconds);
    object["result"] = result;
    Ok(object)
}
