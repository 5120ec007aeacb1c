//! `arrakis tools`: the catalogue, from the doc comments of the tools.

mod doc;
mod kind;
mod markdown;

use anyhow::Result;
use arrakis_core::{Field, ToolEntry, tool, tools};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::console::Console;
use doc::Doc;
use kind::{forms, short};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// Print the whole catalogue as a page of Markdown: `docs/tools.md`
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What a tool asks for and answers
    Show {
        /// The tool, or a subject, whose tools are listed
        tool: String,
    },
}

impl Arguments {
    pub(crate) fn run(self, console: &Console<'_>) -> Result<()> {
        if self.markdown {
            return Ok(console.print(markdown::page()?)?);
        }
        if let Some(Verb::Show { tool: name }) = &self.verb {
            let known = of_subject(name);
            if known.is_empty() {
                let tool = tool(name)?;
                return if self.json { Ok(console.json(&json_of(tool))?) } else { show(tool, console) };
            }
            return list(&known, self.json, console);
        }
        list(&tools(), self.json, console)
    }
}

/// The tools whose name begins with that of a subject.
fn of_subject(subject: &str) -> Vec<&'static ToolEntry> {
    let is_of = |tool: &&ToolEntry| tool.name().split_once('.').is_some_and(|(own, _)| own == subject);
    tools().into_iter().filter(is_of).collect()
}

fn list(tools: &[&ToolEntry], json: bool, console: &Console<'_>) -> Result<()> {
    if json {
        return Ok(console.json(&json!({ "tools": tools.iter().map(|tool| json_of(tool)).collect::<Value>() }))?);
    }
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
    let doc = Doc::of(&tool.doc());
    console.line(format_args!("{} ({})\n\n{}", tool.name(), tool.owner(), doc.text))?;
    if let Some(source) = doc.source {
        console.line(source)?;
    }
    console.line("")?;
    for field in &fields {
        let rule = match rule(field) {
            Rule::Required => "must be given".to_owned(),
            Rule::Optional => "may be absent".to_owned(),
            Rule::Default(default) => format!("default {default}"),
        };
        console.line(format_args!("{}: {}; {rule}", field.name, short(&field.schema, &schema)))?;
        for line in field.doc.lines() {
            console.line(format_args!("    {line}"))?;
        }
        for form in forms(&field.schema, &schema) {
            console.line(format_args!("      {}\n          {}", form.kind, form.doc))?;
        }
    }
    console.line(format_args!("\n{}", usage(tool, &fields)))?;
    Ok(())
}

/// What stands where a field is not given.
enum Rule<'a> {
    /// It must be given.
    Required,
    /// Nothing; its doc says what that means.
    Optional,
    Default(&'a Value),
}

fn rule(field: &Field) -> Rule<'_> {
    match &field.default {
        _ if field.required => Rule::Required,
        None | Some(Value::Null) => Rule::Optional,
        Some(default) => Rule::Default(default),
    }
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
