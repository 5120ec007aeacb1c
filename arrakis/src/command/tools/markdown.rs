//! The catalogue as a page of Markdown, `docs/tools.md`.

use std::fmt::Write as _;

use anyhow::Result;
use arrakis_core::{Field, ToolEntry, tools};

use super::doc::Doc;
use super::kind::{forms, short};
use super::{Rule, rule};
use crate::command::shell;
use crate::examples::{MODEL, example, examples};

const HEAD: &str = "# The tools

A tool is a question. This page is made from the doc comments of the tools by `arrakis tools --markdown`, and its
pictures by `cargo run -p arrakis --example pictures`; the examples lie in `docs/examples.json`. Command lines are for
the root of the project, and pictures show the part of the answer that says most; `--plot FOLDER` draws all of them.
`profile.passes`, whose numbers are never twice the same, is on a page of its own: [profiling](profiling.md).
";

/// The page of the tools that have an example: those of the project, and none of a plugin.
pub(super) fn page() -> Result<String> {
    let known: Vec<String> = examples()?.into_iter().map(|(name, _)| name).collect();
    let tools: Vec<_> = tools().into_iter().filter(|tool| known.iter().any(|name| name == tool.name())).collect();
    let mut page = HEAD.to_owned();
    let mut subject = "";
    for tool in &tools {
        let own = subject_of(tool);
        if own == subject {
            page.push(',');
        } else {
            write!(page, "\n- [{own}](#{own}):")?;
            subject = own;
        }
        write!(page, " [{}](#{})", question_of(tool), anchor(tool.name()))?;
    }
    page.push('\n');
    subject = "";
    for tool in &tools {
        let own = subject_of(tool);
        if own != subject {
            write!(page, "\n## {own}\n")?;
            subject = own;
        }
        page.push_str(&section(tool)?);
    }
    Ok(page)
}

fn subject_of(tool: &ToolEntry) -> &'static str {
    tool.name().split('.').next().unwrap_or_default()
}

fn question_of(tool: &ToolEntry) -> &'static str {
    tool.name().split_once('.').map_or(tool.name(), |(_, question)| question)
}

/// How the heading of a tool is linked to: dots are left out.
fn anchor(name: &str) -> String {
    name.replace('.', "")
}

fn section(tool: &ToolEntry) -> Result<String> {
    let (name, doc) = (tool.name(), Doc::of(&tool.doc()));
    let mut text = format!("\n### {name}\n\n{}\n", doc.text);
    if let Some(source) = &doc.source {
        write!(text, "\n{source}\n")?;
    }
    let (schema, fields) = (tool.schema(), tool.fields());
    if !fields.is_empty() {
        text.push_str("\n| parameter | what it may be | default | what it is |\n|---|---|---|---|\n");
        for field in &fields {
            row(&mut text, field, &schema)?;
        }
    }
    if let Some(code) = &doc.example {
        write!(text, "\n```rust\n{code}\n```\n")?;
    }
    if let Some(example) = example(name)? {
        let words = shell::fields(&example.parameters);
        let words = words.join(" \\\n  ");
        write!(text, "\n```sh\narrakis ask {name} --model {MODEL} \\\n  {words}\n```\n")?;
        write!(text, "\n![{name}](pictures/{name}.svg)\n")?;
    }
    Ok(text)
}

fn row(text: &mut String, field: &Field, schema: &serde_json::Value) -> Result<()> {
    let mut about = field.doc.replace('\n', " ");
    for form in forms(&field.schema, schema) {
        write!(about, "<br>`{}`: {}", form.kind, form.doc)?;
    }
    let default = match rule(field) {
        Rule::Required => "must be given".to_owned(),
        Rule::Optional => String::new(),
        Rule::Default(value) => format!("`{value}`"),
    };
    let cell = |words: &str| words.replace('|', "\\|");
    writeln!(
        text,
        "| `{}` | {} | {} | {} |",
        field.name,
        cell(&short(&field.schema, schema)),
        cell(&default),
        cell(&about)
    )?;
    Ok(())
}
