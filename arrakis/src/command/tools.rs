//! `arrakis tools`: the catalogue, from the doc comments of the tools.

use anyhow::Result;
use arrakis_core::{Field, ToolEntry, tool, tools};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::console::Console;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What a tool asks for and answers
    Show {
        /// The tool
        tool: String,
    },
}

impl Arguments {
    pub(crate) fn run(self, console: &Console<'_>) -> Result<()> {
        match (&self.verb, self.json) {
            (None, false) => list(console),
            (None, true) => {
                Ok(console.json(&json!({ "tools": tools().iter().map(|tool| json_of(tool)).collect::<Value>() }))?)
            }
            (Some(Verb::Show { tool: name }), false) => show(tool(name)?, console),
            (Some(Verb::Show { tool: name }), true) => Ok(console.json(&json_of(tool(name)?))?),
        }
    }
}

fn list(console: &Console<'_>) -> Result<()> {
    let tools = tools();
    let width = tools.iter().map(|tool| tool.name().len()).max().unwrap_or(0);
    for tool in tools {
        let doc = tool.doc();
        console.line(format_args!("{:width$}  {}", tool.name(), doc.lines().next().unwrap_or_default()))?;
    }
    console.tell("`arrakis tools show TOOL` tells what a tool asks for\n")?;
    Ok(())
}

fn show(tool: &ToolEntry, console: &Console<'_>) -> Result<()> {
    let schema = tool.schema();
    let fields = tool.fields();
    console.line(format_args!("{} ({})\n\n{}\n", tool.name(), tool.owner(), tool.doc()))?;
    for field in &fields {
        let rule = match (&field.default, field.required) {
            (_, true) => "must be given".to_owned(),
            (None | Some(Value::Null), false) => "may be absent".to_owned(),
            (Some(default), false) => format!("default {default}"),
        };
        console.line(format_args!("{}: {}; {rule}", field.name, kind(&field.schema, &schema)))?;
        for line in field.doc.lines() {
            console.line(format_args!("    {line}"))?;
        }
    }
    console.line(format_args!("\n{}", usage(tool, &fields)))?;
    Ok(())
}

/// A command line that asks the tool, with what must be given.
fn usage(tool: &ToolEntry, fields: &[Field]) -> String {
    let needed = fields.iter().filter(|field| field.required).map(|field| match field.name.as_str() {
        "prompt" => " --prompt TEXT".to_owned(),
        name => format!(" {name}=…"),
    });
    format!("arrakis ask {} --model MODEL{}", tool.name(), needed.collect::<String>())
}

fn json_of(tool: &ToolEntry) -> Value {
    json!({ "name": tool.name(), "owner": tool.owner(), "doc": tool.doc(), "schema": tool.schema() })
}

/// What a value may be: `text or [text]`, brackets for a list.
fn kind(schema: &Value, root: &Value) -> String {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        return root.pointer(name.trim_start_matches('#')).map_or_else(|| name.to_owned(), |schema| kind(schema, root));
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    let list = |values: &Value| values.as_array().cloned().unwrap_or_default();
    if let Some(choices) = schema.get("enum") {
        return join(list(choices).iter().map(Value::to_string));
    }
    if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)) {
        return join(list(choices).iter().filter(|choice| !is_null(choice)).map(|choice| kind(choice, root)));
    }
    match schema.get("type") {
        Some(Value::Array(types)) => {
            let one = |name: &Value| {
                let mut one = schema.clone();
                one["type"] = name.clone();
                kind(&one, root)
            };
            join(types.iter().filter(|name| *name != "null").map(one))
        }
        Some(Value::String(name)) => match name.as_str() {
            "string" => "text".to_owned(),
            "array" => schema.get("items").map_or_else(|| "[…]".into(), |items| format!("[{}]", kind(items, root))),
            "boolean" => "true or false".to_owned(),
            "object" => object(schema, root),
            other => other.to_owned(),
        },
        _ => "any JSON".to_owned(),
    }
}

fn object(schema: &Value, root: &Value) -> String {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return "object".to_owned() };
    let fields: Vec<String> =
        properties.iter().map(|(name, schema)| format!("{name:?}: {}", kind(schema, root))).collect();
    format!("{{{}}}", fields.join(", "))
}

fn is_null(schema: &Value) -> bool {
    schema.get("type").is_some_and(|name| name == "null")
}

fn join(choices: impl Iterator<Item = String>) -> String {
    choices.collect::<Vec<String>>().join(" or ")
}
