//! The exact text of an item, comments included.

use proc_macro2::{TokenStream, TokenTree};

/// The text of an item as it stands in its file; as the compiler prints it where the file is not known.
///
/// Of the spans that stable Rust gives, those of groups reach over all their text, comments included, and that of a
/// whole item does not. So the text is put together of the outermost tokens, with the room that they have between them:
/// what is lost are comments between these, `fn /* here */ name()`.
pub(crate) fn source(item: &TokenStream) -> String {
    pieces(item).unwrap_or_else(|| item.to_string())
}

fn pieces(item: &TokenStream) -> Option<String> {
    let mut text = String::new();
    let mut last: Option<proc_macro::Span> = None;
    for token in item.clone() {
        let span = outer_span(&token).unwrap();
        match last {
            // A doc comment is one text, and several tokens that all have its span.
            Some(last) if place(&span.start()) < place(&last.end()) => continue,
            None => text.push_str(&" ".repeat(span.start().column().saturating_sub(1))),
            Some(last) => {
                let (end, start) = (place(&last.end()), place(&span.start()));
                let lines = start.0 - end.0;
                let columns = if lines == 0 { start.1 - end.1 } else { start.1 - 1 };
                text.push_str(&"\n".repeat(lines));
                text.push_str(&" ".repeat(columns));
            }
        }
        text.push_str(&span.source_text()?);
        last = Some(span);
    }
    Some(text)
}

fn outer_span(token: &TokenTree) -> proc_macro2::Span {
    match token {
        TokenTree::Group(group) => group.span(),
        other => other.span(),
    }
}

/// Line and column, from 1.
fn place(span: &proc_macro::Span) -> (usize, usize) {
    (span.line(), span.column())
}
