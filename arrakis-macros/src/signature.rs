//! What an experiment may look like, and the words for what it may not.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{Attribute, Error, FnArg, GenericParam, ItemFn, Pat, PatType, Result, ReturnType, Type};

/// The parts of a function that is an experiment.
pub(crate) struct Signature {
    /// The name of the bench within the function.
    pub(crate) bench: Ident,
    /// Its other parameters.
    pub(crate) arguments: Vec<Argument>,
    /// What it returns.
    pub(crate) output: Type,
}

/// A parameter of an experiment, its bench apart.
pub(crate) struct Argument {
    /// Its name.
    pub(crate) name: Ident,
    /// Its type as it is written.
    pub(crate) given: Type,
    /// The type under the `&`, if it is taken by one.
    pub(crate) borrowed: Option<Type>,
    /// Its doc comment, and what else its schema is to say.
    pub(crate) attributes: Vec<Attribute>,
}

impl Signature {
    /// Takes a function apart; an error says, at the right place, why it is no experiment.
    ///
    /// Doc comments of parameters, and what is said of their schema, are taken out of the function, where Rust has no place
    /// for them.
    pub(crate) fn of(function: &mut ItemFn) -> Result<Self> {
        let signature = &mut function.sig;
        let qualifiers: [(Option<Span>, &str); 4] = [
            (signature.constness.map(|word| word.span()), "`const`"),
            (signature.asyncness.map(|word| word.span()), "`async`"),
            (signature.unsafety.map(|word| word.span()), "`unsafe`"),
            (signature.abi.as_ref().map(Spanned::span), "`extern`"),
        ];
        if let Some((Some(span), word)) = qualifiers.into_iter().find(|(span, _)| span.is_some()) {
            return Err(Error::new(span, format!("an experiment is a plain function, and this one is {word}")));
        }
        if let Some(parameter) = signature.generics.params.first() {
            let why = match parameter {
                GenericParam::Lifetime(_) => {
                    "an experiment has no lifetimes of its own: take the bench as `&Bench`, and arguments by value or by a plain `&`"
                }
                GenericParam::Type(_) | GenericParam::Const(_) => {
                    "an experiment is not generic: its arguments are recorded, and read back by their types; write a \
                     plain function that calls the generic one"
                }
            };
            return Err(Error::new(parameter.span(), why));
        }
        let output = match &signature.output {
            ReturnType::Type(_, output) if !has_impl(output) => (**output).clone(),
            ReturnType::Type(_, output) => {
                return Err(Error::new(
                    output.span(),
                    "the result of an experiment is recorded, so its type has a name",
                ));
            }
            ReturnType::Default => {
                let why = "an experiment returns a `Result`: a run can fail, and then it is logged as failed";
                return Err(Error::new(signature.paren_token.span.close(), why));
            }
        };
        let paren = signature.paren_token.span.join();
        let mut inputs = signature.inputs.iter_mut();
        let bench = bench(inputs.next(), paren)?;
        let arguments = inputs.map(Argument::of).collect::<Result<_>>()?;
        Ok(Self { bench, arguments, output })
    }
}

/// The name of the first parameter, which is the bench.
fn bench(first: Option<&mut FnArg>, paren: Span) -> Result<Ident> {
    const WANTED: &str = "the first parameter of an experiment is the bench: `bench: &Bench`";
    let typed = match first {
        None => return Err(Error::new(paren, WANTED)),
        Some(input) => typed(input)?,
    };
    let is_bench = match &*typed.ty {
        Type::Reference(reference) if reference.mutability.is_none() && reference.lifetime.is_none() => {
            matches!(&*reference.elem, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Bench"))
        }
        _ => false,
    };
    if is_bench { name(&typed.pat) } else { Err(Error::new(typed.ty.span(), WANTED)) }
}

/// A parameter that is not `self`.
fn typed(input: &mut FnArg) -> Result<&mut PatType> {
    match input {
        FnArg::Typed(typed) => Ok(typed),
        FnArg::Receiver(receiver) => Err(Error::new(
            receiver.span(),
            "an experiment is a function and no method: what it needs of `self` are arguments, so that they are recorded",
        )),
    }
}

/// The name of a parameter.
fn name(pattern: &Pat) -> Result<Ident> {
    match pattern {
        Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => Ok(name.ident.clone()),
        other => Err(Error::new(other.span(), "a parameter of an experiment has a name: it is recorded under it")),
    }
}

impl Argument {
    fn of(input: &mut FnArg) -> Result<Self> {
        let typed = typed(input)?;
        let name = name(&typed.pat)?;
        let of_schema = |attr: &Attribute| attr.path().is_ident("doc") || attr.path().is_ident("schemars");
        let (attributes, others) = std::mem::take(&mut typed.attrs).into_iter().partition(of_schema);
        typed.attrs = others;
        let given = (*typed.ty).clone();
        if has_impl(&given) {
            return Err(Error::new(given.span(), "an argument is recorded, so its type has a name: no `impl Trait`"));
        }
        let borrowed = match &given {
            Type::Reference(reference) if reference.mutability.is_some() => {
                let why = "an argument is recorded as it was given, so it is not `&mut`: take it by value or by `&`";
                return Err(Error::new(given.span(), why));
            }
            Type::Reference(reference) if reference.lifetime.is_none() => Some((*reference.elem).clone()),
            _ => None,
        };
        if let Some(span) = first_reference(borrowed.as_ref().unwrap_or(&given).to_token_stream()) {
            let why = "an argument is read back from JSON, so it owns what it is made of; only the whole of it may be \
                       taken by a plain `&`: `&str`, `&[String]`";
            return Err(Error::new(span, why));
        }
        Ok(Self { name, given, borrowed, attributes })
    }

    /// Its name as it is recorded.
    pub(crate) fn recorded(&self) -> String {
        use syn::ext::IdentExt as _;
        self.name.unraw().to_string()
    }

    /// The argument by reference.
    pub(crate) fn recorded_of(&self) -> TokenStream {
        let name = &self.name;
        if self.borrowed.is_some() { name.to_token_stream() } else { quote!(&#name) }
    }

    /// The type that is read back from JSON.
    pub(crate) fn owned(&self) -> TokenStream {
        match &self.borrowed {
            Some(borrowed) => quote!(<#borrowed as ::std::borrow::ToOwned>::Owned),
            None => self.given.to_token_stream(),
        }
    }
}

/// Whether a type has no name.
fn has_impl(given: &Type) -> bool {
    find(given.to_token_stream(), &|token| matches!(token, TokenTree::Ident(word) if word == "impl")).is_some()
}

/// Where a reference or a lifetime stands first in a type.
fn first_reference(given: TokenStream) -> Option<Span> {
    find(given, &|token| matches!(token, TokenTree::Punct(punct) if matches!(punct.as_char(), '&' | '\'')))
}

fn find(tokens: TokenStream, is_wanted: &dyn Fn(&TokenTree) -> bool) -> Option<Span> {
    tokens.into_iter().find_map(|token| match &token {
        TokenTree::Group(group) => find(group.stream(), is_wanted),
        token => is_wanted(token).then(|| token.span()),
    })
}
