//! The exact text of an item, comments included.

use proc_macro::Span;
use proc_macro2::TokenStream;

/// The text of an item as it stands in its file, with the attribute at `attribute`; as the compiler prints it where the
/// file is not known.
///
/// Of the spans that stable Rust gives, those of groups reach over all their text, comments included, and that of a
/// whole item does not. So the text is put together of the outermost tokens, with the room that they have between them:
/// what is lost are comments between these, `fn /* here */ name()`.
pub(crate) fn source(item: &TokenStream, attribute: proc_macro2::Span) -> String {
    let mut spans: Vec<Span> = item.clone().into_iter().map(|token| token.span().unwrap()).collect();
    let attribute = attribute.unwrap();
    if spans.first().is_some_and(|first| first.file() == attribute.file()) {
        spans.push(attribute);
    }
    // Doc comments may stand before the attribute; a doc comment is several tokens that all have its span.
    spans.sort_by_key(|span| start(*span));
    spans.dedup_by_key(|span| start(*span));
    text(&spans).unwrap_or_else(|| item.to_string())
}

fn text(spans: &[Span]) -> Option<String> {
    let mut text = String::new();
    let mut last: Option<Span> = None;
    for span in spans {
        let (line, column) = start(*span);
        match last.map(|last| start(last.end())) {
            None => text.push_str(&" ".repeat(column.saturating_sub(1))),
            Some((last_line, last_column)) if line == last_line => {
                text.push_str(&" ".repeat(column.checked_sub(last_column)?));
            }
            Some((last_line, _)) => {
                text.push_str(&"\n".repeat(line.checked_sub(last_line)?));
                text.push_str(&" ".repeat(column.saturating_sub(1)));
            }
        }
        text.push_str(&span.source_text()?);
        last = Some(*span);
    }
    Some(text)
}

/// Line and column, from 1.
fn start(span: Span) -> (usize, usize) {
    (span.line(), span.column())
}
