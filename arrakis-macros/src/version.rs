//! The version of code: a digest of its tokens.
//!
//! Comments, line breaks and formatting keep a version, and any token changes it. The text of a `TokenStream` would not
//! do: it is not the same in all compilers.

use blake3::Hasher;
use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// Operators of more than one letter.
///
/// Those that begin with `>` are not among them: `Vec<Vec<u8>>` is `Vec<Vec<u8> >`, and no code means another thing
/// with a space after `>` than without it.
const OPERATORS: [&str; 21] = [
    "<<=", "...", "..=", "&&", "||", "<<", "<=", "==", "!=", "+=", "-=", "*=", "/=", "%=", "^=", "&=", "|=", "::",
    "->", "=>", "..",
];

/// The version of the code of an item: blake3 over its tokens, doc comments left out (hexadecimal).
pub(crate) fn version(item: &TokenStream) -> String {
    let mut hasher = Hasher::new_derive_key("arrakis experiment version 1");
    walk(item.clone(), &mut hasher);
    hasher.finalize().to_hex().to_string()
}

fn walk(tokens: TokenStream, hasher: &mut Hasher) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut place = 0;
    while let Some(token) = tokens.get(place) {
        if let Some(len) = doc_comment(&tokens[place..]) {
            place += len;
            continue;
        }
        place += match token {
            TokenTree::Group(group) => enter(group, hasher),
            TokenTree::Ident(name) => write(hasher, 'i', &name.to_string()),
            TokenTree::Literal(literal) => write(hasher, 'l', &literal.to_string()),
            TokenTree::Punct(_) => {
                let operator = operator(&tokens[place..]);
                write(hasher, 'p', &operator);
                operator.len()
            }
        };
    }
}

fn enter(group: &Group, hasher: &mut Hasher) -> usize {
    let (open, close) = match group.delimiter() {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::Bracket => ("[", "]"),
        // Around what a macro was given: no token of its own.
        Delimiter::None => {
            walk(group.stream(), hasher);
            return 1;
        }
    };
    write(hasher, 'o', open);
    walk(group.stream(), hasher);
    write(hasher, 'c', close)
}

/// One token; what it is and its end are written too, so that no two rows of tokens give the same bytes.
fn write(hasher: &mut Hasher, what: char, text: &str) -> usize {
    hasher.update(&[what as u8]);
    hasher.update(text.as_bytes());
    hasher.update(&[0]);
    1
}

/// The operator at the beginning of `tokens`, as long as letters that stand together make one.
fn operator(tokens: &[TokenTree]) -> String {
    let mut together = String::new();
    for token in tokens {
        let TokenTree::Punct(punct) = token else { break };
        together.push(punct.as_char());
        if punct.spacing() == Spacing::Alone {
            break;
        }
    }
    let longest = OPERATORS.iter().find(|operator| together.starts_with(**operator));
    longest.map_or_else(|| together.chars().take(1).collect(), |operator| (*operator).to_owned())
}

/// How many tokens the doc comment at the beginning of `tokens` has, if there is one.
fn doc_comment(tokens: &[TokenTree]) -> Option<usize> {
    let punct = |place: usize, letter: char| matches!(tokens.get(place), Some(TokenTree::Punct(punct)) if punct.as_char() == letter);
    if !punct(0, '#') {
        return None;
    }
    let place = if punct(1, '!') { 2 } else { 1 };
    let Some(TokenTree::Group(group)) = tokens.get(place) else { return None };
    let mut inside = group.stream().into_iter();
    let is_doc = matches!(inside.next(), Some(TokenTree::Ident(name)) if name == "doc");
    // `#[doc(hidden)]` is no comment.
    let is_text = matches!(inside.next(), Some(TokenTree::Punct(punct)) if punct.as_char() == '=');
    (group.delimiter() == Delimiter::Bracket && is_doc && is_text).then_some(place + 1)
}
