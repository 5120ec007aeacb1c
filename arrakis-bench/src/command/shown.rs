//! Results on the console.

use std::io;

use serde_json::{Value, json};

use super::console::Console;
use crate::{Asked, Error, Kept, Result};

/// Shows a result, as text or as one JSON object, and tells where the run lies.
pub(super) fn show(asked: &Asked<Kept>, as_json: bool, console: &Console<'_>) -> Result<()> {
    if as_json {
        console.json(&json_of(asked)?).map_err(Error::Console)?;
    } else {
        print(&asked.answer, console).map_err(Error::Console)?;
    }
    tell(asked, console).map_err(Error::Console)
}

fn print(kept: &Kept, console: &Console<'_>) -> io::Result<()> {
    match kept {
        Kept::Answer(answer) => {
            console.line(answer.text(console.room()))?;
            match answer.rows_beyond(console.room()) {
                Some(_) => console.tell("rows are left out; `--json` gives them all\n"),
                None => Ok(()),
            }
        }
        Kept::Json(Value::String(text)) => console.line(text),
        Kept::Json(value) => console.line(format_args!("{value:#}")),
    }
}

/// Tells where the run lies.
pub(super) fn tell(asked: &Asked<Kept>, console: &Console<'_>) -> io::Result<()> {
    let Some(folder) = &asked.folder else { return Ok(()) };
    let took = match asked.record.seconds {
        _ if asked.reused => "is reused".to_owned(),
        seconds => format!("took {:.2} s", seconds.unwrap_or_default()),
    };
    console.tell(format_args!("run {} {took}: {}\n", asked.record.id, folder.display()))
}

/// The run and its result; its tensors lie in the run's folder.
pub(super) fn json_of(asked: &Asked<Kept>) -> Result<Value> {
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
