//! The parts of a tool's doc comment: what it answers, after whom, and its example in Rust.

/// A doc comment taken apart.
pub(super) struct Doc {
    /// What the tool answers.
    pub(super) text: String,
    /// Where its definition comes from.
    pub(super) source: Option<String>,
    /// Its example, without the lines that rustdoc hides.
    pub(super) example: Option<String>,
}

impl Doc {
    pub(super) fn of(comment: &str) -> Self {
        let (mut prose, mut code, mut within) = (Vec::new(), Vec::new(), false);
        for line in comment.lines() {
            if line.trim_start().starts_with("```") {
                within = !within;
            } else if !within {
                prose.push(line);
            } else if line != "#" && !line.starts_with("# ") {
                code.push(line);
            }
        }
        let source = prose.iter().position(|line| line.starts_with("Source:") || line.starts_with("Sources:"));
        // A source ends with its paragraph.
        let end = source
            .map(|start| prose[start..].iter().position(|line| line.is_empty()).map_or(prose.len(), |len| start + len));
        let own = source.zip(end).map(|(start, end)| prose.drain(start..end).collect::<Vec<_>>().join("\n"));
        let joined = |lines: Vec<&str>| lines.join("\n").trim().to_owned();
        Self { text: joined(prose), source: own, example: Some(joined(code)).filter(|code| !code.is_empty()) }
    }
}
